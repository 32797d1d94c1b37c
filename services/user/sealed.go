package user

import (
	"context"
	"errors"
	"fmt"
	"time"

	"souk/services/user/provider"
	"souk/shared/contract/user"
	"souk/shared/idempotency"
	"souk/shared/seal"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// sealed is what the service keeps sealed: who people are, where they live, and the answers that tell of it. Rows carry it
// closed, and only what is shown to somebody is opened.
type sealed struct {
	email, name *seal.Column[string]
	byEmail     *seal.Index // of the form of an address in which it is compared: see normalEmail
	address     *seal.Column[home]
	answers     *seal.Column[[]byte]
	person      *seal.Column[provider.Person] // of a sign-in under way
	signing     *seal.Column[[]byte]          // a private key, PKCS #8
}

func declareSealed(keys *seal.Keys) sealed {
	return sealed{
		email:   seal.NewColumn[string](keys, seal.Place{Domain: "person", Table: "account", Column: "sealed_email"}),
		name:    seal.NewColumn[string](keys, seal.Place{Domain: "person", Table: "account", Column: "sealed_name"}),
		byEmail: seal.NewIndex(keys, "account", "email"),
		address: seal.NewColumn[home](keys, seal.Place{Domain: "address", Table: "address", Column: "sealed"}),
		answers: idempotency.Sealed(keys),
		person:  seal.NewColumn[provider.Person](keys, seal.Place{Domain: "person", Table: "sign_in", Column: "person", Key: "digest", Brief: true}),
		signing: seal.NewColumn[[]byte](keys, seal.Place{Domain: "signing", Table: "signing_key", Column: "sealed_key", Key: "kid"}),
	}
}

// Sealed declares what the service keeps sealed, for who looks after its keys.
func Sealed(keys *seal.Keys) { declareSealed(keys) }

// show is the account as people see it.
func (s *sealed) show(ctx context.Context, a account) (user.User, error) {
	email, err1 := s.email.Open(ctx, a.ID.String(), a.SealedEmail)
	name, err2 := s.name.Open(ctx, a.ID.String(), a.SealedName)
	return user.User{
		ID: a.ID, Email: email, DisplayName: name, Roles: a.roles(), Disabled: a.State == disabled, CreatedAt: a.CreatedAt,
	}, errors.Join(err1, err2)
}

// sealPlain seals what was stored before there was anything to seal it with. It may be interrupted, and be done by several
// instances at once.
func (s *sealed) sealPlain(ctx context.Context, db *gorm.DB) error {
	db = db.WithContext(ctx)
	err := eachPlain(db, "SELECT id, email, display_name FROM account WHERE email IS NOT NULL", func(r plainAccount) error {
		id := r.ID.String()
		return db.Exec(`UPDATE account SET sealed_email = ?, sealed_name = ?, email_index = ?, email = NULL, display_name = NULL
			WHERE id = ? AND email = ? AND display_name = ?`,
			s.email.Seal(id, r.Email), s.name.Seal(id, r.DisplayName), s.byEmail.Of(r.Email), r.ID, r.Email, r.DisplayName).Error
	})
	if err != nil {
		return fmt.Errorf("seal accounts: %w", err)
	}
	err = eachPlain(db, `SELECT id, label, recipient, line1, line2, city, region, postal_code, country, phone, updated_at FROM address
		WHERE sealed IS NULL`, func(r plainAddress) error {
		return db.Exec(`UPDATE address SET sealed = ?, label = NULL, recipient = NULL, line1 = NULL, line2 = NULL, city = NULL,
			region = NULL, postal_code = NULL, country = NULL, phone = NULL WHERE id = ? AND updated_at = ?`,
			s.address.Seal(r.ID.String(), r.Home), r.ID, r.UpdatedAt).Error
	})
	if err != nil {
		return fmt.Errorf("seal addresses: %w", err)
	}
	if err := s.sealKeys(db); err != nil {
		return fmt.Errorf("seal signing keys: %w", err)
	}
	return nil
}

// sealKeys seals the signing keys that are plain still. They are few, and kids are no ids: eachPlain is not for them.
func (s *sealed) sealKeys(db *gorm.DB) error {
	var rows []struct {
		Kid        string
		PrivateKey []byte
	}
	if err := db.Raw("SELECT kid, private_key FROM signing_key WHERE private_key IS NOT NULL").Scan(&rows).Error; err != nil {
		return err
	}
	for _, r := range rows {
		err := db.Exec("UPDATE signing_key SET sealed_key = ?, private_key = NULL WHERE kid = ? AND private_key IS NOT NULL",
			s.signing.Seal(r.Kid, r.PrivateKey), r.Kid).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// plainAccount is what is still plain of an account.
type plainAccount struct {
	ID                 uuid.UUID
	Email, DisplayName string
}

// plainAddress is an address that is still plain.
type plainAddress struct {
	ID        uuid.UUID
	UpdatedAt time.Time
	Home      home `gorm:"embedded"`
}

// eachPlain calls do with the rows of query, a few hundred at a time, until there are none: do is to take each out of it.
func eachPlain[Row any](db *gorm.DB, query string, do func(Row) error) error {
	for {
		var rows []Row
		if err := db.Raw(query + " ORDER BY id LIMIT 500").Scan(&rows).Error; err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			if err := do(r); err != nil {
				return err
			}
		}
	}
}
