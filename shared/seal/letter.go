package seal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Letterbox takes what only its service can read, however many others have carried and kept it on the way: HPKE (RFC 9180)
// with X25519, HKDF-SHA256 and AES-256-GCM. It is safe for concurrent use.
type Letterbox struct {
	keys *Keys
	name string
}

// NewLetterbox declares a letterbox of the service that has keys. Call it before keys are loaded.
func NewLetterbox(keys *Keys, name string) *Letterbox {
	l := &Letterbox{keys: keys, name: letters + name}
	keys.wanted[l.name] = hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template()
	return l
}

// Address is what others need to write: the public halves of the keys, as Tink writes them.
func (l *Letterbox) Address() ([]byte, error) {
	s, err := l.keys.set(l.name)
	if err != nil {
		return nil, err
	}
	public, err := s.handle.Public()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = public.WriteWithNoSecrets(keyset.NewBinaryWriter(&b))
	return b.Bytes(), err
}

// Open reads a letter about what it was written about.
func (l *Letterbox) Open(ctx context.Context, about string, letter []byte) (string, error) {
	s, err := l.keys.set(l.name)
	if id, ok := keyID(letter); err == nil && ok && !s.ids[id] {
		s, err = l.keys.newer(ctx, l.name)
	}
	if err != nil {
		return "", err
	}
	text, err := s.open.Decrypt(letter, []byte(about))
	if err != nil {
		return "", fmt.Errorf("open letter about %s: %w", about, err)
	}
	return string(text), nil
}

// Write writes a letter to the letterbox that has that address. It opens only together with what it is about, so it cannot
// be passed off as one about something else.
func Write(address []byte, about, text string) ([]byte, error) {
	public, err := keyset.ReadWithNoSecrets(keyset.NewBinaryReader(bytes.NewReader(address)))
	if err != nil {
		return nil, fmt.Errorf("read address: %w", err)
	}
	to, err := hybrid.NewHybridEncrypt(public)
	if err != nil {
		return nil, fmt.Errorf("read address: %w", err)
	}
	return to.Encrypt([]byte(text), []byte(about))
}
