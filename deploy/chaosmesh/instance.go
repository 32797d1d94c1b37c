package main

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	perSecond = 300
	readTry   = time.Second // the mesh's time for one try of a read
)

// The rows in which something happens to one instance.

func killOne(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up[1:]...); err != nil {
		return err
	}
	end, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: perSecond})
	if err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)
	killed, victim := time.Now(), up[0]
	if err := victim.end(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	late, probes, err := triesAfter(ctx, caller, victim, 500*time.Millisecond, 7*time.Second) // by then Consul has noticed, too
	if err != nil {
		return err
	}
	restarted := time.Now()
	if err := victim.start(); err != nil {
		return err
	}
	_ = rest(ctx, 7*time.Second)
	calls, err := end()
	if err != nil {
		return err
	}
	t.healthy, t.during = calls.between(time.Time{}, killed), calls.between(killed, time.Now())
	t.recovery = t.during.back(victim, restarted)
	t.atLeast("calls that succeeded", 100*t.during.success(), 99.9, " %")
	t.atMost("tries at the dead one later than 0.5 s, besides its probes", float64(late-probes), 0, "")
	t.atMost("it serves again after its start", t.recovery.Seconds(), 5, " s")
	return t.leaks(ctx)
}

// triesAfter watches from the given moment on, for so long, how many tries a caller makes at an instance, and how many of
// them are the probes of one that is ejected.
func triesAfter(ctx context.Context, caller, victim *process, from, for_ time.Duration) (late, probes int, err error) {
	_ = rest(ctx, from)
	snap, err := caller.see(ctx)
	if err != nil {
		return 0, 0, err
	}
	before := endpoint(snap, victim.id()).Tries
	known := len(snap.Events)
	for begin := time.Now(); time.Since(begin) < for_-from; {
		if snap, err = caller.see(ctx); err != nil {
			return 0, 0, err
		}
		if e := endpoint(snap, victim.id()); e.ID != "" {
			late = int(e.Tries.OK + e.Tries.Failed - before.OK - before.Failed) //nolint:gosec // a few at most
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
	for _, e := range snap.Events[min(known, len(snap.Events)):] {
		if e.Instance == victim.id() && e.Reason == "probe" {
			probes++
		}
	}
	return late, probes, nil
}

// back is how long after its start an instance answered the first call; an hour if it never did.
func (s samples) back(p *process, started time.Time) time.Duration {
	first := s.where(func(c sample) bool {
		return c.Result == ok && c.Instance == p.instance && c.ended() > started.UnixMicro()
	}).first()
	if first.ID == "" {
		return time.Hour
	}
	return time.Duration(first.ended()-started.UnixMicro()) * time.Microsecond
}

// killUnderPost asks: does a call fail that was not on the wire to the one that died, and is anything made twice?
func killUnderPost(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up[2]); err != nil {
		return err
	}
	end, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: perSecond, Method: http.MethodPost})
	if err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)
	type death struct {
		victim     *process
		from, till time.Time
	}
	var deaths []death
	for _, victim := range up[:2] {
		d := death{victim: victim, from: time.Now()}
		if err := victim.end(ctx, syscall.SIGKILL); err != nil {
			return err
		}
		d.till = time.Now()
		deaths = append(deaths, d)
		_ = rest(ctx, time.Second)
		if err := victim.start(); err != nil {
			return err
		}
		_ = rest(ctx, 5*time.Second)
	}
	calls, err := end()
	if err != nil {
		return err
	}
	t.healthy, t.during = calls.between(time.Time{}, deaths[0].from), calls.between(deaths[0].from, time.Now())
	t.recovery = t.during.back(up[1], deaths[1].till.Add(time.Second))
	// A caller may write to a connection before the news of its end has come: as many milliseconds as a busy machine takes.
	const news = 50 * time.Millisecond
	onWire := t.during.failed().where(func(c sample) bool {
		for _, d := range deaths {
			if c.Result == "broken" && c.Instance == d.victim.id() && c.ended() >= d.from.UnixMicro() && c.Began <= d.till.Add(news).UnixMicro() {
				return true
			}
		}
		return false
	})
	t.atMost("the second serves again after its start", t.recovery.Seconds(), 5, " s")
	made, twice, err := t.made(up)
	if err != nil {
		return err
	}
	lost := t.during.where(func(c sample) bool { return c.Result == ok && made[c.ID] != 1 })
	t.atMost("calls that failed though they were not on the wire to the dead one", float64(len(t.during.failed())-len(onWire)), 0, "")
	t.atMost("things made twice", float64(twice), 0, "")
	t.atMost("calls answered well whose thing was not made once", float64(len(lost)), 0, "")
	return t.leaks(ctx)
}

// made counts how often each thing was made, by the nodes' ledgers.
func (t *trial) made(up []*process) (made map[string]int, twice int, err error) {
	made = map[string]int{}
	for _, p := range up {
		b, err := os.ReadFile(t.dir + "/" + p.instance + ".ledger")
		if err != nil {
			return nil, 0, err
		}
		for id := range strings.FieldsSeq(string(b)) {
			if made[id]++; made[id] > 1 {
				twice++
			}
		}
	}
	return made, twice, nil
}

