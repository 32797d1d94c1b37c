package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/contract"
	faults "souk/shared/fault"
	"souk/shared/mesh"

	"github.com/google/uuid"
)

// mostInFlight keeps a caller whose callees hang from filling its memory. It is far above what any row needs.
const mostInFlight = 5000

// running is a load that is being made.
type running struct {
	load
	stop context.CancelFunc
	done chan struct{}
	out  samples // to be read when done
}

func (n *node) begin(ctx context.Context, in *contract.Body[load]) (*contract.Body[loadName], error) {
	r := &running{load: in.Body, done: make(chan struct{})}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx)) // it goes on when this request has been answered
	go func() {
		defer close(r.done)
		r.out = callEvenly(ctx, n.mesh, r.load)
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loads = append(n.loads, r)
	return &contract.Body[loadName]{Body: loadName{Number: len(n.loads) - 1}}, nil
}

func (n *node) end(ctx context.Context, in *contract.Body[loadName]) (*contract.Body[samples], error) {
	n.mu.Lock()
	if in.Body.Number < 0 || in.Body.Number >= len(n.loads) {
		n.mu.Unlock()
		return nil, faults.New(faults.NotFound, "", "there is no such load")
	}
	r := n.loads[in.Body.Number]
	n.mu.Unlock()
	if r.Calls == 0 {
		r.stop()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.stop()
	return &contract.Body[samples]{Body: r.out}, nil
}

// callEvenly begins calls at an even rate until ctx ends, or there were enough, and waits for all of them.
func callEvenly(ctx context.Context, client *http.Client, l load) samples {
	var (
		mu       sync.Mutex
		out      samples
		calls    sync.WaitGroup
		inFlight atomic.Int64
	)
	begin := time.Now()
	for i := 0; l.Calls == 0 || i < l.Calls; i++ {
		due := begin.Add(time.Duration(float64(i) / l.PerSecond * float64(time.Second)))
		if rest(ctx, time.Until(due)) != nil {
			break
		}
		if inFlight.Load() >= mostInFlight {
			mu.Lock()
			out = append(out, sample{Began: due.UnixMicro(), Result: "not begun"})
			mu.Unlock()
			continue
		}
		inFlight.Add(1)
		calls.Go(func() {
			s := l.call(context.WithoutCancel(ctx), client)
			s.Began, s.Took = due.UnixMicro(), time.Since(due)
			inFlight.Add(-1)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, s)
		})
	}
	calls.Wait()
	return out
}

// call makes one call and reads its answer.
func (l load) call(ctx context.Context, client *http.Client) sample {
	s := sample{ID: uuid.NewString()}
	if l.CancelAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer time.AfterFunc(time.Duration(l.CancelAfter)*time.Millisecond, cancel).Stop()
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, l.Method, "http://"+l.Callee+readThing.Path+"?id="+s.ID, nil)
	if err != nil {
		s.Result = err.Error()
		return s
	}
	req.Pattern = readThing.Path
	resp, err := client.Do(req)
	if err == nil {
		s.Instance = resp.Header.Get("X-Chaos-Instance")
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	var failed *mesh.Error
	switch {
	case errors.As(err, &failed):
		s.Result, s.Instance = string(failed.Kind), failed.Instance
	case err != nil:
		s.Result = err.Error()
	case resp.StatusCode >= http.StatusBadRequest:
		s.Result = strconv.Itoa(resp.StatusCode)
	default:
		s.Result = "ok"
	}
	return s
}
