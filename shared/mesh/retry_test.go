package mesh

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The retry table: the first instance asked ends the try in some way, the other answers 200. What counts is whether the
// other is asked.
func TestRetry_table(t *testing.T) {
	t.Parallel()
	type kind struct {
		method string
		header []string
		ctx    func(context.Context) context.Context
	}
	kinds := map[string]kind{
		"GET":                     {method: "GET"},
		"HEAD":                    {method: "HEAD"},
		"OPTIONS":                 {method: "OPTIONS"},
		"POST":                    {method: "POST"},
		"POST with key":           {method: "POST", header: []string{"Idempotency-Key", "k"}},
		"PUT":                     {method: "PUT"},
		"PUT declared":            {method: "PUT", ctx: WithIdempotent},
		"DELETE":                  {method: "DELETE"},
		"DELETE declared":         {method: "DELETE", ctx: WithIdempotent},
		"GET in a retry":          {method: "GET", ctx: WithoutRetry},
		"declared POST, in retry": {method: "POST", ctx: func(ctx context.Context) context.Context { return WithoutRetry(WithIdempotent(ctx)) }},
	}
	harmlessKinds := []string{"GET", "HEAD", "OPTIONS", "POST with key", "PUT declared", "DELETE declared"}
	all := make([]string, 0, len(kinds))
	for name := range kinds {
		all = append(all, name)
	}
	tests := []struct {
		name  string
		first instance // nil refuses the connection
		again []string // the kinds of request that are tried again
		want  int      // what the others get: a status, or 0 for an error
		kind  ErrorKind
	}{
		{"refused", nil, all, 0, ""},
		{"reset", reset, harmlessKinds, 0, KindBroken},
		{"try times out", hang, harmlessKinds, 0, KindTimeout},
		{"502", reply(502), harmlessKinds, 502, ""},
		{"503", reply(503), harmlessKinds, 503, ""},
		{"504", reply(504), harmlessKinds, 504, ""},
		{"503 elsewhere", reply(503, HeaderElsewhere, "1"), harmlessKinds, 503, ""},
		{"503 shed", reply(503, HeaderShed, "1"), all, 0, ""},
		{"500", reply(500), nil, 500, ""},
		{"501", reply(501), nil, 501, ""},
		{"429", reply(429), nil, 429, ""},
		{"429, again in 1 s", reply(429, "Retry-After", "1"), harmlessKinds, 429, ""},
		{"429, again in 60 s", reply(429, "Retry-After", "60"), nil, 429, ""},
		{"404", reply(404), nil, 404, ""},
		{"302", reply(302), nil, 302, ""},
	}
	for _, tt := range tests {
		for name, k := range kinds {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var firstSeen, secondSeen atomic.Int64
					f := fakes{"good": counted(&secondSeen, reply(200))}
					if tt.first != nil {
						f["bad"] = counted(&firstSeen, tt.first)
					}
					m, n := newFakeMesh(Config{}, f, "bad")
					if _, err := m.service("product").endpoints(t.Context()); err != nil {
						t.Fatal(err)
					}
					bad := m.endpoint("bad")
					bad.latency.observe(time.Now(), 1) // the cheapest, so the first
					bad.picked(time.Now().UnixNano())
					n.list("bad", "good")
					if _, err := m.service("product").endpoints(t.Context()); err != nil {
						t.Fatal(err)
					}
					m.endpoint("good").latency.observe(time.Now(), time.Hour)
					m.endpoint("good").picked(time.Now().UnixNano())

					ctx := context.Background()
					if k.ctx != nil {
						ctx = k.ctx(ctx)
					}
					got, err := ask(ctx, m, k.method, k.header...)

					wantAgain := false
					for _, a := range tt.again {
						wantAgain = wantAgain || a == name
					}
					switch {
					case wantAgain && got != 200:
						t.Errorf("got %d, %v, want 200 from the other", got, err)
					case !wantAgain && secondSeen.Load() != 0:
						t.Error("tried again")
					case !wantAgain && got != tt.want:
						t.Errorf("got %d, want %d", got, tt.want)
					case !wantAgain && tt.kind != "" && err.Kind != tt.kind:
						t.Errorf("got %v, want kind %s", err, tt.kind)
					}
					if err != nil && tt.kind == KindBroken && err.Retryable != (k.method == "GET" || k.ctx != nil) {
						t.Errorf("retryable: got %t", err.Retryable)
					}
					if firstSeen.Load() > 1 || secondSeen.Load() > 1 {
						t.Errorf("asked %d and %d times", firstSeen.Load(), secondSeen.Load())
					}
				})
			})
		}
	}
}

