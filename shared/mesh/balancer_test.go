package mesh

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"souk/shared/registry"
)

// One slow instance gets next to nothing, with few instances and with many.
func TestBalancer_leavesTheSlow(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 4, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var slow, all atomic.Int64
				f := fakes{"slow": counted(&slow, counted(&all, after(500*time.Millisecond, 200)))}
				addrs := []string{"slow"}
				for i := 1; i < n; i++ {
					addr := fmt.Sprint("fast", i)
					f[addr] = counted(&all, after(8*time.Millisecond, 200))
					addrs = append(addrs, addr)
				}
				m, _ := newFakeMesh(Config{}, f, addrs...)
				_, failed := load(m, "GET", 300, 30*time.Second)
				if failed != 0 {
					t.Errorf("%d failed", failed)
				}
				if share := float64(slow.Load()) / float64(all.Load()); share > 0.02 {
					t.Errorf("the slow one got %.1f %%", 100*share)
				}
				if slow.Load() < 5 { // one every 5 s, to see whether it recovered
					t.Errorf("the slow one was forgotten: %d", slow.Load())
				}
			})
		})
	}
}

// Failing fast is not being fast.
func TestBalancer_fastFailureIsNotSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := fakes{"bad": reply(500), "a": after(8*time.Millisecond, 200), "b": after(8*time.Millisecond, 200)}
		m, _ := newFakeMesh(Config{EjectAfter: 1 << 30}, f, "bad", "a", "b") // the balancer alone
		good, bad := load(m, "GET", 300, 60*time.Second)
		if share := float64(bad) / float64(good+bad); share > 0.002 {
			t.Errorf("%.2f %% failed", 100*share)
		}
	})
}

// An instance that was away gets its share again with its first good answer, whether it was ejected or only failed once:
// its penalty is not a latency that has to wear off.
func TestBalancer_returnsToWhatIsBack(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{time.Second, 8 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var back, served atomic.Int64
				fast := after(8*time.Millisecond, 200)
				f := fakes{"good": fast, "back": func(r *http.Request) answer {
					if back.Load() == 0 {
						return reset(r)
					}
					served.Add(1)
					return fast(r)
				}}
				m, _ := newFakeMesh(Config{}, f, "good", "back")
				load(m, "GET", 300, away)
				back.Store(1)
				load(m, "GET", 300, 12*time.Second) // an ejection, its doubling, and a look after five seconds
				served.Store(0)
				load(m, "GET", 300, time.Second)
				if n := served.Load(); n < 100 {
					t.Errorf("%d of 300 came to the instance that is back", n)
				}
			})
		})
	}
}

// A newcomer is left out of nine choices in ten at first, and of none ten seconds later; what is known of the others survives its coming.
// When most of the set is new, or the process itself, nobody is spared.
func TestBalancer_setChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var newcomer atomic.Int64
		fast := after(8*time.Millisecond, 200)
		f := fakes{"a": fast, "b": fast, "c": counted(&newcomer, fast), "d": fast, "gone": hang}
		m, n := newFakeMesh(Config{}, f, "a", "b")
		load(m, "GET", 300, 5*time.Second)
		a, was := m.endpoint("a"), m.endpoint("a").latency.score(time.Now().UnixNano())
		if was == 0 {
			t.Fatal("no score")
		}
		n.list("a", "b", "c")
		for _, second := range []struct {
			at        int
			low, high int64
		}{{0, 3, 40}, {5, 35, 99}, {15, 60, 150}} {
			newcomer.Store(0)
			load(m, "GET", 300, time.Second)
			if got := newcomer.Load(); got < second.low || got > second.high {
				t.Errorf("second %d: the newcomer got %d of 300, want %d to %d", second.at, got, second.low, second.high)
			}
			load(m, "GET", 300, 4*time.Second)
		}
		if m.endpoint("a") != a {
			t.Error("what was known of a is lost")
		}
		n.list("c", "d") // one of two is new, and the other has to bear it
		load(m, "GET", 300, time.Second)
		if m.endpoint("a") != nil {
			t.Error("a is still there")
		}
		newcomer.Store(0)
		if _, bad := load(m, "GET", 300, time.Second); newcomer.Load() < 200 || bad != 0 {
			t.Errorf("the warm one of two got %d of 300; %d failed", newcomer.Load(), bad)
		}
		n.list("a", "b", "d")
		newcomer.Store(0)
		f["a"] = counted(&newcomer, fast)
		if _, bad := load(m, "GET", 300, time.Second); newcomer.Load() < 60 || bad != 0 {
			t.Errorf("of a set that is mostly new one got %d of 300; %d failed", newcomer.Load(), bad)
		}
	})
}

