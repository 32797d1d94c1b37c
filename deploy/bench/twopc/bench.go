package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// errBars says that a bar was missed; which one is in the table.
var errBars = errors.New("a bar was missed")

// The bars, as ratios within one run.
const (
	leastC64      = 0.30 // of the floor's throughput, with 64 clients
	leastHot      = 0.9  // of the throughput spread over all accounts
	leastHotFloor = 1.0  // of the floor's, when that credits one account
	mostSyncs     = 3.1  // forced writes per transfer: a vote each, and the decision
	mostP50       = 4    // times the floor's, with one client
	mostDrop      = 0.05 // of the throughput, for a million decisions in the register
	mostFive      = 1.5  // times the p50 of a transaction of two branches, for one of five
	mostRecovery  = 5 * time.Second

	history = 1_000_000 // decisions
	full    = 64        // clients
)

func bench(ctx context.Context, each time.Duration, out io.Writer) (err error) {
	r, err := setUp(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.tearDown(context.WithoutCancel(ctx))) }()

	fmt.Fprintf(out, "%-8s %-9s %8s %8s | per transaction: %6s %8s %9s | %s\n",
		"clients", "what", "tx/s", "p50 ms", "syncs", "commits", "messages", "processor ms: database, coordinator, banks, client")
	row := func(what string, do work, hot bool, c int) (result, error) {
		m, err := r.measure(ctx, do, hot, c, each)
		if err != nil {
			return m, fmt.Errorf("%s with %d clients: %w", what, c, err)
		}
		p := m.per
		fmt.Fprintf(out, "%-8d %-9s %8.0f %8.2f | %23.2f %8.2f %9.2f | %13.2f %12.2f %6.2f %7.2f\n", c, what, m.perSecond,
			float64(m.p50.Microseconds())/1000, p.syncs, p.commits, p.messages, p.database, p.coordinator, p.bank, p.us)
		return m, nil
	}
	two, five := r.global(2), r.global(len(names))
	floor, global := map[int]result{}, map[int]result{}
	for _, c := range []int{1, 8, 32, full} {
		if floor[c], err = row("floor", r.local, false, c); err != nil {
			return err
		}
		if global[c], err = row("2pc", two, false, c); err != nil {
			return err
		}
	}
	hotFloor, err := row("hot floor", r.local, true, full)
	if err != nil {
		return err
	}
	hot, err := row("hot", two, true, full)
	if err != nil {
		return err
	}
	wide, err := row("5 parts", five, false, 1)
	if err != nil {
		return err
	}
	recovery, err := r.recovery(ctx, two)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-8d killed -9 and started again: all carried out %.2f s later\n", full, recovery.Seconds())
	drop, err := r.drop(ctx, func(what string) (result, error) { return row(what, two, false, full) })
	if err != nil {
		return err
	}
	if err := r.sound(ctx); err != nil {
		return err
	}

	ratio := func(c int) float64 { return global[c].perSecond / floor[c].perSecond }
	hotVsSpread, hotVsFloor := hot.perSecond/global[full].perSecond, hot.perSecond/hotFloor.perSecond
	p50, fiveParts := float64(global[1].p50)/float64(floor[1].p50), float64(wide.p50)/float64(global[1].p50)
	fmt.Fprintf(out, "bench-2pc: ratio_c1=%.3f ratio_c8=%.3f ratio_c32=%.3f ratio_c64=%.3f hot_vs_spread=%.2f hot_vs_hot_floor=%.2f syncs_per_tx_c1=%.2f "+
		"p50_ratio_c1=%.2f history_drop=%.3f five_branch_p50_ratio=%.2f recovery_s=%.2f\n",
		ratio(1), ratio(8), ratio(32), ratio(full), hotVsSpread, hotVsFloor, global[1].per.syncs, p50, drop, fiveParts, recovery.Seconds())
	if ratio(full) < leastC64 || hotVsSpread < leastHot || hotVsFloor < leastHotFloor || global[1].per.syncs > mostSyncs || p50 > mostP50 ||
		drop >= mostDrop || fiveParts > mostFive || recovery > mostRecovery {
		return errBars
	}
	return nil
}

