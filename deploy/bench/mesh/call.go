package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"souk/shared/mesh"

	"github.com/prometheus/client_golang/prometheus"
)

const callWarmUp = 1000 // calls

// callResult is what a call by name costs more than a bare client's.
type callResult struct {
	added  time.Duration // of the median
	bare   time.Duration // the bare client's median
	allocs float64
}

// calls compares the mesh with a bare client on a kept connection to the only instance, whom Consul knows.
func (r *rig) calls(ctx context.Context, n int) (callResult, error) {
	return compareCalls(ctx, n, "http://"+r.at.Both, nil, mesh.Deps{Resolver: r.caller.Registry})
}

// secureCalls is the same with mutual TLS on both sides, as services of the shop have it.
func (r *rig) secureCalls(ctx context.Context, n int) (callResult, error) {
	secure := r.caller.Peers.Client("order")
	return compareCalls(ctx, n, "https://"+r.at.Both, secure, mesh.Deps{Resolver: r.caller.Registry, TLS: r.caller.Peers.Client})
}

// caller asks for one thing, again and again.
type caller struct {
	client *http.Client
	url    string
}

func (c caller) call(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return err
	}
	req.Pattern = originPath
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", c.url, resp.Status)
	}
	return nil
}

// compareCalls has the two take turns, one call each.
func compareCalls(ctx context.Context, n int, origin string, secure *tls.Config, deps mesh.Deps) (callResult, error) {
	pool := &http.Transport{DisableCompression: true, TLSClientConfig: secure}
	defer pool.CloseIdleConnections()
	deps.Log, deps.Metrics = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	m := mesh.New(mesh.Config{Caller: "bench"}, deps)
	defer m.Close()
	bare, named := caller{&http.Client{Transport: pool}, origin + originPath}, caller{m.Client(), "http://order" + originPath}
	took, err := alternate(ctx, n, bare.call, named.call)
	if err != nil {
		return callResult{}, err
	}
	allocs := [2]float64{}
	for i, c := range []caller{bare, named} {
		if allocs[i], err = allocations(ctx, n/4, c.call); err != nil {
			return callResult{}, err
		}
	}
	plain, _ := percentiles(took[0])
	byName, _ := percentiles(took[1])
	return callResult{added: byName - plain, bare: plain, allocs: allocs[1] - allocs[0]}, nil
}

// alternate does each thing n times, in turns, and gives how long each took. Which is first changes from turn to turn.
func alternate(ctx context.Context, n int, do ...func(context.Context) error) ([][]time.Duration, error) {
	took := make([][]time.Duration, len(do))
	for turn := range callWarmUp + n {
		for i := range do {
			k := (turn + i) % len(do)
			begin := time.Now()
			if err := do[k](ctx); err != nil {
				return nil, err
			}
			if turn >= callWarmUp {
				took[k] = append(took[k], time.Since(begin))
			}
		}
	}
	return took, nil
}

// allocations is how many there are each time.
func allocations(ctx context.Context, n int, do func(context.Context) error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := do(ctx); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}
