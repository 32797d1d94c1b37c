package user

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/postgres"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"gorm.io/gorm"
)

// keyring is the keys that access tokens are signed and verified with. It never changes once it is open.
type keyring struct {
	active signingKey
	public []user.JWK // of all that a token in use may have been signed with, or soon will be
	byID   map[string]*ecdsa.PublicKey
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

// openKeys reads the keys of the database. Where there is none it makes one: instances that start together each offer
// one, and the index that allows a single active key lets the first win, so that all of them read the same.
func openKeys(ctx context.Context, db *gorm.DB, now time.Time) (keyring, error) {
	var rows []keyRow
	err := postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
		if rows, err = readKeys(tx); err != nil || len(rows) > 0 {
			return err
		}
		if err := offerKey(tx, now); err != nil {
			return err
		}
		rows, err = readKeys(tx)
		return err
	})
	if err != nil {
		return keyring{}, err
	}
	return newKeyring(rows)
}

type keyRow struct {
	ID         string
	PrivateKey []byte
	State      string
}

func readKeys(tx *gorm.DB) ([]keyRow, error) {
	var rows []keyRow
	err := tx.Raw("SELECT kid AS id, private_key, state FROM signing_key WHERE state <> 'revoked' ORDER BY created_at, kid").Scan(&rows).Error
	return rows, err
}

func offerKey(tx *gorm.DB, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return tx.Exec("INSERT INTO signing_key (kid, private_key, state, created_at) VALUES (?, ?, 'active', ?) ON CONFLICT DO NOTHING",
		uuid.Must(uuid.NewV7()).String(), postgres.Bytea(der), now).Error
}

func newKeyring(rows []keyRow) (keyring, error) {
	k := keyring{byID: make(map[string]*ecdsa.PublicKey, len(rows))}
	for _, row := range rows {
		parsed, err := x509.ParsePKCS8PrivateKey(row.PrivateKey)
		if err != nil {
			return keyring{}, fmt.Errorf("read signing key %s: %w", row.ID, err)
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return keyring{}, fmt.Errorf("signing key %s is not on P-256", row.ID)
		}
		jwk, err := publicJWK(row.ID, &private.PublicKey)
		if err != nil {
			return keyring{}, fmt.Errorf("publish signing key %s: %w", row.ID, err)
		}
		k.public = append(k.public, jwk)
		k.byID[row.ID] = &private.PublicKey
		if row.State == "active" {
			k.active = signingKey{row.ID, private}
		}
	}
	if k.active.private == nil {
		return keyring{}, errors.New("no signing key is active")
	}
	return k, nil
}

func publicJWK(kid string, key *ecdsa.PublicKey) (user.JWK, error) {
	point, err := key.Bytes() // 4, then both coordinates at full length (SEC 1, 2.3.3)
	if err != nil {
		return user.JWK{}, err
	}
	x, y := point[1:33], point[33:]
	return user.JWK{
		KeyType: "EC", Curve: "P-256", KeyID: kid, Use: "sig", Algorithm: jwt.SigningMethodES256.Alg(),
		X: base64.RawURLEncoding.EncodeToString(x), Y: base64.RawURLEncoding.EncodeToString(y),
	}, nil
}

// Keyfunc finds the key a token says it was signed with: this service verifies with its own keys.
func (s *Service) Keyfunc(t *jwt.Token) (any, error) {
	kid, _ := t.Header["kid"].(string)
	key, ok := s.keys.byID[kid]
	if !ok {
		return nil, errors.New("signed with a key that is not ours")
	}
	return key, nil
}

// Keys publishes the public halves of the keys. Five minutes in a cache are short against the day that a new key is to
// be published before it signs.
func (s *Service) Keys(context.Context, *contract.None) (*user.KeysOutput, error) {
	out := &user.KeysOutput{CacheControl: "public, max-age=300"}
	out.Body.Keys = s.keys.public
	return out, nil
}
