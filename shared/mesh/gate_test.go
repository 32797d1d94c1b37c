package mesh

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// load makes calls at a steady rate for a while and gives how many ended well.
func load(m *Mesh, method string, rps int, d time.Duration) (good, bad int64) {
	var ok, failed atomic.Int64
	var calls sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rps))
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		calls.Go(func() {
			if code, err := ask(context.Background(), m, method); err == nil && code < 400 {
				ok.Add(1)
			} else {
				failed.Add(1)
			}
		})
	}
	calls.Wait()
	return ok.Load(), failed.Load()
}

// What ejects an instance, and what must not.
func TestGate_whatEjects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		bad   instance
		eject bool
	}{
		{"refused", nil, true},
		{"500", reply(500), true},
		{"502", reply(502), true},
		{"503", reply(503), true},
		{"reset", reset, true},
		{"hangs", hang, true},
		{"404", reply(404), false},
		{"409", reply(409), false},
		{"429", reply(429), false},
		{"501", reply(501), false},
		{"slow", after(400*time.Millisecond, 200), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := fakes{"good": after(5*time.Millisecond, 200)}
				if tt.bad != nil {
					f["bad"] = tt.bad
				}
				m, _ := newFakeMesh(Config{}, f, "bad", "good")
				// An instance that failed once is avoided, so that five failures in a row take a while; a caller
				// that always asks it shows the gate alone.
				if _, err := m.service("product").endpoints(t.Context()); err != nil {
					t.Fatal(err)
				}
				e := m.endpoint("bad")
				for range 10 {
					m.endpoint("good").latency.observe(time.Now(), time.Hour)
					e.latency.set(1)
					_, _ = get(m)
				}
				if got := e.gate.ejected(); got != tt.eject {
					t.Errorf("ejected: got %t, want %t", got, tt.eject)
				}
				if m.endpoint("good").gate.ejected() {
					t.Error("the good one was ejected")
				}
				if n := m.inflight(); n != 0 {
					t.Errorf("%d still in flight", n)
				}
			})
		})
	}
}

// Cancelled calls say nothing, however many.
func TestCancellationsCountForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{}, fakes{"a": hang, "b": hang}, "a", "b")
		for range 1000 {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(10*time.Millisecond, cancel)
			if _, err := ask(ctx, m, "GET"); err == nil || err.Kind != KindCanceled {
				t.Fatalf("got %v, want canceled", err)
			}
			cancel()
		}
		for _, addr := range []string{"a", "b"} {
			if m.endpoint(addr).gate.ejected() {
				t.Errorf("%s was ejected", addr)
			}
		}
		if got := m.service("product").breakers[ClassRead].two.State().String(); got != "closed" {
			t.Errorf("breaker is %s", got)
		}
	})
}

// The only instance is never ejected, and of two never both.
func TestGate_neverAll(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addrs []string
		most  int
	}{
		{[]string{"a"}, 0}, {[]string{"a", "b"}, 1}, {[]string{"a", "b", "c"}, 1}, {[]string{"a", "b", "c", "d", "e", "f", "g"}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, n := newFakeMesh(Config{BreakerCalls: 1 << 30}, fakes{}, tt.addrs...)
			for range 300 {
				_, _ = ask(context.Background(), m, "POST")
				pass(time.Millisecond)
			}
			out := 0
			for _, a := range tt.addrs {
				if m.endpoint(a).gate.ejected() {
					out++
				}
			}
			if out != tt.most {
				t.Errorf("of %d instances %d are ejected, want %d", len(tt.addrs), out, tt.most)
			}
			if len(tt.addrs) == 2 { // the one in service leaves: the ejected one serves, whatever the gate says
				for _, a := range tt.addrs {
					if m.endpoint(a).gate.ejected() {
						n.list(a)
					}
				}
				if _, err := get(m); err == nil || err.Kind != KindUnreachable {
					t.Errorf("got %v, want it to be asked", err)
				}
			}
		})
	}
}

// An ejected instance comes back after one good probe; while it is bad each ejection is longer, and it sees one probe each.
func TestGate_probesAndReturns(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var healthy atomic.Bool
				var probes atomic.Int64
				f := fakes{"good": after(5*time.Millisecond, 200), "bad": func(r *http.Request) answer {
					probes.Add(1)
					if healthy.Load() {
						return after(5*time.Millisecond, 200)(r)
					}
					return reset(r)
				}}
				m, _ := newFakeMesh(Config{}, f, "bad", "good")
				_, _ = get(m)
				bad := m.endpoint("bad")
				m.service("product").eject(bad, "test") // left to itself, the balancer would hardly ask it five times
				load(m, method, 50, 60*time.Second)
				if !bad.gate.ejected() {
					t.Fatal("back, though it is bad")
				}
				probes.Store(0)
				_, failed := load(m, method, 50, 5*time.Minute)
				// Ejections of about 60 s by now; a POST waits 5 s more for a probe.
				if got := probes.Load(); got < 3 || got > 8 {
					t.Errorf("got %d probes in 5 minutes, want about 5", got)
				}
				if most := probes.Load(); method == "GET" && failed != 0 || failed > most {
					t.Errorf("%d failed", failed)
				}
				healthy.Store(true)
				load(m, method, 50, 200*time.Second)
				if bad.gate.ejected() {
					t.Error("not back 200 s after it recovered")
				}
				probes.Store(0)
				load(m, method, 50, 30*time.Second)
				if got := probes.Load(); got < 450 {
					t.Errorf("back, but with %d of 1500 calls", got)
				}
			})
		})
	}
}

// A probe that hangs ends with its try, and a cancelled one leaves the place to the next.
func TestGate_probeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{}, fakes{"a": hang, "b": reply(200)}, "a", "b")
		if _, err := m.service("product").endpoints(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := m.endpoint("a")
		m.service("product").eject(e, "test")
		pass(10 * time.Second)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(10*time.Millisecond, cancel)
		m.endpoint("b").picked(time.Now().UnixNano())
		if _, err := ask(ctx, m, "GET"); err == nil || err.Kind != KindCanceled || err.Instance != "a" {
			t.Fatalf("got %v, want a cancelled probe of a", err)
		}
		m.endpoint("b").picked(time.Now().UnixNano())
		done := make(chan int)
		go func() { code, _ := get(m); done <- code }()
		synctest.Wait()
		if e.inflight.Load() != 1 {
			t.Fatal("no second probe")
		}
		for range 10 { // one probe at a time
			if code, _ := get(m); code != 200 {
				t.Errorf("got %d", code)
			}
		}
		if code := <-done; code != 200 {
			t.Errorf("the probe's caller got %d, want 200 by retry", code)
		}
		if !e.gate.ejected() || e.gate.until.Load() < time.Now().UnixNano() {
			t.Error("not ejected again")
		}
	})
}
