package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"souk/shared/contract/user"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// restTime is what the shop has to come to rest in when the faults are over.
const restTime = 10 * time.Second

// violation is something that must never be. The transaction is nil where it is not about one.
type violation struct {
	what string
	gid  uuid.UUID
}

// judgment is the looking at a shop after the faults.
type judgment struct {
	*campaign
	report *Report
}

// judge waits until the shop is at rest, has every open question answered, and then counts everything.
func (c *campaign) judge(ctx context.Context) (*Report, error) {
	j := &judgment{campaign: c, report: c.newReport()}
	j.rest(ctx, "after the faults")
	j.askAgain(ctx)
	j.rest(ctx, "after the last questions")
	for _, check := range []func(context.Context) error{
		j.deaths, j.sameEverywhere, j.noPrepareAfterAbort, j.orders, j.money, j.points, j.stock,
	} {
		if err := check(ctx); err != nil {
			return nil, err
		}
	}
	for _, d := range c.deals() {
		if d.contradicted() {
			j.wrong(uuid.Nil, "an answer was taken back: %s", d)
		}
	}
	return j.report, j.explain(ctx)
}

func (j *judgment) wrong(gid uuid.UUID, format string, args ...any) {
	j.report.violations = append(j.report.violations, violation{fmt.Sprintf(format, args...), gid})
}

func (c *campaign) deals() (all []*deal) {
	for _, who := range c.customers {
		all = append(all, who.deals...)
	}
	return all
}

