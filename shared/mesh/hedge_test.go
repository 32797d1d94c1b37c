package mesh

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// hedgedLoad makes 100 hedged GETs per second and gives how long each took, sorted.
func hedgedLoad(t *testing.T, m *Mesh, d time.Duration) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var calls sync.WaitGroup
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		calls.Go(func() {
			began := time.Now()
			code, err := ask(WithHedge(context.Background()), m, http.MethodGet)
			if code != 200 {
				t.Errorf("got %d, %v", code, err)
			}
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		})
	}
	calls.Wait()
	slices.Sort(took)
	return took
}

func hedges(m *Mesh) (won, lost float64) {
	h := m.metrics.hedges
	return testutil.ToFloat64(h.WithLabelValues("product", "true")), testutil.ToFloat64(h.WithLabelValues("product", "false"))
}

// One request in fifty is slow wherever it comes to: with hedges nobody notices, and the callees get at most a twentieth
// more. The slow ones that lost have been cancelled.
func TestHedge_hidesTheSlowFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen, cut atomic.Int64
		one := func(r *http.Request) answer {
			if seen.Add(1)%50 != 0 {
				return after(5*time.Millisecond, 200)(r)
			}
			a := after(800*time.Millisecond, 200)(r)
			if a.err != nil {
				cut.Add(1)
			}
			return a
		}
		m, _ := newFakeMesh(Config{}, fakes{"a": one, "b": one, "c": one}, "a", "b", "c")
		hedgedLoad(t, m, 5*time.Second) // until it is known what is usual
		before := seen.Load()
		took := hedgedLoad(t, m, 60*time.Second)
		if p99 := took[len(took)*99/100]; p99 > 60*time.Millisecond {
			t.Errorf("p99: %s", p99)
		}
		extra := float64(seen.Load()-before-int64(len(took))) / float64(len(took))
		if extra > hedgeShare || extra < 0.01 {
			t.Errorf("%.1f %% more requests", 100*extra)
		}
		won, lost := hedges(m)
		if won < 100 || won < lost {
			t.Errorf("%v hedges won, %v lost", won, lost)
		}
		if cut.Load() == 0 {
			t.Error("no loser was cancelled")
		}
		if n := m.inflight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

// When everything becomes slow, hedges are no remedy: they stay a twentieth.
func TestHedge_isNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		ms := int64(5)
		one := func(r *http.Request) answer {
			seen.Add(1)
			return after(time.Duration(atomic.LoadInt64(&ms))*time.Millisecond, 200)(r)
		}
		m, _ := newFakeMesh(Config{}, fakes{"a": one, "b": one}, "a", "b")
		hedgedLoad(t, m, 10*time.Second)
		atomic.StoreInt64(&ms, 400)
		before := seen.Load()
		n := len(hedgedLoad(t, m, 20*time.Second))
		if extra := float64(seen.Load()-before-int64(n)) / float64(n); extra > 1.2*hedgeShare {
			t.Errorf("%.1f %% more requests", 100*extra)
		}
	})
}

// Who gets no company: anything but a GET, a call without the option, one whose usual time is not known, one with nowhere
// else to go, one to a service that has an instance ejected, and one that is a second try itself.
func TestHedge_never(t *testing.T) {
	t.Parallel()
	type setting struct {
		m *Mesh
		n *names
	}
	for name, tt := range map[string]struct {
		method  string
		ctx     func(context.Context) context.Context
		prepare func(setting)
		hedged  bool
	}{
		"but a GET, yes":      {"GET", WithHedge, func(setting) {}, true},
		"POST":                {"POST", WithHedge, func(setting) {}, false},
		"without the option":  {"GET", func(ctx context.Context) context.Context { return ctx }, func(setting) {}, false},
		"not known":           {"GET", WithHedge, func(s setting) { s.m.service("product").paces = nil }, false},
		"the only instance":   {"GET", WithHedge, func(s setting) { s.n.list("a") }, false},
		"one is ejected":      {"GET", WithHedge, func(s setting) { s.m.service("product").eject(s.m.endpoint("c"), "test") }, false},
		"a second try itself": {"GET", func(ctx context.Context) context.Context { return WithoutRetry(WithHedge(ctx)) }, func(setting) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slow := after(400*time.Millisecond, 200)
				m, n := newFakeMesh(Config{}, fakes{"a": slow, "b": slow, "c": slow}, "a", "b", "c")
				_, _ = get(m)
				p := m.service("product").pace("/v1/things")
				for range 200 {
					p.observe(time.Now(), 5*time.Millisecond)
				}
				tt.prepare(setting{m, n})
				if code, err := ask(tt.ctx(context.Background()), m, tt.method); code != 200 {
					t.Fatal(err)
				}
				won, lost := hedges(m)
				if got := won+lost > 0; got != tt.hedged {
					t.Errorf("hedged: got %t, want %t", got, tt.hedged)
				}
			})
		})
	}
}

// A bad answer is not taken while the other may be good; when both are bad there is no third.
func TestHedge_badAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		slow, quick int // what the first answers late, and the second at once
		want        int
	}{{200, 500, 200}, {500, 200, 200}, {500, 503, 503}, {503, 503, 503}} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			one := func(r *http.Request) answer {
				if n.Add(1) == 1 {
					return after(400*time.Millisecond, tt.slow)(r)
				}
				return reply(tt.quick)(r)
			}
			m, _ := newFakeMesh(Config{}, fakes{"a": one, "b": one}, "a", "b")
			p := m.service("product").pace("/v1/things")
			for range 200 {
				p.observe(time.Now(), 5*time.Millisecond)
			}
			code, _ := ask(WithHedge(context.Background()), m, http.MethodGet)
			if code != tt.want || n.Load() != 2 {
				t.Errorf("%d and %d: got %d after %d requests, want %d after 2", tt.slow, tt.quick, code, n.Load(), tt.want)
			}
			pass(time.Second)
			if n := m.inflight(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}
