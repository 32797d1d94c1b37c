package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
)

// pipeline is a transaction on a connection of its own. Statements whose results are not needed one by one wait, and go to
// the server in one round trip with the next whose result is: BEGIN always does; and with COMMIT, those that are left at the
// end. Where those are all, the server makes them one transaction unasked. It is the gorm.ConnPool of what InTx runs, for one
// goroutine.
type pipeline struct {
	conn    *sql.Conn
	waiting []waiting
	begun   bool  // the server has seen BEGIN
	failed  error // of what could not be told when it happened
}

// waiting is a statement on its way.
type waiting struct {
	sql     string
	args    []any
	done    func(pgx.BatchResults) error // reads its result
	missing error                        // what it is that the statement changes no row; nil if it need not
}

// errNotInTx is a bug in the caller.
var errNotInTx = errors.New("postgres: this statement needs a transaction of InTx")

// Change puts off a statement, of InTx's tx, that is to change some row: until the next one that cannot wait, Flush, or
// the end of the transaction. That returns missing if it changed none. Parameters in it are $1, $2 and so on, as PostgreSQL
// itself has them.
func Change(tx *gorm.DB, missing error, statement string, args ...any) error {
	changed := func(r pgx.BatchResults) error {
		tag, err := r.Exec()
		if err == nil && tag.RowsAffected() == 0 {
			err = missing
		}
		return err
	}
	return put(tx, waiting{statement, args, changed, missing})
}

// Put is Change for a statement that may change nothing.
func Put(tx *gorm.DB, statement string, args ...any) error {
	return put(tx, waiting{sql: statement, args: args, done: executed})
}

func put(tx *gorm.DB, w waiting) error {
	p, ok := tx.Statement.ConnPool.(*pipeline)
	if !ok {
		return errNotInTx
	}
	p.waiting = append(p.waiting, w)
	return nil
}

// Flush has what Change has put off done now.
func Flush(tx *gorm.DB) error {
	p, ok := tx.Statement.ConnPool.(*pipeline)
	if !ok {
		return errNotInTx
	}
	return p.flush(tx.Statement.Context)
}

// Collect reads the rows of a query of InTx's tx into values of type T, column by column in the order of its fields.
func Collect[T any](tx *gorm.DB, query string, args ...any) (rows []T, err error) {
	err = put(tx, waiting{sql: query, args: args, done: func(r pgx.BatchResults) error {
		found, err := r.Query()
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[T])
		return err
	}})
	if err == nil {
		err = Flush(tx)
	}
	return rows, err
}

// inPipeline runs do in one transaction.
func inPipeline(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) (err error) {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	p := &pipeline{conn: conn}
	p.later("BEGIN", nil, executed)
	committed := false
	defer func() {
		if !committed { // an error, or a panic
			p.rollback(ctx)
		}
		_ = conn.Close() // it goes back to the pool
	}()
	tx := db.Session(&gorm.Session{Context: ctx, NewDB: true})
	tx.Statement.ConnPool = p
	if err := do(tx); err != nil {
		return err
	}
	err = p.commit(ctx)
	committed = err == nil
	return err
}

func executed(r pgx.BatchResults) error {
	_, err := r.Exec()
	return err
}

func (p *pipeline) later(statement string, args []any, done func(pgx.BatchResults) error) {
	p.waiting = append(p.waiting, waiting{sql: statement, args: args, done: done})
}

// flush sends what waits, and returns the first error, be it of a result or of what was made of it.
func (p *pipeline) flush(ctx context.Context) error {
	if len(p.waiting) == 0 || p.failed != nil {
		return p.failed
	}
	batch := new(pgx.Batch)
	for _, w := range p.waiting {
		batch.Queue(w.sql, w.args...)
	}
	all := p.waiting
	p.waiting, p.begun = nil, true
	return raw(p.conn, func(conn *pgx.Conn) error {
		results := conn.SendBatch(ctx, batch)
		var err error
		for _, w := range all {
			if err = w.done(results); err != nil {
				break
			}
		}
		if closing := results.Close(); err == nil {
			err = closing
		}
		return withKind(err)
	})
}

// raw runs do on the driver's connection.
func raw(conn *sql.Conn, do func(conn *pgx.Conn) error) error {
	var err error
	bad := conn.Raw(func(dc any) error {
		c, ok := dc.(*stdlib.Conn)
		if !ok {
			return errNotInTx
		}
		if err = do(c.Conn()); c.Conn().IsClosed() {
			return driver.ErrBadConn // the pool forgets it
		}
		return nil
	})
	if err == nil && bad != nil {
		err = bad
	}
	return err
}

// commit ends the transaction, in one round trip with what still waits. What of that must change a row fails on the server
// where it does not, and COMMIT with it: there is no time to look at it here.
func (p *pipeline) commit(ctx context.Context) error {
	if !p.begun && len(p.waiting) == 1 { // BEGIN, and nothing after it
		return p.failed
	}
	for i, w := range p.waiting {
		if w.missing != nil {
			p.waiting[i].sql, p.waiting[i].done = mustChange(w.sql), func(r pgx.BatchResults) error {
				_, err := r.Exec()
				if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == divisionByZero {
					err = w.missing
				}
				return err
			}
		}
	}
	if !p.begun { // what is sent as one is one transaction; to say so would be two statements more
		p.waiting = p.waiting[1:]
		err := p.flush(ctx)
		p.begun = false // it is over, whatever came of it
		return err
	}
	p.later("COMMIT", nil, func(r pgx.BatchResults) error {
		tag, err := r.Exec()
		if err == nil && tag.String() == "ROLLBACK" { // a statement failed, and nobody heeded it
			err = errors.New("the transaction was rolled back")
		}
		return err
	})
	return p.flush(ctx)
}

const divisionByZero = "22012"

// mustChange makes a statement fail, as a division by zero, that changes, or finds, no row.
func mustChange(statement string) string {
	if !strings.HasPrefix(statement, "SELECT") {
		statement += " RETURNING 1"
	}
	return "WITH changed AS (" + statement + ") SELECT 1 / count(*) FROM changed"
}

// rollback is best effort: a connection that does not go through with it is closed, which has the same effect.
func (p *pipeline) rollback(ctx context.Context) {
	if !p.begun {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	_ = raw(p.conn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "ROLLBACK")
		if err != nil {
			_ = conn.Close(ctx)
		}
		return err
	})
}

const rollbackTime = time.Second

// The rest is gorm.ConnPool: what GORM asks for cannot wait.

// PrepareContext is part of gorm.ConnPool.
func (p *pipeline) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.conn.PrepareContext(ctx, query)
}

// ExecContext is part of gorm.ConnPool.
func (p *pipeline) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	var tag pgconn.CommandTag
	p.later(query, args, func(r pgx.BatchResults) (err error) {
		tag, err = r.Exec()
		return err
	})
	err := p.flush(ctx)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// QueryContext is part of gorm.ConnPool.
func (p *pipeline) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.conn.QueryContext(ctx, query, args...)
}

// QueryRowContext is part of gorm.ConnPool.
func (p *pipeline) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	p.failed = p.flush(ctx) // it cannot be returned here, and must not be forgotten: the end of the transaction tells it
	return p.conn.QueryRowContext(ctx, query, args...)
}
