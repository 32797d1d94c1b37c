package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"souk/deploy/proc"

	"golang.org/x/sync/errgroup"
)

// oddities are states that a breaker, a gate or a resolver must get out of. One caller calls five services, each with its own
// trouble, at the same time; then a hundred instances join a sixth.
func oddities(ctx context.Context, t *trial) error {
	name := func(s string) string { return t.name + "-" + s }
	counts := map[string]int{"probe": 2, "flap": 2, "one": 1, "empty": 2, "crowd": 1, "up": 2}
	calls := "CHAOS_CALLS="
	nodes := map[string][]*process{}
	var survivors []*process
	for service, n := range counts {
		list, err := t.several(ctx, service, n)
		if err != nil {
			return err
		}
		nodes[service] = list
		calls += name(service) + ","
		if service != "empty" {
			survivors = append(survivors, list...)
		}
	}
	caller, err := t.node(ctx, "caller", calls+name("nobody"))
	if err != nil {
		return err
	}
	for service, n := range counts {
		if err := caller.knows(ctx, name(service), n); err != nil {
			return err
		}
	}
	if err := t.warm(ctx, caller, survivors...); err != nil {
		return err
	}
	if t.healthy, err = caller.call(ctx, load{Callee: name("up"), PerSecond: perSecond, Calls: perSecond}); err != nil {
		return err
	}

	var all errgroup.Group
	results := make(chan *trial, 4)
	for service, run := range map[string]func(context.Context, *trial, *process, []*process) error{
		"probe": hangingProbe, "flap": flapping, "one": onlyOne, "empty": emptied,
	} {
		all.Go(func() error {
			part := &trial{row: row{name: name(service)}}
			err := run(ctx, part, caller, nodes[service])
			results <- part
			return err
		})
	}
	err = all.Wait()
	close(results)
	for part := range results {
		t.checks, t.during, t.recovery = append(t.checks, part.checks...), append(t.during, part.during...), max(t.recovery, part.recovery)
	}
	if err != nil {
		return err
	}
	if err := t.crowd(ctx, caller); err != nil {
		return err
	}
	return t.leaks(ctx)
}

// hangingProbe opens a breaker and lets its probes hang.
func hangingProbe(ctx context.Context, t *trial, caller *process, up []*process) error {
	end, err := caller.begin(ctx, load{Callee: t.name, PerSecond: 50})
	if err != nil {
		return err
	}
	var over time.Time
	for _, step := range []struct {
		f    fault
		stay time.Duration
	}{{fault{Status: http.StatusServiceUnavailable}, 3 * time.Second}, {fault{Hang: true}, 12 * time.Second}, {fault{}, 8 * time.Second}} {
		over = time.Now()
		if err := misbehaveAll(ctx, up, step.f); err != nil {
			return err
		}
		_ = rest(ctx, step.stay)
	}
	calls, err := end()
	if err != nil {
		return err
	}
	t.recovery = calls.lastFailure(over)
	snap, err := caller.see(ctx)
	if err != nil {
		return err
	}
	hung := 0
	for _, e := range eventsOf(snap, "breaker") {
		if e.Callee == t.name && e.From == "half_open" && e.To == "open" {
			hung++
		}
	}
	t.atLeast("hanging probes that ended and opened the breaker again", float64(hung), 1, "")
	t.atMost("hanging probes: all is well again", t.recovery.Seconds(), 6, " s")
	return nil
}

// flapping has a node that fails and is well by turns, beside one that is slow, so that it is worth choosing for as long as it
// is not ejected.
func flapping(ctx context.Context, t *trial, caller *process, up []*process) error {
	if err := up[0].misbehave(ctx, fault{Factor: 60}); err != nil {
		return err
	}
	if err := up[1].misbehave(ctx, fault{Status: http.StatusInternalServerError, PeriodMs: 1500}); err != nil {
		return err
	}
	end, err := caller.begin(ctx, load{Callee: t.name, PerSecond: 60})
	if err != nil {
		return err
	}
	_ = rest(ctx, 22*time.Second)
	if err := misbehaveAll(ctx, up, fault{}); err != nil {
		return err
	}
	if _, err := end(); err != nil {
		return err
	}
	snap, err := caller.see(ctx)
	if err != nil {
		return err
	}
	var times []float64
	for _, e := range eventsOf(snap, "ejected") {
		if e.Instance == up[1].id() {
			times = append(times, float64(e.ForMs)/1000)
		}
	}
	t.atLeast("flapping: ejections", float64(len(times)), 2, "")
	for i := 1; i < len(times); i++ {
		t.atLeast("flapping: ejection "+strconv.Itoa(i+1)+" against the one before", times[i]/times[i-1], 1.3, "×") // twice, give or take a fifth
	}
	calls, err := caller.call(ctx, load{Callee: t.name, PerSecond: 50, Calls: 100})
	if err != nil {
		return err
	}
	t.during = calls
	t.atMost("flapping: calls that failed when it was over", float64(len(calls.failed())), 0, "")
	return nil
}

