package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"souk/deploy/local"
	"souk/shared/contract/coordinator"
	"souk/shared/mesh"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	accounts = 1000
	opening  = 1_000_000_000 // so that nobody runs out
	warmUp   = time.Second
)

// errBars says that a bar was missed; which one is in the table.
var errBars = errors.New("a bar was missed")

// The bars, as ratios within one run.
const (
	leastC64  = 0.30 // of the floor's throughput, with 64 clients
	leastHot  = 0.9  // of the throughput spread over all accounts
	mostSyncs = 3.1  // forced writes per transfer: a vote each, and the decision
	mostP50   = 4    // times the floor's, with one client
)

// rig is everything that is measured.
type rig struct {
	shop       *local.Shop
	east, west *bank
	floor      *pgxpool.Pool // one database with both sides of a transfer
	server     *pgxpool.Pool // to read the server's counters
	client     *http.Client
}

// result is one measurement.
type result struct {
	perSecond float64
	p50       time.Duration
	syncs     float64 // forced writes per transfer
	commits   float64 // database commits per transfer
}

func bench(ctx context.Context, each time.Duration, out io.Writer) (err error) {
	r, err := setUp(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.tearDown(context.WithoutCancel(ctx))) }()

	fmt.Fprintf(out, "%-8s %8s %10s %10s %10s %10s\n", "clients", "what", "tx/s", "p50 ms", "syncs/tx", "commits/tx")
	measured := map[string]map[int]result{"floor": {}, "2pc": {}, "hot": {}, "hotfloor": {}}
	for _, c := range []int{1, 8, 32, 64} {
		for _, what := range []string{"floor", "2pc", "hotfloor", "hot"} {
			m, err := r.measure(ctx, what, c, each)
			if err != nil {
				return fmt.Errorf("%s with %d clients: %w", what, c, err)
			}
			measured[what][c] = m
			fmt.Fprintf(out, "%-8d %8s %10.0f %10.2f %10.2f %10.2f\n", c, what, m.perSecond, float64(m.p50.Microseconds())/1000, m.syncs, m.commits)
		}
	}
	if err := r.sound(ctx); err != nil {
		return err
	}
	ratio := func(c int) float64 { return measured["2pc"][c].perSecond / measured["floor"][c].perSecond }
	hot := measured["hot"][64].perSecond / measured["2pc"][64].perSecond
	syncs := measured["2pc"][1].syncs
	p50 := float64(measured["2pc"][1].p50) / float64(measured["floor"][1].p50)
	fmt.Fprintf(out, "bench-2pc: ratio_c1=%.3f ratio_c8=%.3f ratio_c32=%.3f ratio_c64=%.3f hot_vs_spread=%.2f hot_vs_hot_floor=%.2f syncs_per_tx_c1=%.2f p50_ratio_c1=%.2f\n",
		ratio(1), ratio(8), ratio(32), ratio(64), hot, measured["hot"][64].perSecond/measured["hotfloor"][64].perSecond, syncs, p50)
	if ratio(64) < leastC64 || hot < leastHot || syncs > mostSyncs || p50 > mostP50 {
		return errBars
	}
	return nil
}

func setUp(ctx context.Context) (*rig, error) {
	dir, err := os.MkdirTemp("", "souk-bench-")
	if err != nil {
		return nil, err
	}
	shop, err := local.Up(ctx, local.Config{
		RunDir: dir, Log: os.Stderr, NoSeed: true,
		Instances: map[string]int{"gateway": 0, "order": 0, "user": 0, "product": 0, "payment": 0, "coordinator": 1},
	})
	if err != nil {
		return nil, err
	}
	r := &rig{shop: shop}
	if err := r.fill(ctx); err != nil {
		return nil, errors.Join(err, r.tearDown(context.WithoutCancel(ctx)))
	}
	return r, nil
}

func (r *rig) fill(ctx context.Context) (err error) {
	if r.east, err = startBank(ctx, r.shop, "east", "product"); err != nil {
		return err
	}
	if r.west, err = startBank(ctx, r.shop, "west", "payment"); err != nil {
		return err
	}
	reg, err := registry.New(registry.Config{Addr: r.shop.Consul}, registry.Deps{})
	if err != nil {
		return err
	}
	m := mesh.New(mesh.Config{Caller: "bench"}, mesh.Deps{Resolver: reg, Log: slog.New(slog.DiscardHandler)})
	r.client = m.Client()
	for _, service := range []string{"coordinator", "east", "west"} {
		if err := known(ctx, reg, service); err != nil {
			return err
		}
	}
	for _, database := range []string{"product", "payment", "user"} {
		pool, err := pgxpool.New(ctx, r.shop.Postgres.URL(database)+"&pool_max_conns=16")
		if err != nil {
			return err
		}
		if database == "user" {
			r.floor = pool
			if _, err := pool.Exec(ctx, "CREATE TABLE account (id text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0)) WITH (fillfactor = 50)"); err != nil {
				return err
			}
		}
		if _, err := pool.Exec(ctx, "INSERT INTO account (id, available) SELECT 'a' || n, $1 FROM generate_series(0, $2 - 1) n", opening, accounts); err != nil {
			return err
		}
		if database != "user" {
			pool.Close()
		}
	}
	r.server, err = pgxpool.New(ctx, r.shop.Postgres.SuperuserURL("postgres"))
	return err
}

