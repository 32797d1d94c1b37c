// Package postgres is a service's door to its own database: it opens GORM on pgx, runs a function in a transaction, maps
// the driver's errors to faults, and brings the schema up to date from embedded SQL.
//
// Nothing else in the shop opens a transaction or looks at an SQLSTATE.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"souk/shared/fault"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// Config says which database, and how much of it to use.
type Config struct {
	URL      string // postgres://user:password@host:port/database
	MaxConns int    // zero is 10: a two-core server gains nothing from more, and several services share one
	// Metrics receives those of the pool and of the statements; nil has none.
	Metrics prometheus.Registerer
}

const (
	defaultMaxConns = 10
	lockTimeout     = "3s"             // who waits longer for a row is told it is busy; a request may last 10 s
	idleTimeout     = "15s"            // of a transaction: nobody works on it any more, and its locks are others' way
	randomPageCost  = "1.1"            // what we read by key is in memory, or on a disk without a head to move
	connLife        = 30 * time.Minute // so that a server moved behind a name is found again
	connIdle        = 5 * time.Minute

	identifierBytes = 63 // PostgreSQL cuts longer names
)

// Open makes a handle on the database. It does not connect: the first use does, and so does Ping.
func Open(cfg Config) (*gorm.DB, error) {
	conf, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("the database URL cannot be read") // the parser's own text may show the password
	}
	conf.RuntimeParams["timezone"] = "UTC"
	conf.RuntimeParams["lock_timeout"] = lockTimeout
	conf.RuntimeParams["idle_in_transaction_session_timeout"] = idleTimeout
	conf.RuntimeParams["random_page_cost"] = randomPageCost
	conf.Tracer = newObserver(cfg.Metrics)
	pool := stdlib.OpenDB(*conf, stdlib.OptionAfterConnect(inUTC))
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(collectors.NewDBStatsCollector(pool, conf.Database))
	}
	n := cfg.MaxConns
	if n == 0 {
		n = defaultMaxConns
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	pool.SetConnMaxLifetime(connLife)
	pool.SetConnMaxIdleTime(connIdle)

	db, err := gorm.Open(dialector{postgres.New(postgres.Config{Conn: pool})}, &gorm.Config{
		TranslateError:         true, // by our dialector: every error of every query has its kind
		SkipDefaultTransaction: true, // InTx is the only transaction
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard, // an error is returned, and logged once where it is handled
		// A field GID is the column gid; GORM, which knows the initialism ID and not GID, would look for g_id, find
		// none, and leave the field empty without a word.
		NamingStrategy: schema.NamingStrategy{IdentifierMaxLength: identifierBytes, NameReplacer: strings.NewReplacer("GID", "Gid")},
		NowFunc:        func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	})
	if err != nil {
		return nil, err
	}
	// Raw(…).Scan is the one path on which GORM does not ask the dialector.
	err = db.Callback().Row().After("gorm:row").Register("souk:kind", func(tx *gorm.DB) { tx.Error = withKind(tx.Error) })
	return db, err
}

// inUTC makes every time that conn reads one in UTC, and not in the zone of the machine.
func inUTC(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	return nil
}

// dialector is GORM's own for PostgreSQL, but for what it makes of the driver's errors.
type dialector struct{ gorm.Dialector }

// Translate is called by GORM for every error of every query, in a transaction or not.
func (d dialector) Translate(err error) error {
	if t, ok := d.Dialector.(gorm.ErrorTranslator); ok {
		err = t.Translate(err)
	}
	return withKind(err)
}

// Ping reports whether the database answers.
func Ping(ctx context.Context, db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return asFault(ctx, pool.PingContext(ctx))
}

