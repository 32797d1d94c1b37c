package mesh

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gobreaker has ways to go wrong that its users found out one by one. Each has a test here that fails when the mesh falls
// for it; two are elsewhere: a probe that hangs (TestBreaker_hungProbeEnds), and answers that are the caller's own fault
// (TestBreaker_staysClosed).

func (m *Mesh) readBreaker() string {
	return m.service("product").breakers[ClassRead].two.State().String()
}

// cancelled makes a call that its caller gives up while it is under way.
func cancelled(m *Mesh) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	_, _ = ask(ctx, m, http.MethodGet)
	cancel()
}

// switched is an instance whose behaviour a test changes.
type switched struct{ now atomic.Pointer[instance] }

func (s *switched) be(i instance)             { s.now.Store(&i) }
func (s *switched) do(r *http.Request) answer { return (*s.now.Load())(r) }

func newSwitched(t *testing.T, cfg Config) (*Mesh, *switched) {
	t.Helper()
	s := &switched{}
	s.be(reply(200))
	m, _ := newFakeMesh(cfg, fakes{"a": s.do}, "a")
	return m, s
}

// asking is a log that looks at the mesh whenever it is told something.
type asking struct {
	slog.Handler
	look func()
}

func (a asking) Handle(context.Context, slog.Record) error { a.look(); return nil }
func (a asking) Enabled(context.Context, slog.Level) bool  { return true }

// Its callbacks run under its mutex, and whoever asks for its state in one waits for ever. What we do on a change is done
// outside.
func TestTrap_askingInACallback(t *testing.T) {
	t.Parallel()
	n := &names{}
	n.list("a")
	var m *Mesh
	var looked atomic.Int64
	log := slog.New(asking{slog.DiscardHandler, func() { m.Snapshot(); looked.Add(1) }})
	m = New(Config{Caller: "test"}, Deps{Resolver: n, Log: log, Wrap: fakes{"a": reply(500)}.wrap})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			_, _ = get(m)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("waits for ever")
	}
	if looked.Load() == 0 || m.readBreaker() != "open" {
		t.Errorf("looked %d times, breaker %s", looked.Load(), m.readBreaker())
	}
}

// A fixed window forgets everything at its boundary: the failures before it and after it never come together.
func TestTrap_windowBoundary(t *testing.T) {
	t.Parallel()
	for offset := range 20 {
		synctest.Test(t, func(t *testing.T) {
			m, s := newSwitched(t, Config{})
			_, _ = get(m) // the window, if there is one, begins here
			pass(time.Duration(offset) * 500 * time.Millisecond)
			s.be(reply(500))
			for i := range 20 {
				_, _ = get(m)
				if i == 9 {
					pass(3 * time.Second)
				}
			}
			if got := m.readBreaker(); got != "open" {
				t.Errorf("10 failures and 10 more three seconds later, begun %d ms after the first call: %s", offset*500, got)
			}
		})
	}
}

// One failure every three seconds is never five in a row to it, in a window of ten seconds. The gate counts by itself.
func TestTrap_slowTrickle(t *testing.T) {
	t.Parallel()
	var g gate
	cfg := Config{}.withDefaults()
	now := time.Unix(1e9, 0)
	for i := 1; i <= 5; i++ {
		reason := g.record(&cfg, now, failure, false)
		if (reason == "consecutive") != (i == 5) {
			t.Errorf("failure %d: %q", i, reason)
		}
		now = now.Add(3 * time.Second)
	}
}

// Counts.Requests has calls in it that have not ended, and calls that say nothing. A share of them would hide that every
// call that ended has failed.
func TestTrap_requestsThatDoNotCount(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*Mesh, *switched){
		"200 given up": func(m *Mesh, s *switched) {
			s.be(hang)
			for range 200 {
				cancelled(m)
			}
		},
		"100 under way": func(m *Mesh, s *switched) {
			s.be(after(time.Minute, 200))
			for range 100 {
				go func() { _, _ = get(m) }()
			}
			synctest.Wait()
		},
		"200 refused by 429": func(m *Mesh, s *switched) {
			s.be(reply(429))
			for range 200 {
				_, _ = get(m)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, s := newSwitched(t, Config{ReadTimeout: 2 * time.Minute, CallTimeout: 2 * time.Minute})
				before(m, s)
				s.be(reply(500))
				for i := range 20 {
					if got := m.readBreaker(); got != "closed" {
						t.Fatalf("%s after %d failures", got, i)
					}
					_, _ = get(m)
				}
				if got := m.readBreaker(); got != "open" {
					t.Errorf("%s after 20 failures and nothing else", got)
				}
				pass(3 * time.Minute)
			})
		})
	}
}

