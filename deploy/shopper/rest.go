package shopper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"souk/deploy/local"

	"github.com/jackc/pgx/v5"
)

// A question is one about a database of the shop, whose answer is a number that must be zero.
type question struct{ service, what, sql string }

// unsettled is what is under way. It comes to nothing by itself.
func unsettled() []question {
	questions := []question{
		{"coordinator", "decisions not carried out", "SELECT count(*) FROM decision WHERE completed_at IS NULL"},
		{"order", "orders being paid or refunded", "SELECT count(*) FROM orders WHERE status = 'paying' OR refunding_minor <> 0"},
		{"product", "pieces held", "SELECT COALESCE(sum(held), 0)::bigint FROM stock"},
		{"payment", "minor units held", "SELECT COALESCE(sum(held), 0)::bigint FROM account"},
	}
	for _, service := range []string{"user", "product", "order", "payment"} {
		questions = append(questions, question{service, "branches in doubt", "SELECT count(*) FROM tx_branch WHERE state = 'prepared'"})
	}
	return questions
}

// wrong is what must never be, in a shop at rest.
func wrong() []question {
	questions := []question{
		{"payment", "currencies whose entries do not sum to zero", "SELECT count(*) FROM (SELECT FROM entry GROUP BY currency HAVING sum(amount) <> 0) AS x"},
		{"payment", "currencies whose accounts do not sum to zero", "SELECT count(*) FROM (SELECT FROM account GROUP BY currency HAVING sum(available + held) <> 0) AS x"},
		{"payment", "accounts whose balance is not the sum of their entries", `SELECT count(*) FROM account a WHERE available + held <>
			(SELECT COALESCE(sum(amount), 0) FROM entry e WHERE (e.kind, e.owner, e.currency) = (a.kind, a.owner, a.currency))`},
		{"product", "products with more or fewer pieces than were ever put in stock", `SELECT count(*) FROM stock s WHERE available + held + sold <>
			(SELECT COALESCE(sum(available_change), 0) FROM stock_movement m WHERE m.product_id = s.product_id AND kind = 'adjustment')`},
	}
	for _, service := range []string{"user", "product", "order", "payment"} {
		questions = append(questions, question{service, "heuristics", "SELECT count(*) FROM tx_heuristic"})
	}
	return questions
}

// AtRest waits until nothing in the shop is under way, at most for patience, and then looks for what must never be. Each
// violation is one of the joined errors.
func AtRest(ctx context.Context, shop *local.Shop, patience time.Duration) (violations []error, err error) {
	return AtRestIn(ctx, shop.Postgres.URL, patience)
}

// Databases gives the URL of a service's database.
type Databases func(service string) string

// AtRestIn is AtRest for a shop that runs elsewhere.
func AtRestIn(ctx context.Context, dbs Databases, patience time.Duration) (violations []error, err error) {
	deadline := time.Now().Add(patience)
	for {
		left, err := ask(ctx, dbs, unsettled())
		if err != nil {
			return nil, err
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			violations = append(violations, fmt.Errorf("not at rest after %s: %w", patience, errors.Join(left...)))
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	found, err := ask(ctx, dbs, wrong())
	if err != nil {
		return nil, err
	}
	different, err := endedDifferently(ctx, dbs)
	return append(append(violations, found...), different...), err
}

// ask gives an error for each question whose answer is not zero.
func ask(ctx context.Context, dbs Databases, questions []question) (found []error, err error) {
	for _, q := range questions {
		err := with(ctx, dbs, q.service, func(conn *pgx.Conn) error {
			var n int64
			if err := conn.QueryRow(ctx, q.sql).Scan(&n); err != nil {
				return err
			}
			if n != 0 {
				found = append(found, fmt.Errorf("%s: %d %s", q.service, n, q.what))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", q.what, err)
		}
	}
	return found, nil
}

// endedDifferently gives an error for each transaction that ended in more than one way.
func endedDifferently(ctx context.Context, dbs Databases) (found []error, err error) {
	said := map[string]string{} // by transaction
	for service, sql := range map[string]string{
		"coordinator": "SELECT gid::text, outcome FROM decision", "user": branches, "product": branches, "order": branches, "payment": branches,
	} {
		err := with(ctx, dbs, service, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, sql)
			if err != nil {
				return err
			}
			var gid, state string
			_, err = pgx.ForEachRow(rows, []any{&gid, &state}, func() error {
				if other, ok := said[gid]; ok && other != state {
					found = append(found, fmt.Errorf("transaction %s is %s for some and %s for %s", gid, other, state, service))
				}
				said[gid] = state
				return nil
			})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("compare the outcomes of transactions: %w", err)
		}
	}
	return found, nil
}

const branches = "SELECT gid::text, state FROM tx_branch"

func with(ctx context.Context, dbs Databases, service string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dbs(service))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}
