package postgres_test

import (
	"context"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/postgres"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

func TestOpen_readsTransactionIDsIntoFieldsNamedGID(t *testing.T) {
	t.Parallel()
	want := uuid.New()
	var row struct{ GID, PayGID, UserID uuid.UUID }
	err := testkit.Postgres(t).Raw("SELECT ?::uuid AS gid, ?::uuid AS pay_gid, ?::uuid AS user_id", want, want, want).Scan(&row).Error
	if err != nil || row.GID != want || row.PayGID != want || row.UserID != want {
		t.Errorf("got %v, %v, want %s in every field", row, err, want)
	}
}

// Every way to ask a database that is not there, or that is asked for too long, in a transaction or outside, tells which.
func TestOpen_everyErrorHasItsKind(t *testing.T) {
	t.Parallel()
	away, err := postgres.Open(postgres.Config{URL: "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	here := testkit.Postgres(t)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	type row struct{ N int }
	for _, c := range []struct {
		db   *gorm.DB
		ctx  context.Context //nolint:containedctx // of a case
		kind fault.Kind
	}{{away, t.Context(), fault.Unavailable}, {here, soon, fault.Deadline}} {
		for name, ask := range map[string]func(db *gorm.DB) error{
			"raw scan": func(db *gorm.DB) error { return db.Raw("SELECT 1 AS n FROM pg_sleep(5)").Scan(new(row)).Error },
			"raw row":  func(db *gorm.DB) error { return db.Raw("SELECT 1 FROM pg_sleep(5)").Scan(new(int)).Error },
			"find":     func(db *gorm.DB) error { return db.Table("pg_sleep(5) AS t").Find(new([]row)).Error },
			"take":     func(db *gorm.DB) error { return db.Table("pg_sleep(5) AS t").Take(new(row)).Error },
			"exec":     func(db *gorm.DB) error { return db.Exec("SELECT pg_sleep(5)").Error },
			"in a transaction": func(db *gorm.DB) error {
				return postgres.InTx(c.ctx, db, func(tx *gorm.DB) error { return tx.Exec("SELECT pg_sleep(5)").Error })
			},
		} {
			if err := ask(c.db.WithContext(c.ctx)); !fault.Is(err, c.kind) {
				t.Errorf("%s: got %v, want %s", name, err, c.kind)
			}
		}
	}
}
