package main

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"syscall"
	"time"
)

// The rows in which a whole service fails.

// wholeService lets every instance fail: first some of the calls, which retries hide as far as they may, then all of them.
func wholeService(ctx context.Context, t *trial) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	fresh, err := t.node(ctx, "fresh", "CHAOS_CALLS="+t.name+"-up")
	if err != nil {
		return err
	}
	if err := fresh.knows(ctx, t.name+"-up", 3); err != nil {
		return err
	}
	if err := t.warm(ctx, caller, append(up, fresh)...); err != nil {
		return err
	}
	if t.healthy, err = caller.call(ctx, load{Callee: t.name + "-up", PerSecond: perSecond, Calls: 2 * perSecond}); err != nil {
		return err
	}
	if err := t.extraLoad(ctx, up); err != nil {
		return err
	}

	// A caller that has no successes to set the failures against.
	if err := misbehaveAll(ctx, up, fault{Status: http.StatusServiceUnavailable}); err != nil {
		return err
	}
	if _, err := arrivals(ctx, up); err != nil {
		return err
	}
	end, err := fresh.begin(ctx, load{Callee: t.name + "-up", PerSecond: 100})
	if err != nil {
		return err
	}
	_ = rest(ctx, 14*time.Second)
	over := time.Now()
	came, err := arrivals(ctx, up)
	if err != nil {
		return err
	}
	if err := misbehaveAll(ctx, up, fault{}); err != nil {
		return err
	}
	_ = rest(ctx, 8*time.Second)
	calls, err := end()
	if err != nil {
		return err
	}
	snap, err := fresh.see(ctx)
	if err != nil {
		return err
	}
	changes := eventsOf(snap, "breaker")
	if len(changes) == 0 || changes[0].To != "open" || changes[len(changes)-1].To != "closed" {
		t.atLeast("the breaker opened, and closed again", 0, 1, "")
		return nil
	}
	opened, closed := changes[0].At, changes[len(changes)-1].At
	// The breaker counts a call before its caller knows, so a call that had just ended is among them.
	failures := calls.failed().where(func(c sample) bool { return c.ended() <= opened.UnixMicro() })
	t.during = append(t.during, calls...)
	t.recovery = closed.Sub(over)
	t.atMost("failures until the breaker opened", float64(len(failures)), 20, "")
	t.atMost("requests that the service saw in any 5 s with the breaker open", float64(most(came, opened, 5*time.Second)), 3, "")
	t.atMost("the breaker closes after the recovery", t.recovery.Seconds(), 6, " s")
	t.atMost("calls that failed later than that", float64(len(calls.failed().where(func(c sample) bool { return c.Began > closed.UnixMicro() }))), 0, "")
	return t.leaks(ctx)
}

// extraLoad counts what arrives at a service that refuses a quarter of its calls, more than is called, in the first ten seconds
// of a caller's life: that is the time over which retries are counted, and it has no savings from before.
func (t *trial) extraLoad(ctx context.Context, up []*process) error {
	caller, err := t.node(ctx, "partly", "CHAOS_CALLS="+t.name+"-up")
	if err != nil {
		return err
	}
	if err := caller.knows(ctx, t.name+"-up", len(up)); err != nil {
		return err
	}
	if err := misbehaveAll(ctx, up, fault{Status: http.StatusServiceUnavailable, Share: 0.25}); err != nil {
		return err
	}
	if _, err := arrivals(ctx, up); err != nil {
		return err
	}
	const seconds = 10
	if t.during, err = caller.call(ctx, load{Callee: t.name + "-up", PerSecond: perSecond, Calls: seconds * perSecond}); err != nil {
		return err
	}
	came, err := arrivals(ctx, up)
	if err != nil {
		return err
	}
	if err := caller.end(ctx, syscall.SIGKILL); err != nil { // with its connections
		return err
	}
	n := float64(len(t.during))
	t.atMost("requests more than "+number(n)+" calls in 10 s, a quarter refused", float64(len(came))-n, 0.1*n+3*seconds, "")
	t.atLeast("the same: calls that failed, because there was no retry for them", float64(t.during.results()["503"]), 100, "")
	return nil
}

