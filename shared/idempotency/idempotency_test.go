package idempotency_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/postgres"
	"souk/shared/testkit"

	"gorm.io/gorm"
)

type answer struct {
	Location string
	Body     int
}

func setup(t *testing.T) *gorm.DB {
	t.Helper()
	return testkit.Postgres(t, testkit.Migrations(t, "idempotency"), postgres.MigrationSet{Name: "effect", FS: fstest.MapFS{
		"00001_effect.sql": {Data: []byte("-- +goose Up\nCREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY);\n-- +goose Down\nDROP TABLE effect;")},
	}})
}

func request(ctx context.Context, key, body string) context.Context {
	return idempotency.With(ctx, idempotency.NewRequest("ann", "make", key, []byte(body)))
}

// once makes one effect and answers with its number.
func once(ctx context.Context, db *gorm.DB) (*answer, error) {
	return idempotency.Once(ctx, db, func(tx *gorm.DB) (*answer, error) {
		a := &answer{Location: "/things"}
		return a, tx.Raw("INSERT INTO effect DEFAULT VALUES RETURNING n").Scan(&a.Body).Error
	})
}

func effects(t *testing.T, db *gorm.DB) (n int) {
	t.Helper()
	if err := db.Raw("SELECT count(*) FROM effect").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnce_aRepetitionGetsTheStoredAnswer(t *testing.T) {
	t.Parallel()
	db := setup(t)
	first, err := once(request(t.Context(), "k", "body"), db)
	if err != nil {
		t.Fatal(err)
	}
	again, err := once(request(t.Context(), "k", "body"), db)
	if err != nil || *again != *first {
		t.Errorf("got %v, %v, want %v", again, err, first)
	}
	if _, err := once(request(t.Context(), "k", "other"), db); !fault.HasCode(err, "idempotency_key_reused") || !fault.Is(err, fault.Invalid) {
		t.Errorf("another body: %v", err)
	}
	if other, err := once(request(t.Context(), "k2", "body"), db); err != nil || other.Body == first.Body {
		t.Errorf("another key: %v, %v", other, err)
	}
	if n := effects(t, db); n != 2 {
		t.Errorf("%d effects, want 2", n)
	}
}

func TestOnce_manyAtOnceHaveOneEffect(t *testing.T) {
	t.Parallel()
	db := setup(t)
	var wg sync.WaitGroup
	answers := make(chan answer, 20)
	for range 20 {
		wg.Go(func() {
			if a, err := once(request(t.Context(), "k", "body"), db); err != nil {
				t.Error(err)
			} else {
				answers <- *a
			}
		})
	}
	wg.Wait()
	close(answers)
	for a := range answers {
		if a != (answer{"/things", 1}) {
			t.Errorf("got %v", a)
		}
	}
	if n := effects(t, db); n != 1 {
		t.Errorf("%d effects, want 1", n)
	}
}

func TestOnce_aRefusalStoresNothing(t *testing.T) {
	t.Parallel()
	db := setup(t)
	ctx := request(t.Context(), "k", "body")
	_, err := idempotency.Once(ctx, db, func(*gorm.DB) (*answer, error) { return nil, fault.New(fault.Conflict, "no", "no") })
	if !fault.HasCode(err, "no") {
		t.Fatal(err)
	}
	if a, err := once(ctx, db); err != nil || a.Body != 1 {
		t.Errorf("got %v, %v", a, err)
	}
}

func TestSteps_everybodyGetsTheFirstFinalAnswer(t *testing.T) {
	t.Parallel()
	db := setup(t)
	ctx := request(t.Context(), "k", "body")
	var ran atomic.Int64
	steps := func(final bool) (*answer, error) {
		return idempotency.Steps(ctx, db, func(r idempotency.Request) (*answer, bool, error) {
			if again, _ := idempotency.From(ctx); r.ID("a") != again.ID("a") || r.ID("a") == r.ID("b") {
				t.Error("names are not stable")
			}
			return &answer{Body: int(ran.Add(1))}, final, nil
		})
	}
	if a, err := steps(false); err != nil || a.Body != 1 {
		t.Fatalf("got %v, %v", a, err)
	}
	var wg sync.WaitGroup
	answers := make(chan answer, 20)
	for range 20 {
		wg.Go(func() {
			if a, err := steps(true); err != nil {
				t.Error(err)
			} else {
				answers <- *a
			}
		})
	}
	wg.Wait()
	close(answers)
	first := <-answers
	for a := range answers {
		if a != first || a.Body == 1 {
			t.Errorf("got %v and %v", first, a)
		}
	}
}

func TestFrom_aRouteThatIsNotKeyedIsABug(t *testing.T) {
	t.Parallel()
	if _, err := once(t.Context(), nil); fault.Of(err).Kind != fault.Internal {
		t.Errorf("got %v", err)
	}
}