func failFast(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	calls, begun, over, err := t.spell(ctx, caller, 20*time.Second, func(on bool) error {
		return up[0].misbehave(ctx, fault{Status: map[bool]int{true: http.StatusInternalServerError}[on]})
	})
	if err != nil {
		return err
	}
	t.healthy, t.during = calls.between(time.Time{}, begun), calls.between(begun, time.Now())
	t.recovery = calls.lastFailure(over)
	t.atMost("calls that failed", 100*t.during.failure(), 0.1, " %")
	return t.leaks(ctx)
}

// spell makes calls around a fault that lasts for a while, and gives the moments when it began and was over.
func (t *trial) spell(ctx context.Context, caller *process, for_ time.Duration, set func(on bool) error) (calls samples, begun, over time.Time, err error) {
	end, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: perSecond})
	if err != nil {
		return nil, begun, over, err
	}
	_ = rest(ctx, 4*time.Second)
	begun = time.Now()
	if err := set(true); err != nil {
		return nil, begun, over, err
	}
	_ = rest(ctx, for_)
	over = time.Now()
	if err := set(false); err != nil {
		return nil, begun, over, err
	}
	_ = rest(ctx, time.Second)
	calls, err = end()
	return calls, begun, over, err
}

func hangOne(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	for what, set := range map[string]func(bool) error{
		"handler": func(on bool) error { return up[0].misbehave(ctx, fault{Hang: on}) },
		"SIGSTOP": func(on bool) error {
			return up[1].signal(map[bool]syscall.Signal{true: syscall.SIGSTOP, false: syscall.SIGCONT}[on])
		},
	} {
		calls, begun, over, err := t.spell(ctx, caller, 8*time.Second, set)
		if err != nil {
			return err
		}
		during := calls.between(begun, time.Now())
		t.healthy, t.during = append(t.healthy, calls.between(time.Time{}, begun)...), append(t.during, during...)
		t.recovery = max(t.recovery, calls.lastFailure(over))
		t.atMost(what+": p99", ms(during.p99()), ms(readTry), " ms")
		t.atMost(what+": calls that failed", 100*during.failure(), 0.1, " %")
	}
	return t.leaks(ctx)
}

func slowDown(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	slow := func(what string, nodes ...*process) error {
		calls, begun, over, err := t.spell(ctx, caller, 10*time.Second, func(on bool) error {
			return misbehaveAll(ctx, nodes, fault{Factor: map[bool]float64{true: 60}[on]})
		})
		if err != nil {
			return err
		}
		healthy, during := calls.between(time.Time{}, begun), calls.between(begun, over)
		t.healthy, t.during = append(t.healthy, healthy...), append(t.during, during...)
		t.recovery = max(t.recovery, calls.lastFailure(over))
		t.atMost(what+": p99 against the healthy one", float64(during.p99())/float64(healthy.p99()), 2, "×")
		t.atMost(what+": calls that failed", 100*during.failure(), 0, " %")
		return nil
	}
	if err := slow("one of 3", up[0]); err != nil {
		return err
	}
	fourth, err := t.node(ctx, "up")
	if err != nil {
		return err
	}
	if err := caller.knows(ctx, t.name+"-up", 4); err != nil {
		return err
	}
	if err := slow("two of 4", up[1], fourth); err != nil {
		return err
	}
	return t.leaks(ctx)
}

// blameless makes calls that fail by their callers' own doing.
func blameless(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	all := func(f fault) error { return misbehaveAll(ctx, up, f) }
	calls := func(l load) (samples, error) {
		l.Callee = t.name + "-up"
		return caller.call(ctx, l)
	}
	if t.healthy, err = calls(load{PerSecond: perSecond, Calls: 2 * perSecond}); err != nil {
		return err
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests} {
		if err := all(fault{Status: status}); err != nil {
			return err
		}
		got, err := calls(load{PerSecond: perSecond, Calls: 400})
		if err != nil {
			return err
		}
		t.atLeast("calls answered "+http.StatusText(status), float64(got.results()[strconv.Itoa(status)]), 400, "")
	}
	if err := all(fault{Factor: 30}); err != nil {
		return err
	}
	got, err := calls(load{PerSecond: perSecond, Calls: 1000, CancelAfter: 10})
	if err != nil {
		return err
	}
	t.atLeast("calls given up", float64(got.results()["canceled"]), 990, "")
	if err := all(fault{}); err != nil {
		return err
	}
	if t.during, err = calls(load{PerSecond: perSecond, Calls: 2 * perSecond}); err != nil {
		return err
	}
	snap, err := caller.see(ctx)
	if err != nil {
		return err
	}
	t.atMost("changes of breakers", float64(len(eventsOf(snap, "breaker"))), 0, "")
	t.atMost("ejections", float64(len(eventsOf(snap, "ejected"))), 0, "")
	t.atLeast("calls that succeed afterwards", 100*t.during.success(), 100, " %")
	return t.leaks(ctx)
}