// local is the floor: both sides of a transfer in one database, one transaction.
func (r *rig) local(ctx context.Context, hot bool) error {
	from, to := parties(hot)
	tx, err := r.pools["floor"].Begin(ctx)
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

// global is the same through the coordinator, in so many services: out of an account of the first, into one of the second,
// and out of the third into the fourth. A fifth pays itself nothing less than what it takes.
func (r *rig) global(services int) work {
	return func(ctx context.Context, hot bool) error {
		in := &coordinator.BeginInput{Body: coordinator.Begin{GID: uuid.Must(uuid.NewV7())}}
		from, to := parties(hot)
		for i, service := range names[:services] {
			action, account, amount := "debit", from, int64(1)
			if i%2 == 1 {
				action, account = "credit", to
			} else if i == services-1 {
				amount = 0
			}
			payload, err := json.Marshal(testkit.Transfer{Account: account, Amount: amount})
			if err != nil {
				return err
			}
			in.Body.Branches = append(in.Body.Branches, coordinator.Branch{Service: service, Action: action, Key: account, Payload: payload})
		}
		done, err := coordinator.BeginTransaction.Call(ctx, r.client.Client, in)
		if err != nil {
			return err
		}
		if done.Body.State != coordinator.Committed {
			return fmt.Errorf("transfer %s: %s", in.Body.GID, done.Body.State)
		}
		return nil
	}
}

// recovery kills the only coordinator with all clients under way, and gives how long after its start everything is carried
// out. Transactions go in company, and a kill may come just when a company is done: then it is tried again.
func (r *rig) recovery(ctx context.Context, do work) (took time.Duration, err error) {
	const tries = 5
	for range tries {
		if took, err = r.recover(ctx, do); !errors.Is(err, errNothingLeft) {
			return took, err
		}
	}
	return 0, err
}

var errNothingLeft = errors.New("the kill has left nothing to recover")

func (r *rig) recover(ctx context.Context, do work) (time.Duration, error) {
	name := r.shop.Instances("coordinator")[0].Name
	busy, calm := context.WithCancel(ctx)
	defer calm()
	var clients sync.WaitGroup
	for range full {
		clients.Go(func() {
			for busy.Err() == nil && do(busy, false) == nil { // each ends with the coordinator
			}
		})
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(warmUp):
	}
	if err := r.shop.Kill(ctx, name); err != nil {
		return 0, err
	}
	calm()
	clients.Wait()
	rest, err := r.atRest(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := r.shop.Start(ctx, name); err != nil {
		return 0, err
	}
	if rest {
		return 0, errors.Join(errNothingLeft, r.shop.WaitReady(ctx, name))
	}
	if err := until(ctx, time.Minute, func() (bool, error) { return r.atRest(ctx) }); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, r.shop.WaitReady(ctx, name)
}

// drop is by how much throughput drops for a long history: a million copies of a decision. It is measured without, with,
// and twice so, for what the machine does meanwhile to even out.
func (r *rig) drop(ctx context.Context, row func(what string) (result, error)) (float64, error) {
	register := r.pools["coordinator"]
	var without, with float64
	for range 2 {
		m, err := row("2pc")
		if err != nil {
			return 0, err
		}
		without += m.perSecond
		if _, err := register.Exec(ctx, `INSERT INTO decision (gid, outcome, digest, branches, deadline, decided_at, completed_at, next_at, timeline)
			SELECT gen_random_uuid(), outcome, digest, branches, deadline, decided_at - n * interval '0.5 s', completed_at, next_at, timeline
			FROM (SELECT * FROM decision WHERE completed_at IS NOT NULL LIMIT 1) AS one, generate_series(1, $1) AS n`, history); err != nil {
			return 0, err
		}
		for _, sql := range []string{"VACUUM ANALYZE decision", "CHECKPOINT"} {
			if _, err := register.Exec(ctx, sql); err != nil {
				return 0, err
			}
		}
		if m, err = row("+history"); err != nil {
			return 0, err
		}
		with += m.perSecond
		for _, sql := range []string{"DELETE FROM decision WHERE completed_at IS NOT NULL", "VACUUM decision", "CHECKPOINT"} {
			if _, err := register.Exec(ctx, sql); err != nil {
				return 0, err
			}
		}
	}
	return max(0, 1-with/without), nil
}