// onlyOne is ill, and must not be ejected: there is nobody else.
func onlyOne(ctx context.Context, t *trial, caller *process, up []*process) error {
	if err := up[0].misbehave(ctx, fault{Status: http.StatusInternalServerError, Share: 0.3}); err != nil {
		return err
	}
	calls, err := caller.call(ctx, load{Callee: t.name, PerSecond: 50, Calls: 500})
	if err != nil {
		return err
	}
	if err := up[0].misbehave(ctx, fault{}); err != nil {
		return err
	}
	snap, err := caller.see(ctx)
	if err != nil {
		return err
	}
	ejected := 0
	for _, e := range eventsOf(snap, "ejected") {
		if e.Callee == t.name {
			ejected++
		}
	}
	t.atMost("the only instance: ejections", float64(ejected), 0, "")
	t.atLeast("the only instance: calls that succeeded while it failed 30 of 100", 100*calls.success(), 60, " %")
	if t.during, err = caller.call(ctx, load{Callee: t.name, PerSecond: 50, Calls: 100}); err != nil {
		return err
	}
	t.atMost("the only instance: calls that failed when it was well", float64(len(t.during.failed())), 0, "")
	return nil
}

// emptied loses all its instances, and gets them back.
func emptied(ctx context.Context, t *trial, caller *process, up []*process) error {
	var all errgroup.Group
	for _, p := range up {
		all.Go(func() error { return p.end(ctx, syscall.SIGTERM) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	calls, err := caller.call(ctx, load{Callee: t.name, PerSecond: 20, Calls: 60})
	if err != nil {
		return err
	}
	t.atMost("an empty service: calls that succeeded", float64(len(calls)-len(calls.failed())), 0, "")
	t.atMost("an empty service: the 99th percentile of being told so", ms(calls.p99()), 1000, " ms")
	nobody, err := caller.call(ctx, load{Callee: "odd-nobody", PerSecond: 20, Calls: 20})
	if err != nil {
		return err
	}
	t.atLeast("a service that never was: calls told that it has no instances", float64(nobody.results()["no_instances"]), 20, "")

	end, err := caller.begin(ctx, load{Callee: t.name, PerSecond: 50})
	if err != nil {
		return err
	}
	back := time.Now()
	for _, p := range up {
		if err := p.start(); err != nil {
			return err
		}
	}
	_ = rest(ctx, 10*time.Second)
	if t.during, err = end(); err != nil {
		return err
	}
	t.recovery = t.during.lastFailure(back)
	t.during = t.during.between(back.Add(t.recovery), time.Now())
	t.atMost("an empty service: all is well after its instances started again", t.recovery.Seconds(), 6, " s")
	return nil
}

const crowdSize = 100

// crowd lets a hundred instances join a service of one.
func (t *trial) crowd(ctx context.Context, caller *process) error {
	service := t.name + "-crowd"
	before, err := caller.usage(ctx)
	if err != nil {
		return err
	}
	const for_ = 6 * time.Second
	if _, err := caller.call(ctx, load{Callee: service, PerSecond: 100, Calls: int(100 * for_.Seconds())}); err != nil {
		return err
	}
	usual, err := caller.usage(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(t.dir, service+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(self) //nolint:noctx // it is ended below
	cmd.Env = append(os.Environ(), "CHAOS_CROWD="+service, "CONSUL_HTTP_ADDR="+t.consul)
	cmd.Stdout, cmd.Stderr = out, out
	begin := time.Now()
	ended, err := proc.Attached(cmd)
	if err != nil {
		return err
	}
	t.cleanups = append(t.cleanups, func(context.Context) error { _ = cmd.Process.Kill(); <-ended; return nil })
	end, err := caller.begin(ctx, load{Callee: service, PerSecond: 100})
	if err != nil {
		return err
	}
	if err := caller.knows(ctx, service, 1+crowdSize); err != nil {
		return err
	}
	joined := time.Since(begin)
	_ = rest(ctx, max(time.Second, for_-joined))
	took := time.Since(begin)
	calls, err := end()
	if err != nil {
		return err
	}
	busy, err := caller.usage(ctx)
	if err != nil {
		return err
	}
	t.during = append(t.during, calls...)
	t.atMost("100 join: calls that failed", float64(len(calls.failed())), 0, "")
	t.atMost("100 join: known to the caller after", joined.Seconds(), patience.Seconds(), " s")
	t.atLeast("100 join: different instances that answered", float64(len(calls.instances())), 50, "")
	t.atMost("100 join: the caller's processor time against the same calls before",
		(busy.cpu-usual.cpu).Seconds()/took.Seconds()/((usual.cpu-before.cpu).Seconds()/for_.Seconds()), 3, "×")

	// They leave in good order, and the caller lets go of what it had of them.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return caller.knows(ctx, service, 1)
}

// instances are those that answered.
func (s samples) instances() map[string]int {
	n := map[string]int{}
	for _, c := range s {
		if c.Result == ok {
			n[c.Instance]++
		}
	}
	return n
}
