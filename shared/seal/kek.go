package seal

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// kekBytes is the length of a key-encryption key: AES-256.
const kekBytes = 32

// FileKEK is a key-encryption key that is kept in a file: a line per key, each the base64 of 32 random bytes (openssl rand
// -base64 32). The first one wraps; all of them unwrap, so a new one is put in front, keys rewrap is run, and then the old
// one is taken out. Where there is no file, it is made with a new key, for its owner alone; instances that start together
// agree on one. A file that everybody may read is refused.
//
// A KMS is anything else that is a tink.AEAD, such as those that Tink has for Vault and the clouds.
func FileKEK(path string) (tink.AEAD, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the path is the operator's
	if errors.Is(err, fs.ErrNotExist) {
		b, err = makeKEK(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("key-encryption key: everybody may use %s: chmod o= it", path)
	}
	return parseKEK(b)
}

// makeKEK writes a new key to path, unless another process does so first, and gives what is there then.
func makeKEK(path string) ([]byte, error) {
	key := make([]byte, kekBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	temp, err := os.CreateTemp(dir, ".kek-*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // it has another name by now, or none
	_, err = temp.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return nil, err
	}
	// A link, unlike a rename, takes nobody's place.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // the path is the operator's
}

// several is a key-encryption key and those before it.
type several []tink.AEAD

func parseKEK(text []byte) (several, error) {
	var keys several
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != kekBytes {
			return nil, fmt.Errorf("key-encryption key: line %d is not the base64 of %d bytes", len(keys)+1, kekBytes)
		}
		a, err := subtle.NewAESGCM(key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, a)
	}
	if len(keys) == 0 {
		return nil, errors.New("key-encryption key: the file is empty")
	}
	return keys, nil
}

// Encrypt is part of tink.AEAD.
func (s several) Encrypt(plain, ad []byte) ([]byte, error) { return s[0].Encrypt(plain, ad) }

// Decrypt is part of tink.AEAD.
func (s several) Decrypt(sealed, ad []byte) ([]byte, error) {
	for _, a := range s {
		if plain, err := a.Decrypt(sealed, ad); err == nil {
			return plain, nil
		}
	}
	return nil, errors.New("no key-encryption key opens this")
}