// Half open, it closes after three successes in a row and not before, and one failure opens it again.
func TestTrap_halfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, s := newSwitched(t, Config{})
		for _, round := range [][]int{{200, 200, 500}, {500}, {200, 500}, {200, 200, 200}} {
			s.be(reply(500))
			for range 20 {
				_, _ = get(m)
			}
			pass(5*time.Second + 1)
			for i, code := range round {
				if got := m.readBreaker(); got != "half-open" {
					t.Fatalf("%v: %s before probe %d", round, got, i)
				}
				s.be(reply(code))
				if got, err := get(m); got != code {
					t.Fatalf("%v: probe %d: got %d, %v", round, i, got, err)
				}
			}
			want := "open"
			if round[len(round)-1] == 200 {
				want = "closed"
			}
			if got := m.readBreaker(); got != want {
				t.Errorf("after probes %v: %s, want %s", round, got, want)
			}
		}
	})
}

// Left to its defaults it stays open for a minute, trips after six failures whatever came before, and takes every error
// for a failure.
func TestTrap_defaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, s := newSwitched(t, Config{})
		for range 30 {
			_, _ = get(m)
		}
		s.be(reply(500))
		for range 19 {
			_, _ = get(m)
		}
		if got := m.readBreaker(); got != "closed" {
			t.Errorf("%s after 19 failures of 49 calls", got)
		}
		for range 20 {
			_, _ = get(m)
		}
		if got := m.readBreaker(); got != "open" {
			t.Errorf("%s when half of the calls have failed", got)
		}
		s.be(reply(200))
		pass(5*time.Second + 1)
		if code, err := get(m); code != 200 {
			t.Errorf("after 5 s: got %d, %v", code, err)
		}
	})
}

// A probe that says nothing gives its place back: a client that leaves must not keep a service shut.
func TestTrap_excludedProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, s := newSwitched(t, Config{})
		s.be(reply(500))
		for range 20 {
			_, _ = get(m)
		}
		pass(5*time.Second + 1)
		s.be(hang)
		for range 10 {
			cancelled(m)
		}
		if got := m.readBreaker(); got != "half-open" {
			t.Errorf("%s after probes that were given up", got)
		}
		s.be(reply(200))
		for range 3 {
			if code, err := get(m); code != 200 {
				t.Errorf("got %d, %v", code, err)
			}
		}
		if got := m.readBreaker(); got != "closed" {
			t.Errorf("%s after three good probes", got)
		}
	})
}

// What ends late says how the service was, not how it is: results of calls from before the breaker opened neither close it
// nor open it again.
func TestTrap_lateResults(t *testing.T) {
	t.Parallel()
	for _, late := range []int{200, 500} {
		synctest.Test(t, func(t *testing.T) {
			m, s := newSwitched(t, Config{ReadTimeout: 30 * time.Second, CallTimeout: time.Minute})
			s.be(after(6*time.Second, late))
			var calls sync.WaitGroup
			for range 10 {
				calls.Go(func() { _, _ = get(m) })
			}
			synctest.Wait()
			s.be(reply(500))
			for range 20 {
				_, _ = get(m)
			}
			pass(5*time.Second + 1)
			s.be(reply(200))
			_, _ = get(m) // one good probe of three
			calls.Wait()
			if got := m.readBreaker(); got != "half-open" {
				t.Errorf("%s after ten late answers of %d", got, late)
			}
			_, _ = get(m)
			_, _ = get(m)
			if got := m.readBreaker(); got != "closed" {
				t.Errorf("%s after three good probes", got)
			}
		})
	}
}

// It has no rule for slow calls: to be too slow is to fail, by the time limit of a try; to be slow is not.
func TestTrap_slowCalls(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]string{900 * time.Millisecond: "closed", 1100 * time.Millisecond: "open"} {
		synctest.Test(t, func(t *testing.T) {
			m, s := newSwitched(t, Config{})
			s.be(after(took, 200))
			for range 40 {
				go func() { _, _ = get(m) }()
			}
			pass(5 * time.Second)
			if got := m.readBreaker(); got != want {
				t.Errorf("%s after 40 answers in %s, want %s", got, took, want)
			}
		})
	}
}