// known waits until the registry knows an instance of service.
func known(ctx context.Context, reg *registry.Registry, service string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if list, err := reg.Instances(ctx, service); err == nil && len(list) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not appear in Consul: %w", service, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *rig) tearDown(ctx context.Context) error {
	var err error
	for _, b := range []*bank{r.east, r.west} {
		if b != nil {
			err = errors.Join(err, b.stop())
		}
	}
	for _, pool := range []*pgxpool.Pool{r.floor, r.server} {
		if pool != nil {
			pool.Close()
		}
	}
	return errors.Join(err, r.shop.Down(ctx))
}

// measure runs what with c clients for a while after a warm-up.
func (r *rig) measure(ctx context.Context, what string, c int, each time.Duration) (result, error) {
	transfer := map[string]func(context.Context, string, string) error{"floor": r.local, "hotfloor": r.local, "2pc": r.global, "hot": r.global}[what]
	hot := what == "hot" || what == "hotfloor"
	if _, err := r.loop(ctx, transfer, hot, c, warmUp); err != nil {
		return result{}, err
	}
	before, err := r.counters(ctx)
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	took, err := r.loop(ctx, transfer, hot, c, each)
	if err != nil {
		return result{}, err
	}
	elapsed := time.Since(start)
	after, err := r.counters(ctx)
	if err != nil {
		return result{}, err
	}
	slices.Sort(took)
	n := float64(len(took))
	return result{
		perSecond: n / elapsed.Seconds(), p50: took[len(took)/2],
		syncs: (after.syncs - before.syncs) / n, commits: (after.commits - before.commits) / n,
	}, nil
}

// loop has c clients do one transfer after the other for a while, and returns how long each took.
func (r *rig) loop(ctx context.Context, transfer func(context.Context, string, string) error, hot bool, c int, d time.Duration) ([]time.Duration, error) {
	end := time.Now().Add(d)
	took := make([][]time.Duration, c)
	errs := make([]error, c)
	var clients sync.WaitGroup
	for i := range c {
		clients.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				from, to := rand.IntN(accounts), 0
				if !hot {
					to = rand.IntN(accounts)
				}
				start := time.Now()
				if err := transfer(ctx, fmt.Sprint("a", from), fmt.Sprint("a", to)); err != nil {
					errs[i] = err
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	clients.Wait()
	return slices.Concat(took...), errors.Join(append(errs, ctx.Err())...)
}

// local is the floor: both sides in one database, one transaction.
func (r *rig) local(ctx context.Context, from, to string) error {
	tx, err := r.floor.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// In one order, or transfers both ways would deadlock.
	moves := []struct {
		id string
		n  int
	}{{from, -1}, {to, 1}}
	if from > to {
		slices.Reverse(moves)
	}
	for _, m := range moves {
		if _, err := tx.Exec(ctx, "UPDATE account SET available = available + $1 WHERE id = $2", m.n, m.id); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// global is the same through the coordinator: out of an account in the east, into one in the west.
func (r *rig) global(ctx context.Context, from, to string) error {
	leg := func(service, action, account string) (coordinator.Branch, error) {
		payload, err := json.Marshal(testkit.Transfer{Account: account, Amount: 1})
		return coordinator.Branch{Service: service, Action: action, Key: account, Payload: payload}, err
	}
	debit, err := leg("east", "debit", from)
	if err != nil {
		return err
	}
	credit, err := leg("west", "credit", to)
	if err != nil {
		return err
	}
	in := &coordinator.BeginInput{Body: coordinator.Begin{GID: uuid.Must(uuid.NewV7()), Branches: []coordinator.Branch{debit, credit}}}
	done, err := coordinator.BeginTransaction.Call(ctx, r.client, in)
	if err != nil {
		return err
	}
	if done.Body.State != coordinator.Committed {
		return fmt.Errorf("transfer %s: %s", in.Body.GID, done.Body.State)
	}
	return nil
}

type counters struct{ syncs, commits float64 }

func (r *rig) counters(ctx context.Context) (c counters, err error) {
	err = r.server.QueryRow(ctx, "SELECT wal_sync::float8, (SELECT sum(xact_commit)::float8 FROM pg_stat_database) FROM pg_stat_wal").Scan(&c.syncs, &c.commits)
	return c, err
}

// sound checks that no money was made or lost, once everything is carried out.
func (r *rig) sound(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var total, held int64
		for _, database := range []string{"product", "payment"} {
			pool, err := pgxpool.New(ctx, r.shop.Postgres.URL(database))
			if err != nil {
				return err
			}
			var t, h int64
			err = pool.QueryRow(ctx, "SELECT sum(available + held)::bigint, sum(held)::bigint FROM account").Scan(&t, &h)
			pool.Close()
			if err != nil {
				return err
			}
			total, held = total+t, held+h
		}
		if total == 2*accounts*opening && held == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d is held and the total is %d, want 0 and %d", held, total, int64(2*accounts*opening))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