// arrivals are the moments at which requests came in at the nodes since the last time, in order.
func arrivals(ctx context.Context, nodes []*process) (came []int64, err error) {
	for _, p := range nodes {
		w, err := p.work(ctx)
		if err != nil {
			return nil, err
		}
		came = append(came, w.Arrived...)
	}
	slices.SortFunc(came, cmp.Compare)
	return came, nil
}

// most is the largest number of moments after from that lie within any time of that length. What had been sent by then is
// on its way for some milliseconds more.
func most(moments []int64, from time.Time, within time.Duration) (n int) {
	const onTheWay = 100 * time.Millisecond
	for i, first := range moments {
		if first <= from.Add(onTheWay).UnixMicro() {
			continue
		}
		k := i
		for k < len(moments) && moments[k] < first+within.Microseconds() {
			k++
		}
		n = max(n, k-i)
	}
	return n
}

func misbehaveAll(ctx context.Context, nodes []*process, f fault) error {
	for _, p := range nodes {
		if err := p.misbehave(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// threeHops lets the last of three services fail, and counts what arrives there for each call at the first.
func threeHops(ctx context.Context, t *trial) error {
	c, err := t.node(ctx, "c")
	if err != nil {
		return err
	}
	b, err := t.node(ctx, "b", "CHAOS_NEXT="+t.name+"-c")
	if err != nil {
		return err
	}
	a, err := t.node(ctx, "a", "CHAOS_NEXT="+t.name+"-b")
	if err != nil {
		return err
	}
	caller, err := t.node(ctx, "caller", "CHAOS_CALLS="+t.name+"-a")
	if err != nil {
		return err
	}
	for _, link := range []struct {
		from *process
		to   string
	}{{caller, "a"}, {a, "b"}, {b, "c"}} {
		if err := link.from.knows(ctx, t.name+"-"+link.to, 1); err != nil {
			return err
		}
	}
	all := load{Callee: t.name + "-a", PerSecond: perSecond}
	warm := all
	warm.Calls = perSecond
	end, err := caller.begin(ctx, warm)
	if err != nil {
		return err
	}
	if t.healthy, err = end(); err != nil {
		return err
	}
	if err := t.watch(ctx, a, b, c, caller); err != nil {
		return err
	}
	// Partly down is the worse outage: as long as no breaker opens, every hop retries. Then all of it.
	for _, outage := range []struct {
		what  string
		share float64
	}{{"30 of 100 refused", 0.3}, {"all refused", 1}} {
		if err := c.misbehave(ctx, fault{Status: http.StatusServiceUnavailable, Share: outage.share}); err != nil {
			return err
		}
		if _, err := c.work(ctx); err != nil {
			return err
		}
		if end, err = caller.begin(ctx, all); err != nil {
			return err
		}
		_ = rest(ctx, 10*time.Second)
		calls, err := end()
		if err != nil {
			return err
		}
		came, err := c.work(ctx)
		if err != nil {
			return err
		}
		t.during = append(t.during, calls...)
		t.atMost(outage.what+": arrivals at the third hop per call", float64(len(came.Arrived))/float64(len(calls)), 1.35, "×")
		t.atLeast(outage.what+": calls per second", float64(len(calls))/10, perSecond*0.98, "")
	}
	if err := c.misbehave(ctx, fault{}); err != nil {
		return err
	}
	over := time.Now()
	if end, err = caller.begin(ctx, all); err != nil {
		return err
	}
	_ = rest(ctx, 8*time.Second)
	calls, err := end()
	if err != nil {
		return err
	}
	t.recovery = calls.lastFailure(over)
	// Breakers in a row open one after the other, and close from the last hop up: each may have to wait for its own 5 s.
	t.atMost("all is well again", t.recovery.Seconds(), 6, " s")
	return t.leaks(ctx)
}
