package app

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"souk/shared/postgres"
	"souk/shared/testkit"

	"github.com/jackc/pgx/v5/stdlib"
)

var thing = postgres.MigrationSet{Name: "thing", FS: fstest.MapFS{
	"00001_thing.sql": {Data: []byte("-- +goose Up\nCREATE TABLE thing (id int);\n-- +goose Down\nDROP TABLE thing;\n")},
}}

// log is where a process that a test looks at writes its log.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// A service that is told to wait changes no schema, is alive meanwhile, and goes on once somebody has migrated.
func TestMigrate_aServiceWaitsForTheCommand(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"DATABASE_URL": databaseURL(t), "MIGRATE": "wait", "ADMIN_ADDR": "127.0.0.1:0"}
	errServed := errors.New("came as far as serving")
	serve := func(ctx context.Context, a *App) error {
		if _, err := a.Database(ctx, thing); err != nil {
			return err
		}
		return errServed
	}
	var waiting, migrating log
	ended := make(chan int)
	go func() { ended <- run("shop", nil, environment, &waiting, &waiting, serve, nil) }()
	testkit.Eventually(t, 10*time.Second, func() bool { return waiting.contains("the schema of thing is at version 0, and 1 is needed") })

	for range 2 { // the second time there is nothing to do
		if status := run("shop", []string{"migrate"}, environment, &migrating, &migrating, serve, nil); status != 0 {
			t.Fatalf("migrate ended with %d: %s", status, migrating.text.String())
		}
	}
	if <-ended; !waiting.contains(errServed.Error()) {
		t.Errorf("the service said %s", waiting.text.String())
	}
}

func TestMigrate_endsWithAnErrorWhenItCannotBeDone(t *testing.T) {
	t.Parallel()
	broken := postgres.MigrationSet{Name: "broken", FS: fstest.MapFS{"00001_broken.sql": {Data: []byte("-- +goose Up\nCREATE NONSENSE;\n")}}}
	url := databaseURL(t)
	for name, c := range map[string]struct {
		serve func(context.Context, *App) error
		told  string
	}{
		"SQL that the database refuses": {func(ctx context.Context, a *App) error {
			_, err := a.Database(ctx, broken)
			return err
		}, "migrate broken"},
		"a service without a database": {func(ctx context.Context, a *App) error { return a.Serve(ctx) }, "has no database to migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out log
			status := run("shop", []string{"migrate"}, map[string]string{"DATABASE_URL": url}, &out, &out, c.serve, nil)
			if status != 1 || !out.contains(c.told) {
				t.Errorf("ended with %d: %s", status, out.text.String())
			}
		})
	}
}

// databaseURL is that of an empty database.
func databaseURL(t *testing.T) (address string) {
	t.Helper()
	pool, err := testkit.Postgres(t).DB()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(driver any) error {
		address = driver.(*stdlib.Conn).Conn().Config().ConnString() //nolint:forcetypeassert // it is pgx's
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return address
}
