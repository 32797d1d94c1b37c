// Package idempotency makes the repetition of a request harmless: a POST that creates or moves something carries an
// Idempotency-Key, and the same key with the same request gets the stored answer instead of a second effect.
//
//   - Once is for an effect that is one database transaction: the key, the effect and the answer commit together.
//   - Steps is for an effect that spans services: everything it makes is named after the key (Request.ID), so a
//     repetition after a crash finds what the first try began, and nothing has to be written beforehand.
//
// A refusal stores nothing: nothing happened, and the repetition is judged anew. Keys are kept 24 hours per principal,
// route and key. Neither the key nor the body is stored, only digests: the body's is keyed with the client's key, so
// that a body with a password in it cannot be guessed from the table. A service that keeps things sealed seals its answers.
package idempotency

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"souk/shared/fault"
	"souk/shared/loop"
	"souk/shared/postgres"
	"souk/shared/seal"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Kept is how long an answer is kept for repetitions.
const Kept = 24 * time.Hour

// sweepEvery is short against Kept and long against the cost of one indexed DELETE.
const sweepEvery = 10 * time.Minute

// Request is one keyed request. The zero value is none.
type Request struct {
	id          [sha256.Size]byte    // of principal, route and key
	fingerprint []byte               // of what is asked, keyed with the key
	answers     *seal.Column[[]byte] // nil where they are kept in the clear
}

// Sealed declares answers that are kept sealed.
func Sealed(keys *seal.Keys) *seal.Column[[]byte] {
	return seal.NewColumn[[]byte](keys, seal.Place{Domain: "answer", Table: "idempotency_key", Column: "sealed_answer", Brief: true})
}

// Sealed is r, with its answer kept in that column; nil keeps it in the clear.
func (r Request) Sealed(answers *seal.Column[[]byte]) Request {
	r.answers = answers
	return r
}

// NewRequest names a request: who asks, by which route, under which key, and what (path and body). The three names are
// hashed with their lengths, so that no two triples run together.
func NewRequest(principal, route, key string, content ...[]byte) Request {
	h := sha256.New()
	for _, s := range []string{principal, route, key} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	mac := hmac.New(sha256.New, []byte(key))
	for _, c := range content {
		fmt.Fprintf(mac, "%d:%s", len(c), c)
	}
	r := Request{fingerprint: mac.Sum(nil)}
	h.Sum(r.id[:0])
	return r
}

// ID is the id of the thing called name that this request makes: the same for every repetition, and for no other
// request. It is a UUID of version 8 (RFC 9562) and not the house's version 7, because a time would differ each time.
func (r Request) ID(name string) uuid.UUID {
	return uuid.NewHash(sha256.New(), uuid.Nil, append(r.id[:len(r.id):len(r.id)], name...), 8)
}

type requestKey struct{}

// With returns a context in which r is being answered.
func With(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// From is the keyed request that ctx answers. A route that is not declared keyed has none: that is a bug in the route's
// declaration, and Internal.
func From(ctx context.Context) (Request, error) {
	r, ok := ctx.Value(requestKey{}).(Request)
	if !ok {
		return r, errors.New("idempotency: the route is not declared keyed")
	}
	return r, nil
}

// Once runs do in a transaction, unless the request of ctx was answered before: then it gives that answer. Repetitions
// that come while the first is still running wait for it. Returns Conflict, code request_in_progress, when that takes
// too long; Invalid, code idempotency_key_reused, for the key of another request; and whatever do returns, in which
// case nothing is stored. Like postgres.InTx it may run do more than once.
func Once[Out any](ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) (*Out, error)) (*Out, error) {
	r, err := From(ctx)
	if err != nil {
		return nil, err
	}
	var out *Out
	err = postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		first, err := r.claim(tx)
		if err != nil {
			return err
		}
		if !first {
			out, err = answer[Out](tx, r)
			return err
		}
		if out, err = do(tx); err != nil {
			return err
		}
		return r.store(tx, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Steps runs do, unless the request of ctx was answered before: then it gives that answer. It stores what do returns
// when do says that it is final. Repetitions may run do at the same time: all that do makes must be named by r.ID and
// be made at most once under that name. The first answer stored is the one that everybody gets.
func Steps[Out any](ctx context.Context, db *gorm.DB, do func(r Request) (out *Out, final bool, err error)) (*Out, error) {
	r, err := From(ctx)
	if err != nil {
		return nil, err
	}
	out, err := answer[Out](db.WithContext(ctx), r)
	if out != nil || err != nil {
		return out, err
	}
	out, final, err := do(r)
	if err != nil || !final {
		return out, err
	}
	// The effect is done and named; losing the stored answer in a crash only means working it out again.
	err = postgres.InLazyTx(ctx, db, func(tx *gorm.DB) error {
		first, err := r.claim(tx)
		if err != nil {
			return err
		}
		if first {
			return r.store(tx, out)
		}
		out, err = answer[Out](tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// claim reports whether r is the first of its name. It waits while another transaction claims the same.
func (r Request) claim(tx *gorm.DB) (first bool, err error) {
	res := tx.Exec("INSERT INTO idempotency_key (id, fingerprint) VALUES (?, ?) ON CONFLICT DO NOTHING",
		postgres.Bytea(r.id[:]), postgres.Bytea(r.fingerprint))
	if postgres.Busy(res.Error) {
		return false, fault.New(fault.Conflict, "request_in_progress", "the first request with this Idempotency-Key is still running").Because(res.Error)
	}
	return res.RowsAffected == 1, res.Error
}

func (r Request) store(tx *gorm.DB, out any) error {
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("store answer: %w", err)
	}
	if r.answers != nil {
		return tx.Exec("UPDATE idempotency_key SET sealed_answer = ? WHERE id = ?", r.answers.Seal(r.row(), b), r.id[:]).Error
	}
	return tx.Exec("UPDATE idempotency_key SET answer = ? WHERE id = ?", string(b), r.id[:]).Error
}

// row names r's row.
func (r Request) row() string { return hex.EncodeToString(r.id[:]) }

// answer is the stored answer to r; nil where there is none.
func answer[Out any](tx *gorm.DB, r Request) (*Out, error) {
	var row struct{ Fingerprint, Answer, SealedAnswer []byte }
	res := tx.Raw("SELECT fingerprint, answer, sealed_answer FROM idempotency_key WHERE id = ?", r.id[:]).Scan(&row)
	switch {
	case res.Error != nil:
		return nil, res.Error
	case res.RowsAffected == 0:
		return nil, nil
	case !hmac.Equal(row.Fingerprint, r.fingerprint):
		return nil, fault.New(fault.Invalid, "idempotency_key_reused", "this Idempotency-Key was used for another request")
	}
	if row.SealedAnswer != nil && r.answers != nil {
		var err error
		if row.Answer, err = r.answers.Open(tx.Statement.Context, r.row(), row.SealedAnswer); err != nil {
			return nil, err
		}
	}
	out := new(Out)
	if err := json.Unmarshal(row.Answer, out); err != nil {
		return nil, fmt.Errorf("read stored answer: %w", err)
	}
	return out, nil
}

// Sweeper is a loop that forgets answers older than Kept, until its context ends.
func Sweeper(db *gorm.DB, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		return loop.Every(ctx, sweepEvery, log, "forget old idempotency keys", func(ctx context.Context) error {
			return db.WithContext(ctx).Exec("DELETE FROM idempotency_key WHERE created_at < ?", time.Now().Add(-Kept)).Error
		})
	}
}
