package mesh

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// tryUntilDone makes tries until one is final.
func (c *call) tryUntilDone(ctx context.Context) trial {
	if !c.noRetry { // what may not be repeated earns nothing: retries of retries would be paid with it, hop by hop
		c.svc.budget.call(c.began)
	}
	for attempt := 1; ; attempt++ {
		t := c.attempt(ctx, attempt)
		if t.impostor && !c.wasHedged && ctx.Err() == nil && c.body.again() {
			attempt-- // it was no instance, so that was no try
			continue
		}
		pause, again := c.another(ctx, t, attempt)
		if !again {
			return t
		}
		t.discard()
		c.mesh.metrics.retries.WithLabelValues(c.svc.name, t.outcome.String()).Inc()
		if !wait(ctx, pause) {
			return givenUp(ctx)
		}
	}
}

// attempt chooses an instance and tries it.
func (c *call) attempt(ctx context.Context, attempt int) trial {
	endpoints, err := c.svc.endpoints(ctx)
	if ctx.Err() != nil {
		return givenUp(ctx)
	}
	if len(endpoints) == 0 {
		return trial{outcome: noInstances, err: err}
	}
	now := c.mesh.deps.Now()
	limit := c.tryLimit(now, max(1, c.mesh.cfg.Tries-attempt+1))
	if limit <= hopCost {
		return trial{outcome: spent, err: errSpent}
	}
	e, probe := c.svc.pick(endpoints, choice{now: now, tried: c.tried, repeatable: c.repeatable, limit: limit})
	if e == nil {
		return trial{outcome: full, err: errFull}
	}
	c.tried = append(c.tried, e)
	c.suspect = probe || e.latency.penalised.Load()
	if attempt == 1 && !probe && c.hedgeable() {
		return c.hedged(ctx, endpoints, e, now, limit)
	}
	try := c.newTry(e)
	t := try.run(try.begin(ctx), attempt, now, limit)
	c.sent = c.sent || t.sent
	e.learn(t, probe, limit)
	t.impostor = t.impostor && c.svc.expel(e, t.at)
	return t
}

// givenUp is the end of a call whose caller's context ended between tries.
func givenUp(ctx context.Context) trial {
	if ctx.Err() == context.DeadlineExceeded {
		return trial{outcome: spent, err: ctx.Err()}
	}
	return trial{outcome: canceled, err: ctx.Err()}
}

// another decides whether t is to be followed by another try, and after what pause.
func (c *call) another(ctx context.Context, t trial, attempt int) (pause time.Duration, again bool) {
	cfg := c.mesh.cfg
	if attempt >= cfg.Tries || c.wasHedged || ctx.Err() != nil || !c.body.again() {
		return 0, false
	}
	if c.probe && t.outcome != unreachable { // the breaker has let one request through, not two
		return 0, false
	}
	switch rulings[t.outcome].repeat {
	case never:
		// A 500 is the request's own fault as often as not, and not repeated. But from an instance that failed the last time,
		// too, while another did not, it is the instance's; and that it was asked at all was to find out about it.
		if t.outcome != serverError || !c.suspect || !c.repeatable || c.noRetry || !c.svc.hasSound(c.tried) {
			return 0, false
		}
	case harmless:
		if !c.repeatable || c.noRetry {
			return 0, false
		}
	case delayed:
		if !c.repeatable || c.noRetry || t.retryAfter == 0 {
			return 0, false
		}
	}
	// Another instance owes nothing to the one that refused the connection; everything else may be load, and is given room.
	if !t.refused || !c.svc.hasOther(c.tried) {
		pause = rand.N(min(25*time.Millisecond<<(attempt-1), 250*time.Millisecond))
	}
	if rulings[t.outcome].repeat == delayed {
		pause += t.retryAfter
	}
	if pause+hopCost >= c.remaining() || !c.svc.budget.spend(c.mesh.deps.Now()) {
		return 0, false
	}
	return pause, c.body.reclaim()
}

// hasOther tells whether the service has an instance that was not tried yet.
func (s *service) hasOther(tried []*endpoint) bool {
	set := s.set.Load()
	return set != nil && slices.ContainsFunc(set.list, func(e *endpoint) bool { return !slices.Contains(tried, e) })
}

// hasSound tells whether the service has an instance that was not tried yet, is in service, and did not fail the last time.
func (s *service) hasSound(tried []*endpoint) bool {
	set := s.set.Load()
	return set != nil && slices.ContainsFunc(set.list, func(e *endpoint) bool {
		return !slices.Contains(tried, e) && !e.gate.ejected() && !e.latency.penalised.Load()
	})
}

// discard gives up a response that another try will replace. A short rest is read so that the connection can be used again.
func (t trial) discard() {
	if t.resp != nil {
		_, _ = io.CopyN(io.Discard, t.resp.Body, 4<<10)
		_ = t.resp.Body.Close()
	}
}

// wait pauses for d; false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
