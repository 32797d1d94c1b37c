package mesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// read makes a GET with a fallback, and gives the status, the body and what the response says of its origin.
func read(ctx context.Context, m *Mesh, url string, f Fallback, header ...string) (code int, body, origin string, failed *Error) {
	req, _ := http.NewRequestWithContext(WithFallback(ctx, f), http.MethodGet, "http://product"+url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := m.RoundTrip(req)
	if errors.As(err, &failed) {
		return 0, "", "", failed
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(b), resp.Header.Get(HeaderFallback), nil
}

func body(text string) instance {
	return func(*http.Request) answer {
		return answer{status: 200, header: http.Header{"Content-Type": {"text/plain"}}, body: text}
	}
}

// A read that fails, in whatever way, gets the last answer if that is not too old, else the default; what is no failure is
// left as it is. No fallback is a success, and the breaker has seen the failure.
func TestFallback(t *testing.T) {
	t.Parallel()
	both := Fallback{Stale: time.Minute, Default: map[string]any{"items": []int{}}}
	const byDefault = `{"items":[]}`
	for name, tt := range map[string]struct {
		then   instance // after one good answer; nil refuses connections
		later  time.Duration
		f      Fallback
		code   int
		body   string
		origin string
	}{
		"well":                  {body("new"), 37 * time.Second, both, 200, "new", ""},
		"500":                   {reply(500), 37 * time.Second, both, 200, "goods", "cache; age=37"},
		"503":                   {reply(503), 37 * time.Second, both, 200, "goods", "cache; age=37"},
		"refused":               {nil, 37 * time.Second, both, 200, "goods", "cache; age=37"},
		"hangs":                 {hang, 37 * time.Second, both, 200, "goods", "cache; age=39"},
		"too old":               {reply(500), 2 * time.Minute, both, 200, byDefault, "default"},
		"older than any may be": {reply(500), 6 * time.Minute, Fallback{Stale: time.Hour}, 500, "", ""},
		"the default alone":     {reply(500), 0, Fallback{Default: both.Default}, 200, byDefault, "default"},
		"nothing":               {reply(500), 0, Fallback{}, 500, "", ""},
		"404":                   {reply(404), 0, both, 404, "", ""},
		"429":                   {reply(429), 0, both, 429, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := fakes{"a": body("goods")}
				m, _ := newFakeMesh(Config{}, f, "a")
				if _, b, origin, err := read(t.Context(), m, "/v1/things?q=1", tt.f); b != "goods" || origin != "" {
					t.Fatalf("at first: got %q from %q, %v", b, origin, err)
				}
				pass(tt.later)
				f["a"] = tt.then
				code, b, origin, err := read(t.Context(), m, "/v1/things?q=1", tt.f)
				if code != tt.code || b != tt.body || origin != tt.origin {
					t.Errorf("got %d %q from %q, %v, want %d %q from %q", code, b, origin, err, tt.code, tt.body, tt.origin)
				}
				calls := m.Snapshot().Callees[0].Calls
				fell := tt.origin != ""
				if (calls["fallback"] == 1) != fell || fell && calls["success"] != 1 {
					t.Errorf("counted %v", calls)
				}
				if got := m.service("product").breakers[ClassRead].two.Counts().TotalFailures; fell && got != 1 {
					t.Errorf("the breaker has seen %d failures", got)
				}
				if n := m.inflight(); n != 0 {
					t.Errorf("%d in flight", n)
				}
			})
		})
	}
}

// It is there when it is needed most: with the breaker open, without instances, with all of them full, and with no time
// left. A caller that gave up needs none.
func TestFallback_whenNothingIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := Fallback{Default: "something"}
		m, s := newSwitched(t, Config{})
		s.be(reply(500))
		for range 30 {
			if _, b, origin, _ := read(t.Context(), m, "/", f); b != `"something"` || origin != "default" {
				t.Fatalf("got %q from %q", b, origin)
			}
		}
		if got := m.readBreaker(); got != "open" {
			t.Errorf("breaker %s", got)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		pass(10 * time.Second)
		if code, _, _, err := read(short, m, "/", f); code != 200 {
			t.Errorf("with no time left: %v", err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, _, _, err := read(gone, m, "/", f); err == nil || err.Kind != KindCanceled {
			t.Errorf("to one who has gone: %v", err)
		}
		empty, _ := newFakeMesh(Config{}, fakes{})
		if code, _, _, err := read(t.Context(), empty, "/", f); code != 200 {
			t.Errorf("without instances: %v", err)
		}
	})
}

// An answer is for those who asked the same with the same token; a part of one is none, and what must not be kept is not.
func TestFallback_whatIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := fakes{"a": body("goods")}
		m, _ := newFakeMesh(Config{BreakerCalls: 1 << 30}, f, "a")
		stale := Fallback{Stale: time.Minute}
		ask := func(url string, header ...string) (string, string) {
			_, b, origin, _ := read(t.Context(), m, url, stale, header...)
			return b, origin
		}
		ask("/mine", "Authorization", "Bearer a")
		f["a"] = body(strings.Repeat("x", rememberBytes+1))
		ask("/large")
		f["a"] = func(*http.Request) answer {
			return answer{status: 200, header: http.Header{"Cache-Control": {"private, no-store"}}, body: "secret"}
		}
		ask("/secret")
		f["a"] = body("half of it")
		req, _ := http.NewRequestWithContext(WithFallback(t.Context(), stale), http.MethodGet, "http://product/half", nil)
		resp, err := m.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(resp.Body, make([]byte, 4))
		_ = resp.Body.Close()

		f["a"] = reply(500)
		for _, tt := range []struct{ url, token, want string }{
			{"/mine", "Bearer a", "goods"},
			{"/mine", "Bearer b", ""},
			{"/mine", "", ""},
			{"/mine?x", "Bearer a", ""},
			{"/large", "", ""},
			{"/secret", "", ""},
			{"/half", "", ""},
		} {
			if got, origin := ask(tt.url, "Authorization", tt.token); got != tt.want || (origin != "") != (tt.want != "") {
				t.Errorf("%s with %q: got %q from %q, want %q", tt.url, tt.token, got, origin, tt.want)
			}
		}
		for i := range 3 * rememberedMost {
			m.service("product").answers.keep(strings.Repeat("k", i), remembered{})
		}
		if n := len(m.service("product").answers.known); n != rememberedMost {
			t.Errorf("%d answers are kept, want %d", n, rememberedMost)
		}
	})
}

// A write has nothing to fall back on, whatever its context says.
func TestFallback_notForWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newFakeMesh(Config{}, fakes{"a": reply(500)}, "a")
		ctx := WithFallback(t.Context(), Fallback{Default: "done"})
		for _, method := range []string{"POST", "PUT", "DELETE", "HEAD"} {
			if code, _ := ask(ctx, m, method); code != 500 {
				t.Errorf("%s: got %d", method, code)
			}
		}
	})
}
