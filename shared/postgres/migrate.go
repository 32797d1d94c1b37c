package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"souk/shared/fault"

	"github.com/pressly/goose/v3"
	"gorm.io/gorm"
)

// MigrationSet is a sequence of goose SQL files that changes one part of a schema. Each set counts its versions in a
// table of its own, schema_<Name>, so a service's database is made of several sets side by side. It is an alias of a plain
// struct, as migrations.Set is: the two modules do not know each other, and yet mean the same.
type MigrationSet = struct {
	Name string
	FS   fs.FS
}

// migrationLock is the advisory lock under which a database is migrated: instances that start together take turns.
const migrationLock = 0x536f756b // "Souk"; any number that nothing else in the database locks

// Migrate brings the database up to the last version of every set. It is safe to run from several instances at once.
func Migrate(ctx context.Context, db *gorm.DB, sets ...MigrationSet) (err error) {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return asFault(ctx, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// However long another instance takes, we wait: lock_timeout is for requests.
	if _, err := conn.ExecContext(ctx, "SET lock_timeout TO 0"); err != nil {
		return asFault(ctx, err)
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return asFault(ctx, err)
	}
	defer func() {
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
		_, reset := conn.ExecContext(context.WithoutCancel(ctx), "RESET lock_timeout")
		err = errors.Join(err, unlock, reset)
	}()
	for _, set := range sets {
		if err := up(ctx, pool, set); err != nil {
			return fmt.Errorf("migrate %s: %w", set.Name, asFault(ctx, err))
		}
	}
	return nil
}

func up(ctx context.Context, pool *sql.DB, set MigrationSet) error {
	p, err := provider(pool, set)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func provider(pool *sql.DB, set MigrationSet) (*goose.Provider, error) {
	return goose.NewProvider(goose.DialectPostgres, pool, set.FS, goose.WithTableName("schema_"+set.Name), goose.WithDisableGlobalRegistry(true))
}

// Migrated reports whether somebody has brought the database up to the last version of every set, or further: a later
// version suits us, too. It changes nothing. The error is Unavailable with code schema_behind while it has not happened.
func Migrated(ctx context.Context, db *gorm.DB, sets ...MigrationSet) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	for _, set := range sets {
		p, err := provider(pool, set)
		if err != nil {
			return fmt.Errorf("read the migrations of %s: %w", set.Name, err)
		}
		sources := p.ListSources()
		want := sources[len(sources)-1].Version
		// Not asked of goose, which would make the table in which it counts.
		var there bool
		table := "schema_" + set.Name
		if err := pool.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&there); err != nil {
			return asFault(ctx, err)
		}
		var got int64
		if there {
			if err := pool.QueryRowContext(ctx, "SELECT COALESCE(max(version_id), 0) FROM "+table).Scan(&got); err != nil {
				return asFault(ctx, err)
			}
		}
		if got < want {
			return fault.New(fault.Unavailable, "schema_behind", "the schema of %s is at version %d, and %d is needed", set.Name, got, want)
		}
	}
	return nil
}
