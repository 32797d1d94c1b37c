package user

import (
	"context"
	"time"

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
func Seed(ctx context.Context, db *gorm.DB, passwords Passwords, password string, now time.Time) error {
	if n := len([]rune(password)); n < 10 || n > 128 {
		return fault.New(fault.Invalid, "", "the seed password must have 10 to 128 characters")
	}
	for _, a := range []account{
		{ID: SeedAdmin, Email: "admin@souk.example", DisplayName: "Admin", Roles: string(identity.Admin)},
		{ID: SeedAlice, Email: "alice@souk.example", DisplayName: "Alice", Roles: string(identity.Customer)},
		{ID: SeedBob, Email: "bob@souk.example", DisplayName: "Bob", Roles: string(identity.Customer)},
	} {
		_, err := findAccountByEmail(db.WithContext(ctx), a.Email)
		if err == nil {
			continue // spares the hash; openAccount would change nothing either
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		if a.PasswordHash, err = passwords.Hash(ctx, password); err != nil {
			return err
		}
		a.State, a.CreatedAt = active, now
		err = postgres.InTx(ctx, db, func(tx *gorm.DB) error {
			_, err := openAccount(tx, a, "seed")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
