package mesh

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	hedgeLeast   = 20 * time.Millisecond // sooner, a second request costs more than it can save
	hedgeSamples = 100                   // below which a 95th percentile is a guess
	hedgeShare   = 0.05                  // of the calls of a route
	hedgeMemory  = 30 * time.Second
)

// WithHedge lets a GET that takes longer than 95 % of its kind be asked of a second instance too; the first good answer is
// taken and the other request is cancelled. The kind of a request is its Pattern. It is for reads that are cheap to the callee and
// whose slowest are waited for: at most 5 % of the calls, and out of the budget of the retries. While an instance is
// ejected nothing is hedged: a callee in trouble needs no second requests.
func WithHedge(ctx context.Context) context.Context {
	return with(ctx, func(o *options) { o.hedge = true })
}

// pace is what is known of how long a kind of request takes, to decide about hedges. The zero value knows nothing.
type pace struct {
	mu            sync.Mutex
	recent, older Histogram // of the current and of the last hedgeMemory
	since         time.Time
	calls         window // calls, hedges
}

func (p *pace) observe(now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	p.recent[bucketOf(took)]++
	p.calls.add(now, 1, 0)
}

func (p *pace) turn(now time.Time) {
	if now.Sub(p.since) < hedgeMemory {
		return
	}
	p.older = p.recent
	if now.Sub(p.since) >= 2*hedgeMemory {
		p.older = Histogram{}
	}
	p.recent, p.since = Histogram{}, now
}

// delay is the 95th percentile, rounded up to the bound of its bucket; 0 if it is not known.
func (p *pace) delay(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	all := p.recent
	all.Add(&p.older)
	total := uint64(0)
	for _, n := range all {
		total += n
	}
	if total < hedgeSamples {
		return 0
	}
	bounds, seen := HistogramBounds(), uint64(0)
	for i, n := range all[:len(bounds)] {
		if seen += n; seen*100 >= total*95 {
			return max(hedgeLeast, bounds[i])
		}
	}
	return 0
}

// spend takes one hedge, if there is one.
func (p *pace) spend(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls, hedges := p.calls.sum(now, withinTen)
	if float64(hedges+1) > hedgeShare*float64(calls) {
		return false
	}
	p.calls.add(now, 0, 1)
	return true
}

// pace of a route.
func (s *service) pace(route string) *pace {
	s.pacesMu.Lock()
	defer s.pacesMu.Unlock()
	p := s.paces[route]
	if p == nil {
		if s.paces == nil {
			s.paces = make(map[string]*pace)
		}
		p = new(pace)
		s.paces[route] = p
	}
	return p
}

// hedgeable tells whether the first try of this call may get company.
func (c *call) hedgeable() bool {
	return c.hedge && !c.probe && !c.noRetry && methodLabel(c.req.Method) == http.MethodGet && c.body.original == nil
}

// hedged makes a try at e and, should it take unusually long, another one beside it. A second that fails is not followed by
// a third.
func (c *call) hedged(ctx context.Context, endpoints []*endpoint, e *endpoint, began time.Time, limit time.Duration) trial {
	p := c.svc.pace(c.req.Pattern)
	ends := make(chan trial, 2)
	start := func(e *endpoint, attempt int, began time.Time, limit time.Duration) *try {
		t := c.newTry(e)
		ctx := t.begin(ctx)
		go func() {
			end := t.run(ctx, attempt, began, limit)
			e.learn(end, false, limit)
			end.impostor = end.impostor && c.svc.expel(e, end.at)
			end.of = t
			ends <- end
		}()
		return t
	}
	one := start(e, 1, began, limit)
	end := c.company(ctx, p, endpoints, one, began, ends, start)
	c.sent = c.sent || end.sent
	if rulings[end.outcome].instance == success {
		p.observe(end.at, end.at.Sub(began))
	}
	return end
}

// company waits for the first try, or makes the second and waits for the better of both.
func (c *call) company(ctx context.Context, p *pace, endpoints []*endpoint, one *try, began time.Time, ends chan trial,
	start func(*endpoint, int, time.Time, time.Duration) *try,
) trial {
	delay := p.delay(began)
	if delay == 0 {
		return <-ends
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case end := <-ends:
		return end
	case <-timer.C:
	}
	now := c.mesh.deps.Now()
	limit := c.tryLimit(now, 1)
	if ctx.Err() != nil || limit <= hopCost || c.svc.ejected.Load() > 0 {
		return <-ends
	}
	e, probe := c.svc.pick(endpoints, choice{now: now, tried: c.tried, limit: limit})
	if e == nil || probe || slices.Contains(c.tried, e) || !p.spend(now) || !c.svc.budget.spend(now) {
		return <-ends
	}
	c.tried, c.sent, c.wasHedged = append(c.tried, e), true, true
	two := start(e, 2, now, limit)
	end, loser := <-ends, two
	if end.of == two {
		loser = one
	}
	if rulings[end.outcome].instance != success {
		other := <-ends
		if rulings[other.outcome].instance == success || end.resp == nil {
			end, other = other, end
		}
		other.discard()
	} else {
		if loser == one { // a cancelled try says nothing, but this one has taken that long already
			one.at.latency.observe(end.at, end.at.Sub(began))
		}
		loser.cancel(context.Canceled)
		go func() { (<-ends).discard() }() // it ends at once, or its answer has come as well
	}
	won := "false"
	if end.of == two && rulings[end.outcome].instance == success {
		won = "true"
	}
	c.mesh.metrics.hedges.WithLabelValues(c.svc.name, won).Inc()
	return end
}
