package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// loadClients are enough to keep a proxy's processor busy, and few enough for the gateway to let all of them in while the
// services behind it are quick.
const loadClients = 24

// hops gives the median of a request to the origin itself ("direct") and through each proxy, all in turns, one at a time.
func (r *rig) hops(ctx context.Context, n int) (map[string]time.Duration, error) {
	names := []string{"direct"}
	ask := []func(context.Context) error{r.asking("http://" + r.at.Both + originPath)}
	for _, p := range r.proxies {
		names = append(names, p.name)
		ask = append(ask, r.asking("http://"+p.addr+p.path))
	}
	took, err := alternate(ctx, n, ask...)
	if err != nil {
		return nil, err
	}
	p50 := map[string]time.Duration{}
	for i, name := range names {
		p50[name], _ = percentiles(took[i])
	}
	return p50, nil
}

// asking asks for url on a kept connection, every time as another user.
func (r *rig) asking(url string) func(context.Context) error {
	pool := &http.Transport{DisableCompression: true}
	turn := 0
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		turn++
		req.Header.Set("Authorization", "Bearer "+r.tokens[turn%len(r.tokens)])
		resp, err := pool.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

// throughput is what a proxy does on one processor that has nothing else to do.
type throughput struct {
	perSecond float64
	cpu       time.Duration // of the proxy, per request
	p50, p99  time.Duration
	shed      int // requests told to come back
}

// push loads each proxy for a while, one after the other.
func (r *rig) push(ctx context.Context, each time.Duration, tokens []string) (map[string]throughput, error) {
	results := map[string]throughput{}
	for _, p := range r.proxies {
		t, err := r.pushOne(p, each, tokens)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", p.name, err)
		}
		results[p.name] = t
	}
	return results, ctx.Err()
}

func (r *rig) pushOne(p *proxy, each time.Duration, tokens []string) (throughput, error) {
	plan := loadPlan{Addr: p.addr, Path: p.path, Tokens: tokens, Clients: loadClients, For: each / 4}
	var warm, m loadResult
	if err := r.load.do(plan, &warm); err != nil {
		return throughput{}, err
	}
	plan.Tokens, plan.For = nil, each
	before, err := cpu(p.pid)
	if err != nil {
		return throughput{}, err
	}
	if err := r.load.do(plan, &m); err != nil {
		return throughput{}, err
	}
	after, err := cpu(p.pid)
	return throughput{
		perSecond: float64(m.Requests) / m.Took.Seconds(), cpu: (after - before) / time.Duration(m.Requests), p50: m.P50, p99: m.P99, shed: m.Shed,
	}, err
}
