package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/transport"

	"golang.org/x/sync/errgroup"
)

// overload finds the peak, goes ten times beyond it, sees the shop recover, and does so some times: a machine that others
// use too is faster now and slower then, by half within seconds, so what is compared takes turns.
func (l *load) overload(ctx context.Context) error {
	// Tokens are good for ten minutes, and the steady load may have taken those.
	g, signing := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, p := range append(slices.Clone(l.crowd), l.admin) {
		g.Go(func() error {
			if p == l.admin {
				return p.SignIn(signing, local.Admin, local.SeedPassword())
			}
			return p.SignIn(signing, p.Email, shopper.Password)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := l.come(ctx, others); err != nil {
		return err
	}
	c := newCrowd(l)
	var peak, over tally
	for range rounds {
		before, err := l.peak(ctx, c)
		if err != nil {
			return err
		}
		peak = peak.and(before)
		tenfold, err := l.crush(ctx, c, overFactor*before.perSecond())
		if err != nil {
			return err
		}
		over = over.and(tenfold)
		if err := l.recover(ctx, c, before.perSecond()/2); err != nil {
			return err
		}
	}
	after, err := l.peak(ctx, c)
	if err != nil {
		return err
	}
	l.goodput = over.perSecond() / peak.and(after).perSecond()
	if l.goodput < leastGood {
		l.fail("under overload the shop serves %.0f %% of what it can", 100*l.goodput)
	}
	return nil
}

// crush has more visitors come than the shop can serve.
func (l *load) crush(ctx context.Context, c *crowd, perSecond float64) (tally, error) {
	over := c.open(ctx, perSecond, overTime)
	l.say("overload   %s", over)
	if over.refused == 0 {
		l.fail("nobody was refused: that was no overload")
	}
	if over.odd > 0 {
		l.fail("%d had another answer than to come back later: %v", over.odd, c.oddity())
	}
	return over, ctx.Err()
}

// peak is what the shop can serve.
func (l *load) peak(ctx context.Context, c *crowd) (tally, error) {
	peak := c.closed(ctx, atPeak*l.apart.shops(), peakTime)
	l.say("peak       %s", peak)
	if peak.served == 0 {
		return peak, fmt.Errorf("at the peak nobody was served: %w", c.oddity())
	}
	if peak.odd > 0 {
		l.fail("at the peak %d had an answer that makes no sense: %v", peak.odd, c.oddity())
	}
	return peak, nil
}

// recover waits until the shop, asked for so much, is as it was.
func (l *load) recover(ctx context.Context, c *crowd, perSecond float64) error {
	began := time.Now()
	for {
		calm := c.open(ctx, perSecond, time.Second)
		l.say("recovery   %s", calm)
		if calm.refused == 0 && calm.odd == 0 && calm.slowest < time.Second {
			l.say("recovered %.1f s after the overload", time.Since(began).Seconds()-1)
			return nil
		}
		if time.Since(began) > recovery {
			l.fail("not recovered %s after the overload", recovery)
			return ctx.Err()
		}
	}
}

// tally is what came of a phase.
type tally struct {
	arrived, served, refused, odd int64 // visits; refused were told when to come back
	paid                          int64 // of those served, visits with an order
	requests                      int64
	slowest                       time.Duration // of the visits that were served, the 95th percentile
	took                          time.Duration
}

// and is what came of both, as far as perSecond goes.
func (t tally) and(other tally) tally {
	return tally{served: t.served + other.served, took: t.took + other.took}
}

func (t tally) perSecond() float64 { return float64(t.served) / t.took.Seconds() }

func (t tally) String() string {
	return fmt.Sprintf("%.0f visits a second (%.0f requests): %.1f served (%.1f paid), %.1f told to come back, %d odd; 95 of 100 served within %s",
		float64(t.arrived)/t.took.Seconds(), float64(t.requests)/t.took.Seconds(), t.perSecond(), float64(t.paid)/t.took.Seconds(), float64(t.refused)/t.took.Seconds(), t.odd, t.slowest.Round(time.Millisecond))
}

// crowd makes visits as the k6 script does, with the same shares, only cheaper: it must come ten times as often as the shop
// can serve, from the same machine.
type crowd struct {
	l        *load
	next     atomic.Uint64
	requests atomic.Int64
	lastOdd  atomic.Pointer[error]
}

func newCrowd(l *load) *crowd {
	c := &crowd{l: l}
	gateway := &transport.Pool{Addr: strings.TrimPrefix(l.shop.Gateway, "http://"), MaxIdle: 4096}
	for _, p := range append(slices.Clone(l.crowd), l.admin) {
		p.Client = &http.Client{Transport: &gatekeeper{p.Over(gateway), c}}
	}
	return c
}

func (c *crowd) oddity() error {
	if err := c.lastOdd.Load(); err != nil {
		return *err
	}
	return nil
}

// errRefused is a refusal that says when to come back.
var errRefused = errors.New("come back later")

// gatekeeper tells refusals that are as they should be from whatever else goes wrong.
type gatekeeper struct {
	next http.RoundTripper
	c    *crowd
}

// RoundTrip is part of http.RoundTripper.
func (g *gatekeeper) RoundTrip(r *http.Request) (*http.Response, error) {
	g.c.requests.Add(1)
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		if resp.Header.Get("Retry-After") != "" {
			_, err := io.Copy(io.Discard, resp.Body) // or the connection could not be used again
			return nil, errors.Join(errRefused, err, resp.Body.Close())
		}
	}
	return resp, nil
}

// patience is how long one visit may take.
const patience = 30 * time.Second

// visit is one customer's.
func (c *crowd) visit(ctx context.Context) (paid bool, err error) {
	n := c.next.Add(1)
	random := rand.New(rand.NewPCG(1, n))
	p := c.l.crowd[n%uint64(len(c.l.crowd))]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch dice := random.IntN(100); {
	case dice < 75:
		words := ""
		if dice < 25 {
			words = []string{"tea", "bowl", "lamp", "wool", "honey", "brass", "olive", "rug"}[random.IntN(8)]
		}
		if _, err := p.Browse(ctx, words); err != nil {
			return false, err
		}
		_, err := p.Browse(ctx, words)
		return false, err
	default:
		bought, err := p.Buy(ctx, c.l.shelf[random.IntN(goods)], 1+random.Int64N(3))
		if err != nil || dice < 95 {
			return true, err
		}
		return true, c.l.admin.Refund(ctx, *bought.PaymentID)
	}
}

// counting collects the visits of a phase.
type counting struct {
	mu    sync.Mutex
	t     tally
	times []time.Duration
}

func (k *counting) visit(ctx context.Context, c *crowd) (served bool) {
	began := time.Now()
	paid, err := c.visit(ctx)
	took := time.Since(began)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		k.t.served++
		if paid {
			k.t.paid++
		}
		k.times = append(k.times, took)
	case errors.Is(err, errRefused):
		k.t.refused++
	default:
		k.t.odd++
		c.lastOdd.Store(&err)
	}
	return err == nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (k *counting) end(took time.Duration, requests int64) tally {
	slices.Sort(k.times)
	if len(k.times) > 0 {
		k.t.slowest = k.times[len(k.times)*95/100]
	}
	k.t.took, k.t.requests = took, requests
	return k.t
}

// closed has n visitors at a time, each followed by the next, or a second later if they were refused.
func (c *crowd) closed(ctx context.Context, n int, d time.Duration) tally {
	var k counting
	var group sync.WaitGroup
	began, before := time.Now(), c.requests.Load()
	var arrived atomic.Int64
	for range n {
		group.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				arrived.Add(1)
				if !k.visit(ctx, c) {
					pause(ctx, time.Second) // as they were told
				}
			}
		})
	}
	group.Wait()
	k.t.arrived = arrived.Load()
	return k.end(time.Since(began), c.requests.Load()-before)
}

// open has visitors come at a rate, whether or not those before them have gone.
func (c *crowd) open(ctx context.Context, perSecond float64, d time.Duration) tally {
	var k counting
	var group sync.WaitGroup
	began, before := time.Now(), c.requests.Load()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	arrived := int64(0)
	for elapsed := time.Duration(0); elapsed < d && ctx.Err() == nil; elapsed = time.Since(began) {
		for ; float64(arrived) < perSecond*elapsed.Seconds(); arrived++ {
			group.Go(func() { k.visit(ctx, c) })
		}
		<-tick.C
	}
	// Who has come is served, or not, in the end; those who are served after the time count as nothing.
	k.mu.Lock()
	served, took := k.t.served, time.Since(began)
	k.mu.Unlock()
	group.Wait()
	t := k.end(took, c.requests.Load()-before)
	t.served, t.arrived = served, arrived
	return t
}
