package testkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/shared/postgres"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
)

const (
	// poolSize keeps one test from eating the server's connections: parallel tests share a server.
	poolSize = 8
	// setupTimeout bounds the first start of a server on a busy machine (initdb took 1.2 s on an idle one).
	setupTimeout = 2 * time.Minute

	templatePrefix = "souk_template_"
	clonePrefix    = "souk_test_"
)

// Postgres gives the test a database of its own with sets applied, and closes its pool when the test ends. The
// database is dropped then, too; a failed test leaves it to look at, until the next test process starts.
//
// The first caller with these sets migrates a template; everyone else clones it (about 60 ms), so every test may be
// parallel. Without a server, and without the programs to start one, the test fails.
func Postgres(t testing.TB, sets ...postgres.MigrationSet) *gorm.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()

	b, err := basePostgres()
	if err != nil {
		t.Fatalf("no PostgreSQL for this test: %v\nRun `make test`, which starts one, or set TEST_POSTGRES_URL.", err)
	}
	name, err := b.clone(ctx, sets)
	if err != nil {
		t.Fatalf("make a test database: %v", err)
	}
	db, err := postgres.Open(postgres.Config{URL: b.url(name), MaxConns: poolSize})
	if err != nil {
		t.Fatalf("open the test database: %v", err)
	}
	t.Cleanup(func() {
		if err := postgres.Close(db); err != nil {
			t.Errorf("close the test database: %v", err)
		}
		if t.Failed() {
			t.Logf("the database of this failed test is kept: %s", name)
			return
		}
		if err := b.drop(name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	return db
}

// base is the server on which this process makes its test databases.
type base struct {
	admin  url.URL
	server *PostgresServer // the private one, nil if it came from the environment
	// token names this process in the names of its databases. An advisory lock on it, held by conn for the life of
	// the process, tells the others that those databases are in use.
	token int32

	mu     sync.Mutex // one statement at a time on conn
	conn   *pgx.Conn
	clones int
}

// basePostgres finds or starts the server, once per process.
var basePostgres = sync.OnceValues(func() (*base, error) { //nolint:gochecknoglobals // one per process
	// Not the first caller's context: the server serves the whole process.
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout) //nolint:forbidigo // see above
	defer cancel()
	if address := os.Getenv("TEST_POSTGRES_URL"); address != "" {
		return openBase(ctx, address)
	}
	server, err := StartPostgres(ctx, PostgresConfig{FsyncOff: true})
	if err != nil {
		return nil, err
	}
	b, err := openBase(ctx, server.AdminURL("postgres"))
	if err != nil {
		return nil, errors.Join(err, server.Stop(ctx))
	}
	b.server = server
	return b, nil
})

func openBase(ctx context.Context, address string) (*base, error) {
	admin, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("TEST_POSTGRES_URL is not a URL") // its text may hold a password
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return nil, err
	}
	b := &base{admin: *admin, token: rand.Int32(), conn: conn}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockClone, b.token); err != nil {
		return nil, fmt.Errorf("claim the name of this process: %w", err)
	}
	if err := b.dropStale(ctx); err != nil {
		return nil, fmt.Errorf("drop old test databases: %w", err)
	}
	return b, nil
}

// The first of the two numbers of our advisory locks; the second is a process's token or a template's hash.
const (
	lockClone    = 0x736f756b // "souk"
	lockTemplate = lockClone + 1
)

// url of one of the server's databases.
func (b *base) url(database string) string {
	u := b.admin
	u.Path = "/" + database
	return u.String()
}

// dropStale drops the databases of processes that are gone.
func (b *base) dropStale(ctx context.Context) error {
	rows, err := b.conn.Query(ctx, "SELECT datname FROM pg_database WHERE datname LIKE $1", clonePrefix+"%")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		token, _, _ := strings.Cut(strings.TrimPrefix(name, clonePrefix), "_")
		key, err := strconv.ParseInt(token, 16, 32)
		if err != nil || int32(key) == b.token {
			continue
		}
		var gone bool
		if err := b.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockClone, int32(key)).Scan(&gone); err != nil {
			return err
		}
		if !gone {
			continue
		}
		if _, err := b.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
			return err
		}
		if _, err := b.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", lockClone, int32(key)); err != nil {
			return err
		}
	}
	return nil
}

