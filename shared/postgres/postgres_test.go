package postgres_test

import (
	"context"
	"errors"
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

// What the server says outside of a transaction has its kind as well.
func TestOpen_everyRefusalOfTheServerHasItsKind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query string
		want  fault.Kind
	}{
		"it ends the statement":            {"SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)", fault.Deadline},
		"it ends the connection":           {"SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)", fault.Unavailable},
		"somebody else has what is wanted": {"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '55P03'; END $$", fault.Conflict},
		"a query that is nonsense: a bug":  {"SELECT nonsense", fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := testkit.Postgres(t).Exec(c.query).Error
			if got := fault.Of(err); got == nil || got.Kind != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestOpen_readsTimesInUTC(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	var row struct {
		At    time.Time
		Maybe *time.Time
	}
	err := testkit.Postgres(t).Raw("SELECT ?::timestamptz AS at, ?::timestamptz AS maybe", want, want).Scan(&row).Error
	if err != nil || row.At != want || row.Maybe == nil || *row.Maybe != want { // == compares the location too
		t.Errorf("got %v and %v, %v, want %v", row.At, row.Maybe, err, want)
	}
}

func TestFound(t *testing.T) {
	t.Parallel()
	missing := errors.New("missing")
	db := testkit.Postgres(t)
	var n int
	for query, want := range map[string]error{"SELECT 1": nil, "SELECT 1 WHERE false": missing} {
		if err := postgres.Found(db.Raw(query).Scan(&n), missing); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", query, err, want)
		}
	}
	if err := postgres.Found(db.Raw("SELECT nonsense").Scan(&n), missing); err == nil || errors.Is(err, missing) {
		t.Errorf("got %v, want the query's own error", err)
	}
}

// A process whose machine is frozen or cut off in the middle of a transaction keeps its connection, and its locks, until
// the server ends them: on the row of a hot product, or of the merchant, they would stop the shop.
func TestOpen_theServerEndsATransactionThatIsAbandoned(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t)
	var limit string
	if err := db.Raw("SHOW idle_in_transaction_session_timeout").Row().Scan(&limit); err != nil {
		t.Fatal(err)
	}
	// Longer than any request may last, and not much: lock_timeout is what others are told meanwhile.
	if d, err := time.ParseDuration(limit); err != nil || d <= 10*time.Second || d > time.Minute {
		t.Errorf("idle_in_transaction_session_timeout is %q", limit)
	}
	err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
		if err := tx.Exec("SET LOCAL idle_in_transaction_session_timeout TO '10ms'").Error; err != nil {
			return err
		}
		testkit.Eventually(t, 5*time.Second, func() bool {
			var n int
			return db.Raw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'").Scan(&n).Error == nil && n == 0
		})
		return tx.Exec("SELECT 1").Error
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("who comes back to it is told %v", err)
	}
}

func TestOpen_textThatCannotBeKeptIsTheCallersFault(t *testing.T) {
	t.Parallel()
	var n int
	if err := testkit.Postgres(t).Raw("SELECT length(?)", "a\x00b").Scan(&n).Error; !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
}
