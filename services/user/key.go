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
	"slices"
	"sync/atomic"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/loop"
	"souk/shared/postgres"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"gorm.io/gorm"
)

// How a signing key lives: published as next for a day before it signs, so that whoever verifies has it by then; active for
// thirty days; and retired, which is published still, until the last token that it signed has expired.
//
//	(made) ──▶ next ──a day──▶ active ──thirty days──▶ retired ──▶ (forgotten)
//	                              └──── RevokeKey ────▶ revoked: what it has signed is called back
const (
	keyLife   = 30 * 24 * time.Hour
	keyAhead  = 24 * time.Hour
	keyAfter  = identity.AccessTokenLife + time.Minute // the minute is for clocks that differ
	keysEvery = 5 * time.Second                        // how often each instance looks for what another has changed
)

// keyring is the keys that access tokens are signed and verified with. It never changes once it is made.
type keyring struct {
	active signingKey
	public []user.JWK // of all that a token in use may have been signed with, or soon will be
	byID   map[string]*ecdsa.PublicKey
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

// What a key signs: access tokens, or the ID tokens that other people's programs get, which services must not take.
const (
	forAccess = "access"
	forID     = "id"
)

// TurnKeys moves the signing keys on where it is time to, makes the first ones where there are none, and reads them anew.
func (s *Service) TurnKeys(ctx context.Context) error {
	return errors.Join(s.turnKeys(ctx, forAccess, &s.keys), s.turnKeys(ctx, forID, &s.idKeys))
}

func (s *Service) turnKeys(ctx context.Context, use string, into *atomic.Pointer[keyring]) error {
	var rows []keyRow
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		if rows, err = readKeys(tx, use); err != nil || !due(rows, s.now()) {
			return err
		}
		// One instance at a time; who comes second finds it done.
		if err := tx.Exec("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		if rows, err = readKeys(tx, use); err != nil {
			return err
		}
		if err := s.turn(tx, use, rows, s.now()); err != nil {
			return err
		}
		rows, err = readKeys(tx, use)
		return err
	})
	if err != nil {
		return err
	}
	ring, err := s.newKeyring(ctx, rows)
	if err != nil {
		return err
	}
	if was := into.Swap(&ring); was != nil && was.active.id != ring.active.id {
		s.log.InfoContext(ctx, "tokens are signed with another key", "use", use, "key", ring.active.id)
	}
	return nil
}

// RevokeKey withdraws the key that signs, for when somebody may have it: another signs from now on, and every access token
// of the old one is called back. Their holders refresh them.
func (s *Service) RevokeKey(ctx context.Context) error {
	now := s.now()
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := tx.Exec("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		var kid string
		err := postgres.Found(tx.Raw("UPDATE signing_key SET state = 'revoked', retired_at = ? WHERE state = 'active' AND use = ? RETURNING kid", now, forAccess).Scan(&kid),
			errors.New("no signing key is active"))
		if err != nil {
			return err
		}
		if err := callBackKey(tx, kid, now); err != nil {
			return err
		}
		return s.insertKey(tx, forAccess, "active", now, nil)
	})
	if err != nil {
		return err
	}
	return s.TurnKeys(ctx)
}

type keyRow struct {
	ID        string
	SealedKey []byte
	State     string
	CreatedAt time.Time
	NotBefore *time.Time
	RetiredAt *time.Time
}

// begun is when an active key began to sign.
func (r keyRow) begun() time.Time {
	if r.NotBefore != nil {
		return *r.NotBefore
	}
	return r.CreatedAt
}

func readKeys(tx *gorm.DB, use string) ([]keyRow, error) {
	var rows []keyRow
	err := tx.Raw(`SELECT kid AS id, sealed_key, state, created_at, not_before, retired_at FROM signing_key
		WHERE state <> 'revoked' AND use = ? ORDER BY created_at, kid`, use).Scan(&rows).Error
	return rows, err
}

func (s *Service) insertKey(tx *gorm.DB, use, state string, now time.Time, notBefore *time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	kid := uuid.Must(uuid.NewV7()).String()
	return tx.Exec("INSERT INTO signing_key (kid, sealed_key, use, state, created_at, not_before) VALUES (?, ?, ?, ?, ?, ?)",
		kid, s.sealed.signing.Seal(kid, der), use, state, now, notBefore).Error
}

// inState is the first row in that state.
func inState(rows []keyRow, state string) (keyRow, bool) {
	i := slices.IndexFunc(rows, func(r keyRow) bool { return r.State == state })
	if i < 0 {
		return keyRow{}, false
	}
	return rows[i], true
}

// due reports whether turn would do something.
func due(rows []keyRow, now time.Time) bool {
	active, any := inState(rows, "active")
	next, announced := inState(rows, "next")
	return !any || !announced && now.After(active.begun().Add(keyLife-keyAhead)) || announced && !now.Before(*next.NotBefore) ||
		slices.ContainsFunc(rows, func(r keyRow) bool { return r.forgettable(now) })
}

func (r keyRow) forgettable(now time.Time) bool {
	return r.State == "retired" && r.RetiredAt != nil && now.After(r.RetiredAt.Add(keyAfter))
}

// turn does what is due; the caller has locked the table.
func (s *Service) turn(tx *gorm.DB, use string, rows []keyRow, now time.Time) error {
	active, any := inState(rows, "active")
	next, announced := inState(rows, "next")
	for _, r := range rows {
		if r.forgettable(now) {
			if err := tx.Exec("DELETE FROM signing_key WHERE kid = ?", r.ID).Error; err != nil {
				return err
			}
		}
	}
	switch {
	case !any:
		return s.insertKey(tx, use, "active", now, nil)
	case announced && !now.Before(*next.NotBefore):
		if err := tx.Exec("UPDATE signing_key SET state = 'retired', retired_at = ? WHERE kid = ?", now, active.ID).Error; err != nil {
			return err
		}
		return tx.Exec("UPDATE signing_key SET state = 'active', not_before = ? WHERE kid = ?", now, next.ID).Error
	case !announced && now.After(active.begun().Add(keyLife-keyAhead)):
		from := now.Add(keyAhead)
		return s.insertKey(tx, use, "next", now, &from)
	}
	return nil
}

func (s *Service) newKeyring(ctx context.Context, rows []keyRow) (keyring, error) {
	k := keyring{byID: make(map[string]*ecdsa.PublicKey, len(rows))}
	for _, row := range rows {
		der, err := s.sealed.signing.Open(ctx, row.ID, row.SealedKey)
		if err != nil {
			return keyring{}, fmt.Errorf("open signing key %s: %w", row.ID, err)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
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
	key, ok := s.keys.Load().byID[kid]
	if !ok {
		return nil, errors.New("signed with a key that is not ours")
	}
	return key, nil
}

// Keys publishes the public halves of the keys. Five minutes in a cache are short against the day that a new key is to
// be published before it signs.
func (s *Service) Keys(context.Context, *contract.None) (*user.KeysOutput, error) {
	out := &user.KeysOutput{CacheControl: "public, max-age=300"}
	out.Body.Keys = s.keys.Load().public
	return out, nil
}

// TurnKeysOn moves the signing keys on until ctx ends.
func (s *Service) TurnKeysOn(ctx context.Context) error {
	return loop.Every(ctx, keysEvery, s.log, "turn signing keys", s.TurnKeys)
}
