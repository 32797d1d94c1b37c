package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"souk/shared/mesh"

	"github.com/google/uuid"
)

// deadlines asks whether each hop has less time than the one before, and whether work stops when nobody waits for it.
func deadlines(ctx context.Context, t *trial) error {
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
	if err := a.knows(ctx, t.name+"-b", 1); err != nil {
		return err
	}
	if err := b.knows(ctx, t.name+"-c", 1); err != nil {
		return err
	}
	if _, err := call(ctx, a, 5*time.Second, ""); err != nil { // connections are made, names known
		return err
	}
	if err := t.watch(ctx, a, b, c); err != nil {
		return err
	}

	wrong, least := 0, time.Hour
	for range 100 {
		began := time.Now()
		hops, err := call(ctx, a, 800*time.Millisecond, "")
		s := sample{ID: uuid.NewString(), Began: began.UnixMicro(), Took: time.Since(began), Result: ok}
		if err != nil {
			s.Result = err.Error()
		}
		t.healthy, t.during = append(t.healthy, s), append(t.during, s)
		if len(hops) != 3 || hops[0].LeftMs > 800 || hops[1].LeftMs >= hops[0].LeftMs || hops[2].LeftMs >= hops[1].LeftMs {
			wrong++
			continue
		}
		least = min(least, time.Duration(hops[0].LeftMs-hops[2].LeftMs)*time.Millisecond)
	}
	t.atMost("calls of 100 on whose way a hop had no less time than the one before", float64(wrong), 0, "")
	t.atLeast("what the third hop has less than the first", ms(least), 1, " ms")

	// Too little time to begin with is refused at the door, and nobody further on hears of it.
	if _, err := c.work(ctx); err != nil {
		return err
	}
	if _, err := call(ctx, a, 5*time.Millisecond, ""); err == nil {
		t.atLeast("a call without time is refused", 0, 1, "")
	}
	w, err := c.work(ctx)
	if err != nil {
		return err
	}
	t.atMost("hops that a call without time went further", float64(len(w.Arrived)), 0, "")

	// A client that goes away, while the third hop works for a second.
	if err := c.misbehave(ctx, fault{Factor: 100}); err != nil {
		return err
	}
	gone := map[string]time.Time{}
	for range 30 {
		id := uuid.NewString()
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(150*time.Millisecond, func() {
			gone[id] = time.Now()
			cancel()
		})
		_, err := call(ctx, a, 5*time.Second, id)
		timer.Stop()
		cancel()
		if err == nil {
			return fmt.Errorf("a call of a second was answered within 150 ms")
		}
	}
	_ = rest(ctx, 200*time.Millisecond)
	if w, err = c.work(ctx); err != nil {
		return err
	}
	var latest time.Duration
	for id, at := range gone {
		stopped, seen := w.Stopped[id]
		if !seen {
			t.atLeast("work that stopped when its client had gone", 0, 1, "")
			continue
		}
		latest = max(latest, time.Duration(stopped-at.UnixMicro())*time.Microsecond)
	}
	t.recovery = latest
	t.atLeast("clients that went away", float64(len(gone)), 30, "")
	t.atMost("work three hops away goes on after its client has gone", ms(latest), 50, " ms")
	if err := c.misbehave(ctx, fault{}); err != nil {
		return err
	}
	return t.leaks(ctx)
}

// call asks a node for a thing, as a client that waits so long, and gives the hops that the call came through.
func call(ctx context.Context, p *process, wait time.Duration, id string) ([]hop, error) {
	client := at(p.addr())
	inner := client.Transport
	client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r.Header.Set(mesh.HeaderTimeout, strconv.FormatInt(wait.Milliseconds(), 10))
		return inner.RoundTrip(r)
	})
	out, err := readThing.Call(ctx, client, &thingInput{ID: id})
	if err != nil {
		return nil, err
	}
	return out.Body.Hops, nil
}
