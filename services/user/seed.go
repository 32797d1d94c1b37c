package user

import (
	"context"

	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// The people of a freshly seeded shop. Their ids never change, so that demonstrations and tests can name them.
//
//nolint:gochecknoglobals // never change
var (
	SeedAdmin = uuid.MustParse("01920000-0000-7000-8000-000000000001") // admin@souk.example
	SeedAlice = uuid.MustParse("01920000-0000-7000-8000-000000000002") // alice@souk.example
	SeedBob   = uuid.MustParse("01920000-0000-7000-8000-000000000003") // bob@souk.example
)

// DefaultSeedPassword is the password of all three where SEED_PASSWORD does not name another. It is in a public
// repository: never seed a shop with it that strangers can reach.
const DefaultSeedPassword = "open-sesame-1001"

// Seed opens an admin's and two customers' accounts, all with the same password. An account that exists, or whose
// address somebody has, stays as it is, so that seeding again never resets a password. Returns Invalid for a password
// that registration would not take.
func (s *Service) Seed(ctx context.Context, password string) error {
	if n := len([]rune(password)); n < 10 || n > 128 {
		return fault.New(fault.Invalid, "", "the seed password must have 10 to 128 characters")
	}
	for _, p := range []struct {
		id    uuid.UUID
		name  string
		email string
		role  identity.Role
	}{
		{SeedAdmin, "Admin", "admin@souk.example", identity.Admin},
		{SeedAlice, "Alice", "alice@souk.example", identity.Customer},
		{SeedBob, "Bob", "bob@souk.example", identity.Customer},
	} {
		_, err := s.sealed.findByEmail(s.db.WithContext(ctx), p.email)
		if err == nil {
			continue // spares the hash; openAccount would change nothing either
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		hash, err := s.passwords.Hash(ctx, password)
		if err != nil {
			return err
		}
		err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
			a := account{ID: p.id, PasswordHash: hash, State: active, Roles: string(p.role), CreatedAt: s.now()}
			_, err := s.sealed.openAccount(tx, a, p.email, p.name, "seed")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
