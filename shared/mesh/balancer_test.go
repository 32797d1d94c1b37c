package mesh

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
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

// A newcomer is neither flooded nor shunned, and what is known of the others survives its coming.
func TestBalancer_setChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var newcomer atomic.Int64
		fast := after(8*time.Millisecond, 200)
		f := fakes{"a": fast, "b": fast, "c": counted(&newcomer, fast), "gone": hang}
		m, n := newFakeMesh(Config{}, f, "a", "b")
		load(m, "GET", 300, 5*time.Second)
		a, was := m.endpoint("a"), m.endpoint("a").latency.score(time.Now().UnixNano())
		if was == 0 {
			t.Fatal("no score")
		}
		n.list("a", "b", "c")
		load(m, "GET", 300, time.Second)
		if m.endpoint("a") != a {
			t.Error("what was known of a is lost")
		}
		if got := newcomer.Load(); got < 60 || got > 150 {
			t.Errorf("the newcomer got %d of 300, want about 100", got)
		}
		n.list("c")
		load(m, "GET", 300, time.Second)
		if m.endpoint("a") != nil {
			t.Error("a is still there")
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
