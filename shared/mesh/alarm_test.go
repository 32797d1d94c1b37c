package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Every try expires when it is due, to the moment, and none that has ended before; whatever the order in which they came.
func TestAlarms_ringWhenDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{}, fakes{}, "a")
		a := &m.service("product").alarms
		dice := rand.New(rand.NewPCG(1, 2))
		type one struct {
			*try
			due   time.Time
			ended bool
			rang  atomic.Int64 // unix nanoseconds
		}
		var all []*one
		for range 500 {
			o := &one{try: &try{call: &call{mesh: m, svc: m.service("product")}}}
			o.cancel = func(cause error) {
				if !errors.Is(cause, errTryTimeout) || o.rang.Swap(time.Now().UnixNano()) != 0 {
					t.Errorf("expired with %v, or twice", cause)
				}
			}
			limit := time.Duration(1+dice.IntN(1000)) * time.Millisecond
			o.due = time.Now().Add(limit)
			all = append(all, o)
			a.set(o.try, limit)
			if dice.IntN(3) == 0 {
				<-time.After(time.Millisecond) // the bubble's
			}
			if victim := all[dice.IntN(len(all))]; dice.IntN(2) == 0 && victim.rang.Load() == 0 {
				a.clear(victim.try)
				victim.ended = true
			}
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		ended := 0
		for i, o := range all {
			if o.ended {
				ended++
			}
			switch rang := o.rang.Load(); {
			case o.ended && rang != 0:
				t.Errorf("%d: ended, and expired all the same", i)
			case !o.ended && rang != o.due.UnixNano():
				t.Errorf("%d: expired %v after it was due", i, time.Duration(rang-o.due.UnixNano()))
			}
		}
		if ended == 0 || ended == len(all) || len(a.heap) != 0 || !a.armed.IsZero() {
			t.Errorf("%d of %d ended before; left over: %d, armed for %v", ended, len(all), len(a.heap), a.armed)
		}
	})
}

// A body has the time of the call, though its headers had that of a try.
func TestAlarms_bodyHasTheCallsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen context.Context
		m, _ := newFakeMesh(Config{ReadTimeout: time.Second, CallTimeout: 5 * time.Second}, fakes{"a": func(r *http.Request) answer {
			seen = r.Context()
			return answer{status: http.StatusOK, body: "slow"}
		}}, "a")
		began := time.Now()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://product/x", nil)
		resp, err := m.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		<-seen.Done()
		if took := time.Since(began); took != 5*time.Second || !errors.Is(context.Cause(seen), context.DeadlineExceeded) {
			t.Errorf("ended after %v: %v", took, context.Cause(seen))
		}
		_ = resp.Body.Close()
	})
}

// Who traces a call sees its connections, as if we did not look at them too.
func TestTraced_callersTraceGoesOn(t *testing.T) {
	t.Parallel()
	m, _ := newMesh(t, Config{}, serve(t, status(http.StatusOK)))
	var asked, had, wrote atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { asked.Add(1) }, GotConn: func(httptrace.GotConnInfo) { had.Add(1) },
		WroteRequest: func(httptrace.WroteRequestInfo) { wrote.Add(1) },
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://product/x", nil)
	resp, err := m.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if asked.Load() != 1 || had.Load() != 1 || wrote.Load() != 1 {
		t.Errorf("asked %d, had %d, wrote %d: want 1 each", asked.Load(), had.Load(), wrote.Load())
	}
}
