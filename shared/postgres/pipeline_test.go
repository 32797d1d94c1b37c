package postgres_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/postgres"
	"souk/shared/testkit"

	"gorm.io/gorm"
)

var errMissing = errors.New("nothing was changed")

// things is a table with a row for each of ids.
func things(t *testing.T, ids ...int) *gorm.DB {
	t.Helper()
	db := testkit.Postgres(t)
	if err := db.Exec("CREATE TABLE thing (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)").Error; err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := db.Exec("INSERT INTO thing (id) VALUES (?)", id).Error; err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// counts are the numbers of all things, by id.
func counts(t *testing.T, db *gorm.DB) (n []int) {
	t.Helper()
	if err := db.Raw("SELECT n FROM thing ORDER BY id").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

func add(tx *gorm.DB, id int) error {
	return postgres.Change(tx, errMissing, "UPDATE thing SET n = n + 1 WHERE id = $1", id)
}

func TestInTx_whatIsPutOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(tx *gorm.DB) error
		err  error
		want []int
	}{
		"is done by the end":                                {func(tx *gorm.DB) error { return errors.Join(add(tx, 1), add(tx, 2)) }, nil, []int{1, 1}},
		"is undone with the rest":                           {func(tx *gorm.DB) error { return errors.Join(add(tx, 1), errMissing) }, errMissing, []int{0, 0}},
		"takes everything with it where it changes nothing": {func(tx *gorm.DB) error { return errors.Join(add(tx, 1), add(tx, 3), add(tx, 2)) }, errMissing, []int{0, 0}},
		"may be to find a row, and does not": {func(tx *gorm.DB) error {
			return errors.Join(add(tx, 1), postgres.Change(tx, errMissing, "SELECT FROM thing WHERE id = $1", 3))
		}, errMissing, []int{0, 0}},
		"may be to find a row, and does": {func(tx *gorm.DB) error {
			return errors.Join(add(tx, 1), postgres.Change(tx, errMissing, "SELECT FROM thing WHERE id = $1", 2))
		}, nil, []int{1, 0}},
		"may change nothing where that is allowed": {func(tx *gorm.DB) error {
			return errors.Join(postgres.Put(tx, "UPDATE thing SET n = 9 WHERE id = $1", 3), add(tx, 2))
		}, nil, []int{0, 1}},
		"is done before what cannot wait": {func(tx *gorm.DB) error {
			if err := add(tx, 1); err != nil {
				return err
			}
			return tx.Exec("UPDATE thing SET n = n * 10").Error
		}, nil, []int{10, 0}},
		"is seen by a query": {func(tx *gorm.DB) error {
			if err := add(tx, 1); err != nil {
				return err
			}
			var n int
			if err := tx.Raw("SELECT sum(n) FROM thing").Scan(&n).Error; err != nil || n != 1 {
				return errors.Join(err, errMissing)
			}
			return nil
		}, nil, []int{1, 0}},
		"fails in the end where only a row was asked for": {func(tx *gorm.DB) error {
			if err := errors.Join(add(tx, 1), add(tx, 3)); err != nil {
				return err
			}
			var n int
			return tx.Raw("SELECT 1").Row().Scan(&n)
		}, errMissing, []int{0, 0}},
		"fails the next that cannot wait": {func(tx *gorm.DB) error {
			if err := add(tx, 3); err != nil {
				return err
			}
			return tx.Exec("UPDATE thing SET n = 7").Error
		}, errMissing, []int{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := things(t, 1, 2)
			if err := postgres.InTx(t.Context(), db, c.do); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			if got := counts(t, db); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A commit that fails when everything in it has gone well is no commit, whether the transaction was begun with a statement
// of its own or not.
func TestInTx_hearsThatTheCommitFails(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(tx *gorm.DB) error{
		"in one round trip":   func(tx *gorm.DB) error { return add(tx, 1) },
		"in more than one":    func(tx *gorm.DB) error { return errors.Join(add(tx, 1), postgres.Flush(tx)) },
		"of nothing but that": func(*gorm.DB) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := things(t, 1, 2)
			if err := db.Exec("ALTER TABLE thing ADD twin int DEFAULT 1 REFERENCES thing DEFERRABLE INITIALLY DEFERRED").Error; err != nil {
				t.Fatal(err)
			}
			err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
				return errors.Join(first(tx), postgres.Put(tx, "UPDATE thing SET twin = $1 WHERE id = $2", 7, 2))
			})
			if err == nil {
				t.Error("it was told that it is committed")
			}
			if err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error { return add(tx, 2) }); err != nil {
				t.Error(err)
			}
			if got := counts(t, db); !slices.Equal(got, []int{0, 1}) {
				t.Errorf("got %v, want what came after alone", got)
			}
		})
	}
}

// What a lazy transaction puts off is one transaction, too, and it alone is lazy.
func TestInLazyTx_isLazyByItself(t *testing.T) {
	t.Parallel()
	db := things(t, 1, 2)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	if err := db.Exec("ALTER TABLE thing ADD how text").Error; err != nil {
		t.Fatal(err)
	}
	for id, in := range map[int]func(context.Context, *gorm.DB, func(*gorm.DB) error) error{1: postgres.InLazyTx, 2: postgres.InTx} {
		if err := db.Exec("SET synchronous_commit TO on").Error; err != nil {
			t.Fatal(err)
		}
		err := in(t.Context(), db, func(tx *gorm.DB) error {
			return postgres.Put(tx, "UPDATE thing SET how = current_setting('synchronous_commit') WHERE id = $1", id)
		})
		if err != nil {
			t.Fatal(err)
		}
		var after string
		if err := db.Raw("SHOW synchronous_commit").Scan(&after).Error; err != nil || after != "on" {
			t.Errorf("afterwards it is %q, %v", after, err)
		}
	}
	var how []string
	if err := db.Raw("SELECT how FROM thing ORDER BY id").Scan(&how).Error; err != nil || !slices.Equal(how, []string{"off", "on"}) {
		t.Errorf("got %v, %v", how, err)
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	db := things(t, 1, 2)
	type thing struct{ ID, N int }
	err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
		if err := add(tx, 2); err != nil {
			return err
		}
		rows, err := postgres.Collect[thing](tx, "SELECT id, n FROM thing WHERE id >= $1 ORDER BY id", 1)
		if want := []thing{{1, 0}, {2, 1}}; !slices.Equal(rows, want) {
			t.Errorf("got %v, want %v", rows, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Outside InTx nothing can be put off: nobody would do it.
func TestChange_needsATransaction(t *testing.T) {
	t.Parallel()
	if err := add(things(t, 1), 1); err == nil {
		t.Error("put off, for nobody")
	}
}

// However a transaction ends, its connection goes back with nothing open on it. A pool of one would show it at once.
func TestInTx_leavesNothingOpen(t *testing.T) {
	t.Parallel()
	db := things(t, 1)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)

	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := postgres.InTx(ctx, db, func(tx *gorm.DB) error {
			return errors.Join(add(tx, 1), tx.Exec("SELECT pg_sleep(2)").Error)
		})
		cancel()
		if !fault.Is(err, fault.Deadline) {
			t.Errorf("cut off: %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
				_ = tx.Exec("UPDATE thing SET n = 5").Error
				panic("a bug")
			})
		}()
		if err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error { return tx.Exec("SELECT nonsense").Error }); err == nil {
			t.Error("nonsense was selected")
		}
	}
	if err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error { return add(tx, 1) }); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, db); !slices.Equal(got, []int{1}) {
		t.Errorf("got %v, want 1: what did not end well is undone", got)
	}
}