// All instances fail: retries stay within a tenth and three a second.
func TestRetry_budget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		f := fakes{"a": counted(&seen, reply(503)), "b": counted(&seen, reply(503))}
		m, _ := newFakeMesh(Config{BreakerCalls: 1 << 30}, f, "a", "b")
		const rps, seconds = 100, 60
		tick := time.NewTicker(time.Second / rps)
		defer tick.Stop()
		for range rps * seconds {
			<-tick.C
			go func() { _, _ = get(m) }()
		}
		synctest.Wait()
		pass(time.Second)
		extra := float64(seen.Load() - rps*seconds)
		// One window more than the time: the reserve can be spent in advance.
		if most := 0.1*rps*seconds + 3*(seconds+10); extra > most || extra < most/2 {
			t.Errorf("got %.0f retries of %d calls, want about %.0f", extra, rps*seconds, most)
		}
	})
}

// Nothing is sent when no time is left, and a caller's shorter deadline is kept.
func TestDeadline(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		deadline time.Duration
		ctx      func(context.Context) context.Context
		method   string
		kind     ErrorKind
		took     time.Duration // at most; and at least that less a tenth
		seen     int64
	}{
		{"a read: two tries of a second", 0, nil, "GET", KindTimeout, 2 * time.Second, 2},
		{"a write: one of three", 0, nil, "POST", KindTimeout, 3 * time.Second, 1},
		{"critical: one of five", 0, func(ctx context.Context) context.Context { return WithClass(ctx, ClassCritical) }, "POST", KindTimeout, 5 * time.Second, 1},
		{"a long call", 0, func(ctx context.Context) context.Context { return WithTryTimeout(ctx, 40*time.Second) }, "POST", KindTimeout, 40 * time.Second, 1},
		{"caller's deadline is shared by the tries of a read", time.Second, nil, "GET", KindDeadline, time.Second, 2},
		{"and left whole to a write", time.Second, nil, "POST", KindDeadline, time.Second, 1},
		{"caller's deadline beats a long try", time.Second, func(ctx context.Context) context.Context { return WithTryTimeout(ctx, 40*time.Second) }, "POST", KindDeadline, time.Second, 1},
		{"no time to send it", 4 * time.Millisecond, nil, "GET", KindDeadline, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen atomic.Int64
				f := fakes{"a": counted(&seen, hang), "b": counted(&seen, hang)}
				m, _ := newFakeMesh(Config{}, f, "a", "b")
				ctx := context.Background()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				if tt.ctx != nil {
					ctx = tt.ctx(ctx)
				}
				began := time.Now()
				code, err := ask(ctx, m, tt.method)
				took := time.Since(began)
				if err == nil {
					t.Fatalf("got %d", code)
				}
				if err.Kind != tt.kind && !(tt.kind == KindDeadline && err.Kind == KindTimeout) {
					t.Errorf("kind: got %s (%v), want %s", err.Kind, err, tt.kind)
				}
				if !err.Timeout() {
					t.Error("not reported as a timeout")
				}
				if took > tt.took+50*time.Millisecond || took < tt.took*9/10 {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if seen.Load() != tt.seen {
					t.Errorf("sent %d times, want %d", seen.Load(), tt.seen)
				}
			})
		})
	}
}

// The callee is told which try it is and how long the try has.
func TestHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []*http.Request
		f := fakes{"a": func(r *http.Request) answer {
			seen = append(seen, r)
			return reply(503)(r)
		}}
		m, _ := newFakeMesh(Config{}, f, "a")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://product/v1/things?q=1", nil)
		resp, err := m.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if len(seen) != 2 {
			t.Fatalf("got %d tries, want 2: the only instance is asked again", len(seen))
		}
		for i, r := range seen {
			if got, want := r.Header.Get(HeaderAttempt), []string{"", "2"}[i]; got != want {
				t.Errorf("attempt: got %s, want %s", got, want)
			}
			if got := r.Header.Get(HeaderTimeout); got != "995" {
				t.Errorf("timeout: got %s ms, want 995", got)
			}
			if r.URL.String() != "http://a/v1/things?q=1" || r.Host != "product" {
				t.Errorf("sent to %s, host %s", r.URL, r.Host)
			}
		}
		if len(req.Header) != 0 || req.URL.Host != "product" || resp.Request != req {
			t.Error("the caller's request was changed")
		}
	})
}