// rest waits until nothing is in doubt and nothing held.
func (j *judgment) rest(ctx context.Context, when string) {
	begin := time.Now()
	for {
		n, what := j.inDoubt(ctx)
		took := time.Since(begin)
		if n == 0 {
			j.report.rest = max(j.report.rest, took)
			return
		}
		if took > restTime {
			j.report.inDoubt += n
			j.wrong(uuid.Nil, "not at rest %s %s: %s", restTime, when, what)
			return
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// inDoubt counts what is not settled, and says what it is.
func (j *judgment) inDoubt(ctx context.Context) (n int64, what string) {
	var left []string
	for _, q := range []struct{ service, what, query string }{
		{"coordinator", "decisions not carried out", "SELECT count(*) FROM decision WHERE completed_at IS NULL"},
		{"product", "branches in doubt", prepared},
		{"payment", "branches in doubt", prepared},
		{"order", "branches in doubt", prepared},
		{"user", "branches in doubt", prepared},
		{"order", "orders in between", "SELECT count(*) FROM orders WHERE status = 'paying' OR refunding_minor <> 0"},
		{"product", "pieces held", "SELECT COALESCE(sum(held), 0)::bigint FROM stock"},
		{"payment", "minor units held", "SELECT COALESCE(sum(held), 0)::bigint FROM account"},
		{"payment", "payments and refunds in between", "SELECT (SELECT count(*) FROM payment WHERE status = 'authorized') + (SELECT count(*) FROM refund WHERE status = 'pending') + (SELECT count(*) FROM transfer WHERE status = 'pending')"},
		{"user", "points held", "SELECT COALESCE(sum(held), 0)::bigint FROM points_account"},
	} {
		var m int64
		if err := j.dbs[q.service].QueryRow(ctx, q.query).Scan(&m); err != nil {
			n, left = n+1, append(left, q.service+": "+err.Error())
		} else if m != 0 {
			n, left = n+m, append(left, fmt.Sprintf("%s has %d %s", q.service, m, q.what))
		}
	}
	return n, strings.Join(left, ", ")
}

const prepared = "SELECT count(*) FROM tx_branch WHERE state = 'prepared'"

// askAgain asks for every outcome that a customer does not know, until it is known, and for some that they do.
func (j *judgment) askAgain(ctx context.Context) {
	const (
		atOnce = 8
		sample = 200 // of the known ones
	)
	ctx, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	r := j.schedule.rand("last questions")
	all := j.deals()
	r.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	var open []*deal
	known := 0
	for _, d := range all {
		switch d.verdict() {
		case unknown:
			open = append(open, d)
		case done:
			if known++; known <= sample {
				open = append(open, d)
			}
		}
	}
	questions := make(chan *deal)
	var asking sync.WaitGroup
	for range atOnce {
		asking.Go(func() {
			for d := range questions {
				for d.asked(ctx).verdict == unknown && ctx.Err() == nil {
					pause(ctx, 100*time.Millisecond)
				}
			}
		})
	}
	for _, d := range open {
		questions <- d
	}
	close(questions)
	asking.Wait()
	for _, d := range open {
		if d.verdict() == unknown {
			j.report.inDoubt++
			j.wrong(uuid.Nil, "the outcome is still not known: %s", d)
		}
	}
}

// deaths checks that what died was killed.
func (j *judgment) deaths(context.Context) error {
	points, disturbed, err := readLogs(j.cfg.RunDir)
	if err != nil {
		return err
	}
	j.report.points, j.report.disturbed = points, disturbed
	j.did.mu.Lock()
	defer j.did.mu.Unlock()
	j.report.kills = j.did.kills
	killed := j.did.kills[kill] + j.did.kills[massacre] + j.did.kills[spare]
	for _, n := range points {
		killed += n
	}
	if j.did.deaths > killed {
		j.wrong(uuid.Nil, "%d processes died and only %d were killed; the logs are in %s", j.did.deaths, killed, j.cfg.RunDir)
	}
	for _, what := range j.did.failed {
		j.wrong(uuid.Nil, "%s", what)
	}
	return nil
}

// branch is a row of a tx_branch.
type branch struct {
	GID        uuid.UUID
	Branch     int
	State      string
	Action     string
	Refused    bool
	PreparedAt time.Time
	Service    string
}

func (j *judgment) branches(ctx context.Context, where string, args ...any) (all []branch, err error) {
	for _, service := range slices.Sorted(maps.Keys(j.dbs)) {
		if service == "coordinator" {
			continue
		}
		rows, err := j.dbs[service].Query(ctx, `SELECT gid, branch, state, action, reason IS NOT NULL AS refused, prepared_at, '`+service+`' AS service
			FROM tx_branch `+where, args...)
		if err != nil {
			return nil, err
		}
		some, err := pgx.CollectRows(rows, pgx.RowToStructByName[branch])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// decision is a row of the register.
type decision struct {
	GID      uuid.UUID
	Outcome  string
	Timeline []event
}

type event struct {
	At                               time.Time
	Instance, Event, Service, Detail string
}

func (j *judgment) decisions(ctx context.Context, where string, args ...any) (map[uuid.UUID]decision, error) {
	rows, err := j.dbs["coordinator"].Query(ctx, "SELECT gid, outcome, timeline FROM decision "+where, args...)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[decision])
	byGID := make(map[uuid.UUID]decision, len(all))
	for _, d := range all {
		byGID[d.GID] = d
	}
	return byGID, err
}

// sameEverywhere checks that the branches of each transaction agree with the register, and that nothing contradicted.
func (j *judgment) sameEverywhere(ctx context.Context) error {
	decided, err := j.decisions(ctx, "")
	if err != nil {
		return err
	}
	branches, err := j.branches(ctx, "")
	if err != nil {
		return err
	}
	// A transaction that was aborted lazily may have lost its row in a crash of PostgreSQL: then each branch must be
	// aborted. One that has committed is in the register.
	for _, b := range branches {
		if d, ok := decided[b.GID]; ok && d.Outcome != b.State || !ok && b.State != "aborted" {
			j.wrong(b.GID, "transaction %s is %s in %s, and the register says %q", b.GID, b.State, b.Service, d.Outcome)
		}
	}
	have := map[uuid.UUID]int{}
	for _, b := range branches {
		have[b.GID]++
	}
	for gid, d := range decided {
		j.report.outcomes[d.Outcome]++
		if d.Outcome == "committed" && have[gid] < 2 {
			j.wrong(gid, "transaction %s is committed, and %d branches know of it", gid, have[gid])
		}
	}
	for service, db := range j.dbs {
		if service == "coordinator" {
			continue
		}
		gids, err := column[uuid.UUID](ctx, db, "SELECT gid FROM tx_heuristic")
		if err != nil {
			return err
		}
		for _, gid := range gids {
			j.wrong(gid, "%s was told something of transaction %s that contradicts what it knows", service, gid)
		}
	}
	return nil
}

// noPrepareAfterAbort checks that no branch voted yes after its participant had acknowledged the abort. All clocks are this
// machine's. An acknowledgment need not be on disk, so a crash of PostgreSQL shortly after it may undo it.
func (j *judgment) noPrepareAfterAbort(ctx context.Context) error {
	const unforced = time.Second
	decided, err := j.decisions(ctx, "WHERE outcome = 'aborted'")
	if err != nil {
		return err
	}
	branches, err := j.branches(ctx, "WHERE action <> '' AND reason IS NULL AND state <> 'committed'")
	if err != nil {
		return err
	}
	for _, b := range branches {
		for _, e := range decided[b.GID].Timeline {
			if e.Event != "aborted" || e.Service != b.Service || !b.PreparedAt.After(e.At) {
				continue
			}
			if !slices.ContainsFunc(j.did.crashes, func(t time.Time) bool { return e.At.Before(t) && t.Sub(e.At) < unforced }) {
				j.wrong(b.GID, "transaction %s became prepared in %s at %s, after its abort was acknowledged there at %s",
					b.GID, b.Service, b.PreparedAt.Format(clock), e.At.Format(clock))
			}
		}
	}
	return nil
}

const clock = "15:04:05.000000"

// orders checks each order against what its customer was told.
func (j *judgment) orders(ctx context.Context) error {
	type row struct {
		ID       uuid.UUID
		Status   string
		Refunded int64
		GID      *uuid.UUID
	}
	rows, err := j.dbs["order"].Query(ctx, "SELECT id, status, refunded_minor AS refunded, pay_gid AS gid FROM orders")
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return err
	}
	byID := map[uuid.UUID]row{}
	for _, r := range all {
		byID[r.ID] = r
	}
	for _, who := range j.customers {
		for _, b := range who.orders {
			r, ok := byID[b.id]
			gid := uuid.Nil
			if r.GID != nil {
				gid = *r.GID
			}
			refunded, _ := b.refunded()
			want := "created"
			switch {
			case b.paid() && refunded == b.total.Amount:
				want = "refunded"
			case b.paid():
				want = "paid"
			}
			if !ok || r.Status != want || r.Refunded != refunded {
				j.wrong(gid, "order %s is %q with %d given back, and its customer was told it is %s with %d given back: %s",
					b.id, r.Status, r.Refunded, want, refunded, b.told())
			}
			paid := 0
			for _, d := range b.checkouts {
				if d.verdict() == done {
					paid++
				}
			}
			if paid > 1 {
				j.wrong(gid, "order %s was paid %d times: %s", b.id, paid, b.told())
			}
		}
	}
	return nil
}

func (b *bought) told() string {
	var all []string
	for _, d := range slices.Concat(b.checkouts, b.refunds) {
		all = append(all, d.String())
	}
	return strings.Join(all, "; ")
}

// balance names something that can be lost or made: an account, points, pieces.
type balance struct{ kind, of string }

// compare counts what there is against what there should be.
func (j *judgment) compare(what string, want, got map[balance]int64) {
	all := maps.Clone(want)
	maps.Copy(all, got)
	for b := range all {
		switch diff := got[b] - want[b]; {
		case diff < 0:
			j.report.lost -= diff
			j.wrong(uuid.Nil, "%d %s of %s %s are lost: there are %d, and should be %d", -diff, what, b.kind, b.of, got[b], want[b])
		case diff > 0:
			j.report.created += diff
			j.wrong(uuid.Nil, "%d %s of %s %s came from nowhere: there are %d, and should be %d", diff, what, b.kind, b.of, got[b], want[b])
		default:
			continue
		}
		for _, who := range j.customers {
			if owner, _, _ := strings.Cut(b.of, " "); owner == who.id.String() && len(j.report.diaries) < mostDiaries {
				j.report.diaries[who.name] = who.diary()
			}
		}
	}
}

// mostDiaries is how many are printed: one is usually enough to see what is wrong with the account.
const mostDiaries = 2

// diary is everything that a customer was told.
func (c *customer) diary() string {
	all := []string{"what " + c.name + " was told:"}
	for _, d := range c.deals {
		all = append(all, "  "+d.String())
	}
	return strings.Join(all, "\n")
}

// balances reads a table of kind, of whom, and how much.
func balances(ctx context.Context, db *pgxpool.Pool, query string) (map[balance]int64, error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	got := map[balance]int64{}
	var b balance
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&b.kind, &b.of, &n}, func() error {
		if n != 0 {
			got[b] = n
		}
		return nil
	})
	return got, err
}

// money checks every account against what the deals add up to, and the ledger against itself.
func (j *judgment) money(ctx context.Context) error {
	want := map[balance]int64{}
	for _, d := range j.deals() {
		if d.verdict() != done {
			continue
		}
		wallet := balance{"wallet", d.who.id.String() + " " + string(d.amount.Currency)}
		shop := func(kind string) balance { return balance{kind, uuid.Nil.String() + " " + string(d.amount.Currency)} }
		from, to := wallet, wallet
		switch d.kind {
		case "checkout":
			to = shop("merchant")
		case "refund":
			from = shop("merchant")
		case "transfer":
			from = shop("rewards")
		case "top-up":
			from = shop("clearing")
		}
		want[from] -= d.amount.Amount
		want[to] += d.amount.Amount
	}
	got, err := balances(ctx, j.dbs["payment"], "SELECT kind, owner || ' ' || currency, available + held FROM account")
	if err != nil {
		return err
	}
	j.compare("minor units", want, got)
	sums, err := balances(ctx, j.dbs["payment"], `
		SELECT 'the sum of all entries', currency, sum(amount)::bigint FROM entry GROUP BY currency
		UNION ALL SELECT 'the sum of all accounts', currency, sum(available + held)::bigint FROM account GROUP BY currency
		UNION ALL SELECT 'account and entries of ' || kind, owner || ' ' || currency, available + held - COALESCE((SELECT sum(amount)::bigint FROM entry e
			WHERE (e.kind, e.owner, e.currency) = (a.kind, a.owner, a.currency)), 0) FROM account a`)
	if err != nil {
		return err
	}
	for b, n := range sums {
		j.wrong(uuid.Nil, "the ledger is wrong: %s %s is off by %d", b.kind, b.of, n)
	}
	return nil
}

func (j *judgment) points(ctx context.Context) error {
	want := map[balance]int64{}
	for _, d := range j.deals() {
		switch account := (balance{"account", d.who.id.String()}); {
		case d.verdict() != done:
		case d.kind == "checkout":
			want[account] += user.PointsFor(d.amount)
		default:
			want[account] -= d.points
		}
	}
	got, err := balances(ctx, j.dbs["user"], "SELECT 'account', user_id::text, available + held FROM points_account")
	if err != nil {
		return err
	}
	j.compare("points", want, got)
	wrong, err := balances(ctx, j.dbs["user"], `SELECT 'account', user_id::text, available + held - COALESCE((SELECT sum(points)::bigint
		FROM points_entry e WHERE e.user_id = a.user_id), 0) FROM points_account a`)
	for b, n := range wrong {
		j.wrong(uuid.Nil, "the points of %s differ by %d from their entries", b.of, n)
	}
	return err
}

func (j *judgment) stock(ctx context.Context) error {
	want := map[balance]int64{}
	for _, g := range j.goods {
		want[balance{"available", g.id.String()}] = g.stock
	}
	for _, d := range j.deals() {
		if d.verdict() != done || d.kind != "checkout" && !d.restock {
			continue
		}
		for id, n := range d.order.lines {
			if d.restock {
				n = -n
			}
			want[balance{"available", id.String()}] -= n
			want[balance{"sold", id.String()}] += n
		}
	}
	maps.DeleteFunc(want, func(_ balance, n int64) bool { return n == 0 })
	got, err := balances(ctx, j.dbs["product"], `SELECT what, product_id::text, n FROM stock s JOIN product p ON p.id = s.product_id,
		LATERAL (VALUES ('available', available), ('held', held), ('sold', sold)) v (what, n) WHERE p.sku LIKE 'CHAOS-%'`)
	if err != nil {
		return err
	}
	j.compare("pieces", want, got)
	return nil
}

// column reads the one column of a query.
func column[T any](ctx context.Context, db *pgxpool.Pool, query string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}
