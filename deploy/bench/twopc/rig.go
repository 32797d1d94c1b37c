package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"souk/deploy/local"
	"souk/shared/registry"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	accounts = 1000          // of each bank
	opening  = 1_000_000_000 // in each, so that nobody runs out
)

// names of the banks. A transfer is out of the first into the second; the others only take part in wider transactions.
var names = []string{"east", "west", "north", "south", "centre"} //nolint:gochecknoglobals // never changes

// alsoCalls are the lines of the call table for banks, and for who has them do transfers: mutual TLS is on, as in production.
func alsoCalls() string {
	lines := "bench coordinator /internal/v1/transactions\n"
	for _, name := range names {
		lines += name + " coordinator /internal/v1/transactions/resolve\ncoordinator " + name + " /internal/v1/tx/*\n"
	}
	return "CALLS_ALSO=" + lines
}

// rig is everything that is measured.
type rig struct {
	shop   *local.Shop
	banks  []*bank
	pools  map[string]*pgxpool.Pool // by database; "floor" has both sides of a transfer, "postgres" the server's counters
	client *local.Caller
	server int // the process of PostgreSQL's postmaster
}

func setUp(ctx context.Context) (*rig, error) {
	dir, err := os.MkdirTemp("", "souk-bench-")
	if err != nil {
		return nil, err
	}
	shop, err := local.Up(ctx, local.Config{
		RunDir: dir, Log: os.Stderr, NoSeed: true,
		Instances: map[string]int{"gateway": 0, "order": 0, "user": 0, "product": 0, "payment": 0, "coordinator": 1},
		Env:       func(string) []string { return []string{alsoCalls()} },
	})
	if err != nil {
		return nil, err
	}
	r := &rig{shop: shop, pools: map[string]*pgxpool.Pool{}}
	if err := r.fill(ctx); err != nil {
		return nil, errors.Join(err, r.tearDown(context.WithoutCancel(ctx)))
	}
	return r, nil
}

func (r *rig) fill(ctx context.Context) error {
	if err := r.open(ctx, "postgres"); err != nil {
		return err
	}
	if err := r.pools["postgres"].QueryRow(ctx, "SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int").Scan(&r.server); err != nil {
		return err
	}
	if err := r.open(ctx, "coordinator"); err != nil {
		return err
	}
	for _, name := range append([]string{"floor"}, names...) {
		if _, err := r.pools["postgres"].Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return err
		}
		if err := r.open(ctx, name); err != nil {
			return err
		}
	}
	if _, err := r.pools["floor"].Exec(ctx, "CREATE TABLE account (id text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0)) WITH (fillfactor = 50)"); err != nil {
		return err
	}
	if _, err := r.shop.Join(ctx, "bench"); err != nil {
		return err
	}
	var err error
	if r.client, err = r.shop.Call(ctx, "bench"); err != nil {
		return err
	}
	for _, name := range names {
		b, err := startBank(ctx, r.shop, name, name)
		if err != nil {
			return err
		}
		r.banks = append(r.banks, b)
	}
	for _, service := range append([]string{"coordinator"}, names...) {
		if err := known(ctx, r.client.Registry, service); err != nil {
			return err
		}
	}
	for _, name := range append([]string{"floor"}, names...) {
		if _, err := r.pools[name].Exec(ctx, "INSERT INTO account (id, available) SELECT 'a' || n, $1 FROM generate_series(0, $2 - 1) n", opening, accounts); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) open(ctx context.Context, database string) (err error) {
	r.pools[database], err = pgxpool.New(ctx, r.shop.Postgres.SuperuserURL(database)+"&pool_max_conns=16")
	return err
}

// known waits until the registry knows an instance of service.
func known(ctx context.Context, reg *registry.Registry, service string) error {
	err := until(ctx, 30*time.Second, func() (bool, error) {
		list, err := reg.Instances(ctx, service)
		return err == nil && len(list) > 0, nil
	})
	if err != nil {
		return fmt.Errorf("%s does not appear in Consul: %w", service, err)
	}
	return nil
}

// until waits for done, for so long at most.
func until(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (r *rig) tearDown(ctx context.Context) error {
	var err error
	if r.client != nil {
		r.client.Close()
	}
	for _, b := range r.banks {
		err = errors.Join(err, b.stop())
	}
	for _, pool := range r.pools {
		pool.Close()
	}
	return errors.Join(err, r.shop.Down(ctx))
}

// atRest reports whether no branch and no decision waits to be carried out.
func (r *rig) atRest(ctx context.Context) (bool, error) {
	var open int
	if err := r.pools["coordinator"].QueryRow(ctx, "SELECT count(*) FROM decision WHERE completed_at IS NULL").Scan(&open); err != nil || open > 0 {
		return false, err
	}
	for _, b := range r.banks {
		if err := r.pools[b.database].QueryRow(ctx, "SELECT count(*) FROM tx_branch WHERE state = 'prepared'").Scan(&open); err != nil || open > 0 {
			return false, err
		}
	}
	return true, nil
}

// sound checks that no money was made or lost, once everything is carried out.
func (r *rig) sound(ctx context.Context) error {
	if err := until(ctx, 30*time.Second, func() (bool, error) { return r.atRest(ctx) }); err != nil {
		return fmt.Errorf("transactions are not carried out: %w", err)
	}
	var total, held int64
	for _, b := range r.banks {
		var t, h int64
		if err := r.pools[b.database].QueryRow(ctx, "SELECT sum(available + held)::bigint, sum(held)::bigint FROM account").Scan(&t, &h); err != nil {
			return err
		}
		total, held = total+t, held+h
	}
	if want := int64(len(names)) * accounts * opening; total != want || held != 0 {
		return fmt.Errorf("%d is held and the total is %d, want 0 and %d", held, total, want)
	}
	return nil
}