// pass lets time pass, in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// The callee is told what may be given up first: as the caller says, or else by class.
func TestHeaders_priority(t *testing.T) {
	t.Parallel()
	critical := func(ctx context.Context) context.Context { return WithClass(ctx, ClassCritical) }
	sheddable := func(ctx context.Context) context.Context { return WithPriority(ctx, Sheddable) }
	for name, tt := range map[string]struct {
		ctx  []func(context.Context) context.Context
		want []string
	}{
		"by default":                  {nil, nil},
		"nobody waits for it":         {[]func(context.Context) context.Context{sheddable}, []string{"sheddable"}},
		"by class":                    {[]func(context.Context) context.Context{critical}, []string{"critical"}},
		"by class, for less":          {[]func(context.Context) context.Context{critical, sheddable}, []string{"sheddable"}},
		"normal, though by its class": {[]func(context.Context) context.Context{critical, func(ctx context.Context) context.Context { return WithPriority(ctx, Normal) }}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got []string
				m, _ := newFakeMesh(Config{}, fakes{"a": func(r *http.Request) answer {
					got = r.Header[HeaderPriority]
					return reply(200)(r)
				}}, "a")
				ctx := context.Background()
				for _, with := range tt.ctx {
					ctx = with(ctx)
				}
				if _, err := ask(ctx, m, "GET"); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// One instance answers 500 at once, another is well. Callers notice when it begins; what is asked of it later, to find out
// whether it is well again, is asked of the other one too, unless asking twice is not harmless. When all answer so, nothing
// is repeated.
func TestRetry_hidesFindingOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		other        int
		bad, seen    int // at most: calls that fail, requests beyond the calls
	}{
		{"a read", "GET", 200, 2, 30},
		{"a write", "POST", 200, 30, 0},
		{"all ill", "GET", 500, 600, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen atomic.Int64
				m, _ := newFakeMesh(Config{BreakerRatio: 2}, fakes{
					"ill": counted(&seen, reply(500)), "other": counted(&seen, after(5*time.Millisecond, c.other)),
				}, "ill", "other")
				calls, failed := 0, 0
				for range 600 {
					calls++
					if code, err := ask(context.Background(), m, c.method); err != nil || code != 200 {
						failed++
					}
					pass(100 * time.Millisecond)
				}
				if extra := int(seen.Load()) - calls; failed > c.bad || extra > c.seen {
					t.Errorf("%d of %d calls failed, %d requests more than calls; want at most %d and %d", failed, calls, extra, c.bad, c.seen)
				}
			})
		})
	}
}

// Calls that may not be repeated earn no retries for others.
func TestBudget_ofCallsThatMayBeRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		m, _ := newFakeMesh(Config{BreakerRatio: 2}, fakes{"a": counted(&seen, reply(503))}, "a")
		once := WithoutRetry(context.Background())
		for range 1000 {
			_, _ = ask(once, m, "GET")
		}
		for range 100 {
			_, _ = get(m)
		}
		if extra := seen.Load() - 1100; extra != 40 {
			t.Errorf("%d retries of 100 calls, want 10 and 30", extra)
		}
	})
}

// Whatever the fraction of a second in which a caller begins: no more retries in its first ten seconds than a tenth of its
// calls and three a second, nor in the long run.
func TestBudget_overTenSecondsAndMore(t *testing.T) {
	t.Parallel()
	const perSecond = 300
	begin := time.Unix(1_000_000, 0).Add(900 * time.Millisecond)
	b := budget{ratio: 0.1, reserve: 3}
	retries := 0
	for calls := 1; calls <= 60*perSecond; calls++ {
		now := begin.Add(time.Duration(calls) * time.Second / perSecond)
		b.call(now)
		for b.spend(now) {
			retries++
		}
		limit := calls/10 + 30
		if calls > 10*perSecond {
			limit = calls/10 + 3*calls/perSecond + 30 // what was saved up may be spent at the end
		}
		if retries > limit {
			t.Fatalf("%d retries for %d calls, want at most %d", retries, calls, limit)
		}
	}
}

// A header given to the mesh is used as it is by a first try, and left alone by a second, which may come while the first is
// still being sent.
func TestOwnHeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []http.Header
		see := func(code int) instance {
			return func(r *http.Request) answer {
				seen = append(seen, r.Header)
				return answer{status: code}
			}
		}
		m, _ := newFakeMesh(Config{}, fakes{"a": see(http.StatusBadGateway), "b": see(http.StatusBadGateway)}, "a", "b")
		h := http.Header{"X-Own": {"1"}}
		req, _ := http.NewRequestWithContext(WithOwnHeader(t.Context()), http.MethodGet, "http://product/x", nil)
		req.Header = h
		resp, err := m.RoundTrip(req)
		if err != nil || len(seen) != 2 {
			t.Fatalf("%d tries, %v", len(seen), err)
		}
		_ = resp.Body.Close()
		if h.Get(HeaderTimeout) == "" || h.Get(HeaderAttempt) != "" {
			t.Errorf("the header that was given: %v", h)
		}
		if seen[1].Get("X-Own") != "1" || seen[1].Get(HeaderAttempt) != "2" {
			t.Errorf("the second try's: %v", seen[1])
		}
	})
}