// clone makes a database from the template of sets and returns its name.
func (b *base) clone(ctx context.Context, sets []postgres.MigrationSet) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	template, err := b.template(ctx, sets)
	if err != nil {
		return "", err
	}
	b.clones++
	name := fmt.Sprintf("%s%08x_%d", clonePrefix, b.token, b.clones)
	return name, b.create(ctx, name, template)
}

// create copies template into a new database. Copying files beats logging every page for small databases (61 ms
// against 120), but only PostgreSQL 15 and later lets us choose; before that it is the only way.
func (b *base) create(ctx context.Context, name, template string) error {
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	version, err := strconv.ParseFloat(strings.Fields(b.conn.PgConn().ParameterStatus("server_version") + " 0")[0], 64)
	if err == nil && version >= 15 {
		statement += " STRATEGY FILE_COPY"
	}
	if _, err := b.conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("clone %s: %w", template, err)
	}
	return nil
}

// drop removes one of this process's databases.
func (b *base) drop(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// The test's own context is over by the time its cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout) //nolint:forbidigo // see above
	defer cancel()
	_, err := b.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}

// template returns the database with sets applied, making it if need be. Other processes may want the same one, so
// an advisory lock guards it; only a finished one is marked as a template, and a half-made one is made again.
func (b *base) template(ctx context.Context, sets []postgres.MigrationSet) (string, error) {
	if len(sets) == 0 {
		return "template0", nil
	}
	sum, err := hashSets(sets)
	if err != nil {
		return "", err
	}
	name := templatePrefix + hex.EncodeToString(sum[:10])
	key := int32(sum[0])<<16 | int32(sum[1])<<8 | int32(sum[2]) // a collision would only make two templates wait
	if _, err := b.conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockTemplate, key); err != nil {
		return "", fmt.Errorf("lock template %s: %w", name, err)
	}
	err = b.makeTemplate(ctx, name, sets)
	if _, unlockErr := b.conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1, $2)", lockTemplate, key); unlockErr != nil {
		err = errors.Join(err, fmt.Errorf("unlock template %s: %w", name, unlockErr))
	}
	return name, err
}

func (b *base) makeTemplate(ctx context.Context, name string, sets []postgres.MigrationSet) error {
	var finished bool
	err := b.conn.QueryRow(ctx, "SELECT datistemplate FROM pg_database WHERE datname = $1", name).Scan(&finished)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return fmt.Errorf("look for template %s: %w", name, err)
	case finished:
		return nil
	}
	quoted := pgx.Identifier{name}.Sanitize()
	if _, err := b.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quoted+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop half-made template: %w", err)
	}
	if _, err := b.conn.Exec(ctx, "CREATE DATABASE "+quoted+" TEMPLATE template0"); err != nil {
		return fmt.Errorf("create template: %w", err)
	}
	if err := migrate(ctx, b.url(name), sets); err != nil {
		return err
	}
	if _, err := b.conn.Exec(ctx, "ALTER DATABASE "+quoted+" WITH IS_TEMPLATE true"); err != nil {
		return fmt.Errorf("finish template: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, address string, sets []postgres.MigrationSet) (err error) {
	db, err := postgres.Open(postgres.Config{URL: address})
	if err != nil {
		return fmt.Errorf("open template: %w", err)
	}
	defer func() { err = errors.Join(err, postgres.Close(db)) }() // a template with a connection on it cannot be cloned
	return postgres.Migrate(ctx, db, sets...)
}

// hashSets names the schema that sets make: same names and same files, same hash.
func hashSets(sets []postgres.MigrationSet) ([sha256.Size]byte, error) {
	h := sha256.New()
	for _, set := range sets {
		fmt.Fprintf(h, "set %q\n", set.Name)
		err := fs.WalkDir(set.FS, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			b, err := fs.ReadFile(set.FS, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "file %q %d\n", path, len(b))
			h.Write(b)
			return nil
		})
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("read migrations of %s: %w", set.Name, err)
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
