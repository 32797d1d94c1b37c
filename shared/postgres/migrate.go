package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

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
	p, err := goose.NewProvider(goose.DialectPostgres, pool, set.FS, goose.WithTableName("schema_"+set.Name), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}
