package payment

import (
	"context"
	"crypto/rand"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/idempotency"
	"souk/shared/postgres"
	"souk/shared/seal"

	"gorm.io/gorm"
)

// Sealed is what the service keeps sealed. Make it with OpenSealed.
type Sealed struct {
	db      *gorm.DB
	secret  *seal.Column[[]byte]
	letters *seal.Letterbox
	answers *seal.Column[[]byte]
}

// DeclareSealed declares what the service keeps sealed, for who looks after its keys.
func DeclareSealed(keys *seal.Keys) { declareSealed(keys) }

func declareSealed(keys *seal.Keys) *Sealed {
	return &Sealed{
		secret:  seal.NewColumn[[]byte](keys, seal.Place{Domain: "provider", Table: "webhook_secret", Column: "sealed", Key: "only_one"}),
		letters: seal.NewLetterbox(keys, "payout"),
		answers: idempotency.Sealed(keys),
	}
}

// OpenSealed loads keys, which are those of db.
func OpenSealed(ctx context.Context, db *gorm.DB, keys *seal.Keys) (*Sealed, error) {
	s := declareSealed(keys)
	s.db = db
	return s, keys.Load(ctx)
}

// theOne is the row of webhook_secret.
const theOne = "true"

// WebhookSecret is the secret that events are signed with: configured, if that is not empty, and else one that the first
// instance to start makes and keeps in the database for all.
func (s *Sealed) WebhookSecret(ctx context.Context, configured string) (secret []byte, err error) {
	if configured != "" {
		return []byte(configured), nil
	}
	fresh := make([]byte, secretBytes)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		err := tx.Exec("INSERT INTO webhook_secret (sealed) VALUES (?) ON CONFLICT DO NOTHING", s.secret.Seal(theOne, fresh)).Error
		if err != nil {
			return err
		}
		var row struct{ Secret, Sealed []byte }
		if err := tx.Raw("SELECT secret, sealed FROM webhook_secret FOR UPDATE").Scan(&row).Error; err != nil {
			return err
		}
		if row.Sealed == nil { // it is from before it was sealed
			secret = row.Secret
			return tx.Exec("UPDATE webhook_secret SET sealed = ?, secret = NULL", s.secret.Seal(theOne, secret)).Error
		}
		secret, err = s.secret.Open(ctx, theOne, row.Sealed)
		return err
	})
	return secret, err
}

// Letterbox gives the public key for what only this service may read.
func (s *Service) Letterbox(context.Context, *contract.None) (*contract.Body[payment.Letterbox], error) {
	address, err := s.sealed.letters.Address()
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.Letterbox]{Body: payment.Letterbox{Address: address}}, nil
}