// Close closes the pool of db.
func Close(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

// tries is how often InTx runs a closure that loses to another transaction. Row locks taken in a fixed order make losing
// rare; three tries cover a coincidence, and a fourth would only add load to a fight.
const tries = 3

// InTx runs do in one transaction, committed if do returns nil and rolled back otherwise. A transaction that Postgres
// ended for a deadlock or a serialization failure is run again, so do must have no effect but through tx.
//
// Every query of do goes through tx. Of the driver's errors, a lost connection comes back as Unavailable, a time limit
// as Deadline, a lock not had in time as Conflict with code busy; a commit whose answer was lost is Unavailable too: the
// caller cannot know, and an idempotency key or a transaction id lets it ask again.
func InTx(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	return untilWon(ctx, func() error { return inPipeline(ctx, db, do) })
}

// Alone makes one statement, without a transaction around it, on the shortest way: one round trip, and nobody between us and
// the driver. It reads the rows, if there are any, as Collect does. Otherwise it is like InTx.
func Alone[T any](ctx context.Context, db *gorm.DB, query string, args ...any) (rows []T, err error) {
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	once := func() error {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // it goes back to the pool
		return raw(conn, func(c *pgx.Conn) error {
			found, err := c.Query(ctx, query, args...)
			if err == nil {
				rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[T])
			}
			return err
		})
	}
	err = untilWon(ctx, func() error {
		err := once()
		for try := 1; try < tries && pgconn.SafeToRetry(err); try++ { // a connection that had died in the pool
			err = once()
		}
		return err
	})
	return rows, err
}

func untilWon(ctx context.Context, do func() error) error {
	var err error
	for try := range tries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return asFault(ctx, err)
			case <-time.After(rand.N(20 * time.Millisecond << try)):
			}
		}
		if err = do(); !lostToAnother(err) {
			break
		}
	}
	return asFault(ctx, err)
}

// InLazyTx is InTx, but its commit does not wait for the disk. A crash of the server may lose it, never tear it; use it
// only for what something else will do again.
func InLazyTx(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	return InTx(ctx, db, func(tx *gorm.DB) error {
		// Not SET LOCAL, which wants to see BEGIN.
		if err := Put(tx, "SELECT set_config('synchronous_commit', 'off', true)"); err != nil {
			return err
		}
		return do(tx)
	})
}

// Found is the error of a statement that is to have read, or changed, some row: missing where it did not.
func Found(res *gorm.DB, missing error) error {
	if res.Error == nil && res.RowsAffected == 0 {
		return missing
	}
	return res.Error
}

// Busy reports whether err is the database's: a statement that gave up waiting for another transaction, or a transaction
// that lost to another. A fault that a service calls busy itself is not.
func Busy(err error) bool { return state(err) == lockNotAvailable || lostToAnother(err) }

// SQLSTATEs that mean something to us (PostgreSQL manual, appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	idleInTransaction    = "25P03" // the session that comes back to it has ended
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	cannotConnectNow     = "57P03"
	tooManyConnections   = "53300"
	invalidText          = "22021" // a NUL, or bytes that are not UTF-8
)

func lostToAnother(err error) bool {
	s := state(err)
	return s == serializationFailure || s == deadlockDetected
}

func state(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// asFault is withKind for an error that came from a transaction: a deadline inside one can surface as "already committed
// or rolled back"; the context knows better.
func asFault(ctx context.Context, err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	if ctx.Err() != nil {
		return late(errors.Join(ctx.Err(), err))
	}
	return withKind(err)
}

// withKind gives a driver's error its kind. An error that has one, or that an operation tells apart itself (record not
// found, duplicated key), passes unchanged.
func withKind(err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	switch state(err) {
	case lockNotAvailable, serializationFailure, deadlockDetected:
		return fault.New(fault.Conflict, "busy", "others are changing the same thing; try again").Because(err)
	case queryCanceled:
		return late(err)
	case idleInTransaction, adminShutdown, crashShutdown, cannotConnectNow, tooManyConnections:
		return away(err)
	case invalidText:
		return fault.New(fault.Invalid, "invalid_text", "a text has characters in it that cannot be kept, such as NUL").Because(err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return late(err)
	}
	var network net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &network) || errors.As(err, &connect) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) ||
		pgconn.SafeToRetry(err) || closed(err) {
		return away(err)
	}
	return err
}

func late(cause error) error {
	return fault.New(fault.Deadline, "", "the database did not answer in time").Because(cause)
}

func away(cause error) error {
	return fault.New(fault.Unavailable, "", "the database is not available").Because(cause)
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
