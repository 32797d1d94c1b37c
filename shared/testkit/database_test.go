package testkit_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/fstest"

	"souk/shared/postgres"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
)

// shelf is a schema of one table with one row.
func shelf() postgres.MigrationSet {
	return postgres.MigrationSet{Name: "shelf", FS: fstest.MapFS{
		"00001_shelf.sql": {Data: []byte("-- +goose Up\nCREATE TABLE shelf (sku text PRIMARY KEY);\nINSERT INTO shelf VALUES ('seeded');\n")},
	}}
}

func TestPostgres_isMigratedAndOnesOwn(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := testkit.Postgres(t, shelf())
			mine := fmt.Sprintf("written by %d", i)
			if err := db.Exec("INSERT INTO shelf VALUES (?)", mine).Error; err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := db.Raw("SELECT sku FROM shelf ORDER BY sku").Scan(&got).Error; err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"seeded", mine}, got); diff != "" {
				t.Errorf("another test's rows are visible, or the migration's are not (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPostgres_withoutSetsIsEmpty(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t)
	var tables int
	if err := db.Raw("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables).Error; err != nil {
		t.Fatal(err)
	}
	if tables != 0 {
		t.Errorf("got %d tables, want none", tables)
	}
}

func TestPostgres_capsItsPool(t *testing.T) {
	t.Parallel()
	pool, err := testkit.Postgres(t).DB()
	if err != nil {
		t.Fatal(err)
	}
	if got := pool.Stats().MaxOpenConnections; got != 8 {
		t.Errorf("got a pool of %d connections, want 8", got)
	}
}

func TestStartPostgres_asksForThePassword(t *testing.T) {
	t.Parallel()
	server, err := testkit.StartPostgres(t.Context(), testkit.PostgresConfig{Password: "secret of this test", FsyncOff: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	for name, tt := range map[string]struct {
		url string
		ok  bool
	}{
		"right": {server.AdminURL("postgres"), true},
		"wrong": {server.URL("postgres", "postgres", "another"), false},
		"none":  {server.URL("postgres", "postgres", ""), false},
	} {
		db, err := postgres.Open(postgres.Config{URL: tt.url})
		if err != nil {
			t.Fatal(err)
		}
		if err := postgres.Ping(t.Context(), db); (err == nil) != tt.ok {
			t.Errorf("%s password: got %v, want success %t", name, err, tt.ok)
		}
		if err := postgres.Close(db); err != nil {
			t.Error(err)
		}
	}
}

func TestStartPostgres_keepsItsDataAcrossAStop(t *testing.T) {
	t.Parallel()
	dir := testkit.ServerDir(t.Name() + t.TempDir())
	cfg := testkit.PostgresConfig{Dir: dir, FsyncOff: true}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	for round, statement := range []string{"CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)"} {
		server, err := testkit.StartPostgres(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		db, err := postgres.Open(postgres.Config{URL: server.AdminURL("postgres")})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Exec(statement).Error; err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := postgres.Close(db); err != nil {
			t.Error(err)
		}
		if err := server.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
