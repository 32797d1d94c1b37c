package mesh

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// All instances fail, then recover: the breaker opens within about twenty failures, lets at most three probes through every
// five seconds, and closes within six seconds of the recovery.
func TestBreaker_opensAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var healthy atomic.Bool
		var seen atomic.Int64
		one := func(r *http.Request) answer {
			seen.Add(1)
			if healthy.Load() {
				return after(5*time.Millisecond, 200)(r)
			}
			return reply(500)(r)
		}
		m, _ := newFakeMesh(Config{}, fakes{"a": one, "b": one}, "a", "b")
		for range 100 {
			_, _ = get(m)
		}
		if got := seen.Load(); got != 20 {
			t.Errorf("opened after %d failures, want 20", got)
		}
		_, err := get(m)
		if err == nil || err.Kind != KindOpen || !err.Retryable || err.Attempts != 0 {
			t.Errorf("got %+v, want open", err)
		}
		if _, err := ask(context.Background(), m, "POST"); err != nil {
			t.Errorf("writes have a breaker of their own: got %v", err)
		}

		seen.Store(0)
		load(m, "GET", 100, 60*time.Second)
		if got := seen.Load(); got > 3*12 || got < 5 {
			t.Errorf("got %d probes in 60 s, want 12 to 36", got)
		}
		healthy.Store(true)
		load(m, "GET", 100, 6*time.Second)
		if good, bad := load(m, "GET", 100, time.Second); bad != 0 {
			t.Errorf("after the recovery %d good, %d bad", good, bad)
		}
	})
}

// A probe is one request: what a service in trouble is asked while it may be recovering must not be doubled by retries. An
// instance that nothing reaches is another matter: the service has seen nothing of it.
func TestBreaker_probeIsNotRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		ill := fakes{"a": counted(&seen, reply(503)), "b": counted(&seen, reply(503)), "well": reply(200)}
		m, n := newFakeMesh(Config{}, ill, "a", "b")
		for range 40 {
			_, _ = get(m)
		}
		pass(5*time.Second + 1)
		seen.Store(0)
		if code, err := get(m); code != 503 || seen.Load() != 1 {
			t.Errorf("got %d %v after %d requests, want 503 after 1", code, err, seen.Load())
		}
		n.list("well", "gone")
		pass(5*time.Second + 1)
		for range 3 {
			if code, err := get(m); code != 200 {
				t.Errorf("got %d %v from the one that is there", code, err)
			}
		}
	})
}

// A probe that hangs ends with its deadline and does not keep the breaker half open.
func TestBreaker_hungProbeEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Int64
		m, _ := newFakeMesh(Config{}, fakes{"a": func(r *http.Request) answer {
			return []instance{reply(500), hang, reply(200)}[mode.Load()](r)
		}}, "a")
		for range 20 {
			_, _ = get(m)
		}
		pass(5*time.Second + 1)
		mode.Store(1)
		for range 3 {
			go func() { _, _ = get(m) }()
		}
		synctest.Wait()
		if _, err := get(m); err == nil || err.Kind != KindOpen {
			t.Errorf("a fourth probe: got %v", err)
		}
		pass(10 * time.Second)
		mode.Store(2)
		for range 3 {
			if code, err := get(m); code != 200 {
				t.Errorf("got %v", err)
			}
		}
	})
}

// Four in ten failing is not enough, and answers that are the caller's fault are not failures.
func TestBreaker_staysClosed(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]func(i int64) int{
		"40 % failures": func(i int64) int { return map[bool]int{true: 500, false: 200}[i%10 >= 6] },
		"404":           func(int64) int { return 404 },
		"429":           func(int64) int { return 429 },
		"elsewhere":     func(int64) int { return 503 },
		"19 failures":   func(i int64) int { return map[bool]int{true: 500, false: 404}[i < 19] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				n.Store(-1)
				m, _ := newFakeMesh(Config{}, fakes{"a": func(r *http.Request) answer {
					if name == "elsewhere" {
						return reply(code(0), HeaderElsewhere, "1")(r)
					}
					return reply(code(n.Add(1)))(r)
				}}, "a")
				if name == "19 failures" { // successes first, so that 19 failures are a minority
					for range 30 {
						n.Store(100)
						_, _ = get(m)
					}
					n.Store(-1)
				}
				for range 2000 {
					if _, err := get(m); err != nil {
						t.Fatalf("got %v", err)
					}
					pass(5 * time.Millisecond)
				}
			})
		})
	}
}

// Critical calls go on while one in five gets through.
func TestBreaker_criticalIsPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		m, _ := newFakeMesh(Config{}, fakes{"a": func(r *http.Request) answer {
			return reply(map[bool]int{true: 200, false: 500}[n.Add(1)%4 == 0])(r)
		}}, "a")
		ctx := WithClass(context.Background(), ClassCritical)
		for range 500 {
			if _, err := ask(ctx, m, "POST"); err != nil {
				t.Fatalf("got %v", err)
			}
			pass(5 * time.Millisecond)
		}
		opened := false
		for range 100 {
			_, err := ask(context.Background(), m, "POST")
			opened = opened || err != nil && err.Kind == KindOpen
		}
		if !opened {
			t.Error("ordinary writes went on")
		}
	})
}

// A panic below the breaker does not leak its probe.
func TestBreaker_panicEndsTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{}, fakes{"a": func(*http.Request) answer { panic("a bug") }}, "a")
		for range 10 {
			func() {
				defer func() { _ = recover() }()
				_, _ = get(m)
			}()
		}
		if n := m.inflight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
		if n := m.service("product").breakers[ClassRead].two.Counts(); n.Requests != n.TotalExclusions {
			t.Errorf("breaker counts %+v", n)
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{}
		n.list("a", "bad")
		reg := prometheus.NewRegistry()
		f := fakes{"a": after(time.Millisecond, 200)}
		m := New(Config{Caller: "order"}, Deps{Resolver: n, Metrics: reg, Wrap: f.wrap})
		for range 20 {
			if code, err := ask(context.Background(), m, "GET"); code != 200 {
				t.Fatal(err)
			}
			pass(unpicked + time.Second) // so that the bad one gets its turns
		}
		for _, c := range []struct {
			name string
			got  float64
			min  float64
		}{
			{"requests", testutil.ToFloat64(m.metrics.requests.WithLabelValues("product", "/v1/things", "GET", "success")), 20},
			{"retries", testutil.ToFloat64(m.metrics.retries.WithLabelValues("product", "unreachable")), 2},
			{"attempts", testutil.ToFloat64(m.metrics.attempts.WithLabelValues("product", "a", "answered")), 20},
			{"ejections", testutil.ToFloat64(m.metrics.ejections.WithLabelValues("product", "refused")), 1},
			{"ejected", testutil.ToFloat64(m.metrics.ejected.WithLabelValues("product", "bad")), 1},
		} {
			if c.got < c.min {
				t.Errorf("%s: got %v, want at least %v", c.name, c.got, c.min)
			}
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
		n.list("a")
		_, _ = get(m)
		if got := testutil.CollectAndCount(m.metrics.ejected); got != 1 {
			t.Errorf("%d instances in the metrics, want 1: the other left", got)
		}
	})
}