// A restarted process is not held to what its last life did, though it has the same name and address.
func TestBalancer_restart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		life := func(n *names, boot string) {
			n.list("a", "b")
			n.set[0].Meta = map[string]string{registry.MetaBoot: boot}
		}
		m, n := newFakeMesh(Config{}, fakes{"a": reply(200), "b": reply(200)})
		life(n, "1")
		_, _ = get(m)
		b := m.endpoint("b")
		m.service("product").eject(m.endpoint("a"), "test")
		life(n, "1") // another answer, the same instances
		_, _ = get(m)
		if !m.endpoint("a").gate.ejected() || m.endpoint("b") != b {
			t.Error("what was known is lost")
		}
		life(n, "2")
		_, _ = get(m)
		if m.endpoint("a").gate.ejected() || m.service("product").ejected.Load() != 0 {
			t.Error("still ejected")
		}
		if m.endpoint("b") != b {
			t.Error("what was known of the other is lost")
		}
	})
}

// An instance that takes in no more gets no more, and when all are full a call is refused at once and held against nobody.
func TestBalancer_full(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{MaxInflight: 10, ReadTimeout: 5 * time.Second}, fakes{"a": hang, "b": hang}, "a", "b")
		for range 20 {
			go func() { _, _ = get(m) }()
		}
		synctest.Wait()
		if a, b := m.endpoint("a").inflight.Load(), m.endpoint("b").inflight.Load(); a != 10 || b != 10 {
			t.Errorf("in flight: %d and %d, want 10 and 10", a, b)
		}
		for range 100 {
			began := time.Now()
			_, err := get(m)
			if err == nil || err.Kind != KindFull || !err.Retryable || err.Attempts != 0 || time.Since(began) != 0 {
				t.Fatalf("got %+v after %s", err, time.Since(began))
			}
		}
		if got := m.Snapshot().Callees[0].Calls["bulkhead"]; got != 100 {
			t.Errorf("counted %d, want 100", got)
		}
		if got := m.service("product").breakers[ClassRead].two.Counts().TotalFailures; got != 0 {
			t.Errorf("the breaker counts %d failures", got)
		}
		pass(time.Minute)
		if n := m.inflight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestBalancer_weight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var heavy, light atomic.Int64
		f := fakes{"heavy": counted(&heavy, after(20*time.Millisecond, 200)), "light": counted(&light, after(20*time.Millisecond, 200))}
		m, n := newFakeMesh(Config{}, f, "heavy", "light")
		n.set[0].Meta = map[string]string{"weight": "3"}
		load(m, "GET", 1000, 5*time.Second)
		if ratio := float64(heavy.Load()) / float64(light.Load()); ratio < 2 || ratio > 4.5 {
			t.Errorf("got %d to %d, want about three to one", heavy.Load(), light.Load())
		}
	})
}

func TestNoInstances(t *testing.T) {
	t.Parallel()
	m, n := newFakeMesh(Config{}, fakes{})
	_, err := get(m)
	if err == nil || err.Kind != KindNoInstances || !err.Retryable || err.Attempts != 0 {
		t.Errorf("got %+v", err)
	}
	n.err = fmt.Errorf("consul is away")
	if _, err = get(m); err == nil || err.Kind != KindNoInstances || err.Unwrap() == nil {
		t.Errorf("got %+v", err)
	}
	m.Close()
	if _, err = get(m); err == nil || err.Kind != KindClosed {
		t.Errorf("got %+v", err)
	}
	for _, url := range []string{"https://product/", "http://product:80/", "http:///x"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		resp, err := m.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindRequest {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
