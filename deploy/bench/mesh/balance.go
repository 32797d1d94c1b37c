package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/mesh"
	"souk/shared/registry"
)

const balanceRate = 300 // calls a second, whoever is slow

// balancer is somebody who chooses among the instances. Each starts a round knowing nothing of them.
type balancer struct {
	name string
	make func(places []string) (caller, func())
}

func balancers() []balancer {
	return []balancer{
		{"round-robin", func(places []string) (caller, func()) { return choosing(places, roundRobin()) }},
		{"least-in-flight", func(places []string) (caller, func()) { return choosing(places, leastInFlight) }},
		{"mesh", func(places []string) (caller, func()) {
			var list fixed
			for _, p := range places {
				list = append(list, registry.Instance{ID: p, Addr: p})
			}
			m := mesh.New(mesh.Config{Caller: "bench"}, mesh.Deps{Resolver: list, Log: slog.New(slog.DiscardHandler)})
			return caller{m.Client(), "http://order" + originPath}, m.Close
		}},
	}
}

// fixed is a resolver of one service that never changes.
type fixed []registry.Instance

// Instances is part of mesh.Resolver.
func (f fixed) Instances(context.Context, string) ([]registry.Instance, error) { return f, nil }

// balance sends calls at an even rate, each balancer for a while, and gives each its 99th percentile.
func (r *rig) balance(ctx context.Context, each time.Duration) (map[string]time.Duration, error) {
	p99 := map[string]time.Duration{}
	for _, b := range balancers() {
		c, end := b.make(r.at.Slow)
		took, err := evenly(ctx, c, int(each.Seconds()*balanceRate))
		end()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		_, p99[b.name] = percentiles(took)
	}
	return p99, nil
}

// evenly begins n calls at the rate, and waits for all.
func evenly(ctx context.Context, c caller, n int) ([]time.Duration, error) {
	took, errs := make([]time.Duration, n), make([]error, n)
	tick := time.NewTicker(time.Second / balanceRate)
	defer tick.Stop()
	var calls sync.WaitGroup
	for i := range n {
		<-tick.C
		calls.Go(func() {
			begin := time.Now()
			errs[i] = c.call(ctx)
			took[i] = time.Since(begin)
		})
	}
	calls.Wait()
	return took, errors.Join(append(errs, ctx.Err())...)
}

// node is an instance as the simple balancers see it.
type node struct {
	addr     string
	inFlight atomic.Int64
}

// chooser sends each request to the node that is chosen for it.
type chooser struct {
	nodes  []*node
	choose func([]*node) *node
	pool   *http.Transport
}

func choosing(places []string, choose func([]*node) *node) (caller, func()) {
	c := &chooser{choose: choose, pool: &http.Transport{MaxIdleConnsPerHost: 256}}
	for _, p := range places {
		c.nodes = append(c.nodes, &node{addr: p})
	}
	return caller{&http.Client{Transport: c}, "http://order" + originPath}, c.pool.CloseIdleConnections
}

// RoundTrip is part of http.RoundTripper.
func (c *chooser) RoundTrip(req *http.Request) (*http.Response, error) {
	n := c.choose(c.nodes)
	n.inFlight.Add(1)
	out := req.Clone(req.Context())
	out.URL.Host = n.addr
	resp, err := c.pool.RoundTrip(out)
	if err != nil {
		n.inFlight.Add(-1)
		return nil, err
	}
	resp.Body = &counted{resp.Body, sync.OnceFunc(func() { n.inFlight.Add(-1) })}
	return resp, nil
}

// counted is in flight until it is closed.
type counted struct {
	io.ReadCloser
	end func()
}

// Close is part of io.ReadCloser.
func (c *counted) Close() error {
	c.end()
	return c.ReadCloser.Close()
}

func roundRobin() func([]*node) *node {
	var turn atomic.Uint64
	return func(nodes []*node) *node { return nodes[turn.Add(1)%uint64(len(nodes))] }
}

// leastInFlight takes turns among those with as few.
func leastInFlight(nodes []*node) *node {
	start := int(time.Now().UnixNano() % int64(len(nodes)))
	best := nodes[start]
	for i := range nodes {
		if n := nodes[(start+i)%len(nodes)]; n.inFlight.Load() < best.inFlight.Load() {
			best = n
		}
	}
	return best
}
