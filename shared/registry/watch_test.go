package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// agent is a Consul that does as it is told. It speaks HTTP over pipes, so that it lives in a synctest bubble, where hours
// pass at once.
type agent struct {
	mu      sync.Mutex
	index   uint64
	ids     []string
	down    bool // answers 500
	hangs   bool // answers nothing
	asked   int
	changed chan struct{}
}

func (a *agent) set(change func(*agent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index++
	change(a)
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(q.Get("wait"))
	timeout := time.After(wait)
	for {
		a.mu.Lock()
		changed, current, down, hangs := a.changed, a.index, a.down, a.hangs
		entries := []*api.ServiceEntry{}
		for i, id := range a.ids {
			entries = append(entries, &api.ServiceEntry{
				Node: &api.Node{Address: "10.0.0.1"}, Service: &api.AgentService{ID: id, Port: 80 + i},
			})
		}
		a.mu.Unlock()
		switch {
		case down:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case !hangs && (index == 0 || index < current || timeout == nil):
			a.mu.Lock()
			a.asked++
			a.mu.Unlock()
			w.Header().Set("X-Consul-Index", strconv.FormatUint(current, 10))
			w.Header().Set("X-Consul-LastContact", "0") // without it the client reads no further
			w.Header().Set("X-Consul-KnownLeader", "true")
			_ = json.NewEncoder(w).Encode(entries)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			timeout = nil
		case <-r.Context().Done():
			return
		}
	}
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// withAgent makes a registry on an agent that knows of some instances. It is for use in a bubble.
func withAgent(t *testing.T, known ...string) (*Registry, *agent) {
	t.Helper()
	a := &agent{index: 100, ids: known, changed: make(chan struct{})}
	listener := pipes{make(chan net.Conn), make(chan struct{})}
	srv := &http.Server{Handler: a}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(listener) }()
	r, err := New(Config{Addr: "consul:8500"}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	r.transport.DialContext = listener.dial
	t.Cleanup(func() {
		r.Close()
		_ = srv.Close()
		<-served
	})
	return r, a
}

func want(t *testing.T, r *Registry, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	got := ids(t, r, "product")
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", when, diff)
	}
}

// pass lets time pass, in the bubble.
func pass(d time.Duration) { <-time.After(d) }

func TestInstances_oneWatchHoweverManyAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := ids(t, r, "product"); len(got) != 1 {
					t.Errorf("got %v", got)
				}
			})
		}
		all.Wait()
		pass(20 * time.Second)
		if a.asked != 1 {
			t.Errorf("got %d look-ups, want 1", a.asked)
		}
	})
}

func TestInstances_sameSliceUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		first, _ := r.Instances(t.Context(), "product")
		a.set(func(*agent) {}) // a new index, the same instances
		pass(time.Second)
		second, _ := r.Instances(t.Context(), "product")
		if &first[0] != &second[0] {
			t.Error("got another slice")
		}
	})
}

// One of several leaves: at once. The last one leaves: doubted for 30 s.
func TestWatch_doubtsSuddenEmptiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a", "b")
		want(t, r, "at first", "a", "b")
		a.set(func(a *agent) { a.ids = []string{"b"} })
		pass(minGap)
		want(t, r, "one left", "b")
		a.set(func(a *agent) { a.ids = nil })
		pass(emptyGrace - time.Second)
		want(t, r, "all left, 29 s ago", "b")
		pass(6 * time.Second)
		want(t, r, "all left, 35 s ago")
		a.set(func(a *agent) { a.ids = []string{"c"} })
		pass(minGap)
		want(t, r, "one came", "c")
	})
}

func TestWatch_emptinessThatPassesIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		want(t, r, "at first", "a")
		for range 3 {
			a.set(func(a *agent) { a.ids = nil })
			pass(20 * time.Second)
			want(t, r, "empty for 20 s", "a")
			a.set(func(a *agent) { a.ids = []string{"a"} })
			pass(time.Second)
		}
	})
}

// Errors never take away what is known, and the watch takes up again when they end.
func TestWatch_keepsTheLastGoodSetForEver(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*agent, bool){
		"errors": func(a *agent, on bool) { a.down = on },
		"hangs":  func(a *agent, on bool) { a.hangs = on },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, a := withAgent(t, "a")
				want(t, r, "at first", "a")
				w := r.watches["product"]
				if got := w.staleness(time.Now()); got != 0 {
					t.Errorf("staleness while all is well: got %s", got)
				}
				a.set(func(a *agent) { fault(a, true); a.ids = nil })
				pass(time.Hour)
				want(t, r, "an hour later", "a")
				if got := w.staleness(time.Now()); got < time.Hour-2*time.Minute {
					t.Errorf("staleness: got %s, want about an hour", got)
				}
				a.set(func(a *agent) { fault(a, false); a.ids = []string{"b"} })
				pass(80 * time.Second)
				want(t, r, "when it answers again", "b")
			})
		})
	}
}

// Who will be called is known, though Consul has gone before the first call.
func TestWatch_beforeTheFirstCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		if err := r.Watch("product"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		a.set(func(a *agent) { a.down = true })
		pass(time.Minute)
		want(t, r, "without Consul", "a")
	})
}

// Consul lost its data and counts from the start. Waiting for the old index would sleep through the change.
func TestWatch_indexThatGoesBackwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		want(t, r, "at first", "a")
		a.set(func(a *agent) { a.down = true })
		pass(10 * time.Second)
		a.set(func(a *agent) { a.down, a.index = false, 5 })
		pass(10 * time.Second)
		a.set(func(a *agent) { a.ids = []string{"b"} })
		pass(time.Second)
		want(t, r, "after the loss", "b")
	})
	if got := nextIndex(100, 7); got != 0 {
		t.Errorf("nextIndex(100, 7): got %d, want 0", got)
	}
	if got := nextIndex(0, 0); got != 1 {
		t.Errorf("nextIndex(0, 0): got %d, want 1: zero would not block", got)
	}
}

func TestInstances_firstCallsWaitTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t)
		a.set(func(a *agent) { a.hangs = true })
		began := time.Now()
		if _, err := r.Instances(t.Context(), "product"); err == nil {
			t.Fatal("want an error")
		}
		if got := time.Since(began); got != firstWait {
			t.Errorf("the first call took %s, want %s", got, firstWait)
		}
		began = time.Now()
		if _, err := r.Instances(t.Context(), "product"); err == nil || time.Since(began) != 0 {
			t.Errorf("the second call: got %v after %s, want an error at once", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Instances(ctx, "order"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a shorter deadline: got %v", err)
		}
	})
}

func TestInstances_limits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := withAgent(t, "a")
		for i := range maxWatches {
			if _, err := r.Instances(t.Context(), fmt.Sprint("svc", i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Instances(t.Context(), "one-too-many"); err == nil {
			t.Error("want an error")
		}
		if _, err := r.Instances(t.Context(), ""); err == nil {
			t.Error("no name: want an error")
		}
		r.Close()
		if _, err := r.Instances(t.Context(), "another"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: got %v, want ErrClosed", err)
		}
	})
}

func TestBackoff_isBoundedAndSpread(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for failures := 1; failures < 200; failures++ {
		d := backoff(failures)
		if d <= 0 || d > 5*time.Second+1 {
			t.Fatalf("backoff(%d) = %s", failures, d)
		}
		seen[d] = true
	}
	if len(seen) < 190 {
		t.Errorf("only %d different pauses of 199", len(seen))
	}
}
