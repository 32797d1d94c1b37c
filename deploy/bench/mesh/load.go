package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// loadPlan is a closed loop: so many clients, each with a connection, ask as fast as they are answered.
type loadPlan struct {
	Addr    string // host:port
	Path    string
	Tokens  []string // taken in turn; none sends none. An empty list keeps those of the plan before.
	Clients int
	For     time.Duration
}

type loadResult struct {
	Requests int // that were answered with 200
	Shed     int // that were told to come back
	Took     time.Duration
	P50, P99 time.Duration
}

// shedPause is how long a client waits that was told to come back: less than it was told, for the sake of the measurement.
const shedPause = 100 * time.Millisecond

// makeLoad is a process that asks. It is as cheap as can be, to have the proxy be what is busy.
func makeLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var tokens []string
	return serveQuestions(in, out, func(p loadPlan) (loadResult, error) {
		if len(p.Tokens) > 0 {
			tokens = p.Tokens
		}
		return p.run(ctx, tokens)
	})
}

func (p loadPlan) run(ctx context.Context, tokens []string) (loadResult, error) {
	host := &fasthttp.HostClient{Addr: p.Addr, MaxConns: p.Clients, MaxIdleConnDuration: time.Minute, ReadTimeout: 10 * time.Second}
	defer host.CloseIdleConnections()
	headers := make([]string, len(tokens))
	for i, t := range tokens {
		headers[i] = "Bearer " + t
	}
	took, errs := make([][]time.Duration, p.Clients), make([]error, p.Clients)
	var turn, shed atomic.Int64
	var clients sync.WaitGroup
	begin := time.Now()
	end := begin.Add(p.For)
	for i := range p.Clients {
		clients.Go(func() {
			req, resp := new(fasthttp.Request), new(fasthttp.Response)
			req.SetRequestURI("http://" + p.Addr + p.Path)
			for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
				if len(headers) > 0 {
					req.Header.Set("Authorization", headers[turn.Add(1)%int64(len(headers))])
				}
				if err := host.Do(req, resp); err != nil {
					errs[i] = err
					return
				}
				if resp.StatusCode() == fasthttp.StatusServiceUnavailable && len(resp.Header.Peek("Retry-After")) > 0 {
					shed.Add(1)
					<-time.After(shedPause)
					now = time.Now()
					continue
				}
				if resp.StatusCode() != fasthttp.StatusOK {
					errs[i] = fmt.Errorf("%s answered %d: %.300s", p.Addr, resp.StatusCode(), resp.Body())
					return
				}
				done := time.Now()
				took[i] = append(took[i], done.Sub(now))
				now = done
			}
		})
	}
	clients.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return loadResult{}, err
	}
	if len(all) == 0 {
		return loadResult{}, fmt.Errorf("%s answered nobody", p.Addr)
	}
	r := loadResult{Requests: len(all), Shed: int(shed.Load()), Took: time.Since(begin)}
	r.P50, r.P99 = percentiles(all)
	return r, nil
}

// percentiles sorts took, which has at least one, and gives its median and its 99th percentile.
func percentiles(took []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}
