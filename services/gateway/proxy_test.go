package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"souk/services/gateway"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/registry"

	"github.com/google/go-cmp/cmp"
)

func TestForward_limitsTheBody(t *testing.T) {
	t.Parallel()
	var finished atomic.Int64 // bodies that a service has read to their end
	e := setup(t, gateway.Config{}, all(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			finished.Add(1)
		}
		fmt.Fprint(w, n)
	})))
	const limit = httpapi.BodyLimit
	body := func(n int) io.Reader { return strings.NewReader(strings.Repeat("a", n)) }
	chunked := func(n int) io.Reader { return struct{ io.Reader }{body(n)} } // its length is not known

	for name, b := range map[string]io.Reader{"known": body(limit), "chunked": chunked(limit), "small": body(10), "none": nil} {
		if got := e.do(t, "POST", "/api/v1/orders", b); got.Status != 200 {
			t.Errorf("%s: got status %d %s, want 200", name, got.Status, got.Body)
		}
	}
	before := finished.Load()
	for _, b := range []io.Reader{body(limit + 1), chunked(limit + 1), chunked(3 << 20)} {
		e.do(t, "POST", "/api/v1/orders", b).Problem(t, 413, "too_large")
	}
	if got := finished.Load(); got != before {
		t.Errorf("a service took %d bodies that are too large for whole", got-before)
	}
}

func TestForward_doesNotWaitForSlowBodies(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{Timeout: 300 * time.Millisecond}, all(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})))
	for name, head := range map[string]string{
		"small":   "Content-Length: 100\r\n\r\nabc",
		"large":   "Content-Length: 100000\r\n\r\nabc",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\n%s", head)
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "slow_body") {
				t.Errorf("got status %d %s, want 400", resp.StatusCode, body)
			}
		})
	}
}

func TestForward_answersForServicesThatDoNot(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := listener.Addr().String()
	_ = listener.Close()
	none := func(http.ResponseWriter, *http.Request) {}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hijack := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(c, text)
				_ = c.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		addrs   addresses // in place of the handler
		method  string
		status  int
		code    string
	}{
		"no instance":     {none, addresses{}, "GET", 503, "unavailable"},
		"nobody listens":  {none, addresses{"order": {registry.Instance{ID: "1", Addr: dead}}}, "GET", 503, "unavailable"},
		"slow read":       {hang, nil, "GET", 504, "deadline"},
		"slow write":      {hang, nil, "POST", 504, "deadline"},
		"hangs up":        {hijack(""), nil, "POST", 502, "upstream"},
		"talks nonsense":  {hijack("SSH-2.0-OpenSSH_9.2\r\n\r\n"), nil, "GET", 502, "upstream"},
		"breaks the head": {hijack("HTTP/1.1 200 OK\r\nContent-Le"), nil, "POST", 502, "upstream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := gateway.Config{Timeout: 400 * time.Millisecond}
			e := setup(t, cfg, shop{"order": {c.handler}})
			if c.addrs != nil {
				e = setupAt(t, cfg, c.addrs)
			}
			start := time.Now()
			got := e.do(t, c.method, "/api/v1/orders/1", nil, "X-Request-Id", "mine-1")
			got.Problem(t, c.status, c.code)
			var p fault.Problem
			if err := json.Unmarshal(got.Body, &p); err != nil || p.Instance != "/api/v1/orders/1" || p.RequestID != "mine-1" || strings.Contains(p.Detail, "127.0.0.1") {
				t.Errorf("got %s", got.Body)
			}
			if after := got.Header.Get("Retry-After"); (after != "") != (c.status == 503) {
				t.Errorf("Retry-After is %q", after)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestForward_passesOnWhatAServiceSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		header http.Header
		body   string
	}{
		"wrong method":   {405, http.Header{"Allow": {"GET, POST"}, "Content-Type": {"application/problem+json"}}, `{"code":"method_not_allowed"}`},
		"out of stock":   {409, http.Header{"Content-Type": {"application/problem+json"}}, `{"code":"out_of_stock"}`},
		"unavailable":    {503, http.Header{"Retry-After": {"7"}}, "later"},
		"an empty 404":   {404, http.Header{}, ""},
		"no content":     {204, http.Header{}, ""},
		"not modified":   {304, http.Header{"Etag": {`"3"`}}, ""},
		"moved":          {303, http.Header{"Location": {"/api/v1/orders/1"}}, ""},
		"internal error": {500, http.Header{}, "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t, gateway.Config{}, all(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range c.header {
					w.Header()[name] = values
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})))
			got := e.do(t, "DELETE", "/api/v1/orders", nil)
			if got.Status != c.status || string(got.Body) != c.body {
				t.Errorf("got %d %q, want %d %q", got.Status, got.Body, c.status, c.body)
			}
			for name := range c.header {
				if diff := cmp.Diff(c.header[name], got.Header[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestForward_noticesThatTheClientLeft(t *testing.T) {
	t.Parallel()
	reached, ended := make(chan struct{}), make(chan struct{})
	e := setup(t, gateway.Config{}, all(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
		close(ended)
	})))
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/api/v1/orders", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-reached; leave() }()
	if resp, err := client.Do(req); !errors.Is(err, context.Canceled) {
		_ = resp.Body.Close()
		t.Fatalf("got %v, want a canceled request", err)
	}
	<-ended // the service is told
	if event := e.log.await(t, 499); event["level"] != "INFO" || event["error"] != nil {
		t.Errorf("a client that leaves is no error: %v", event)
	}
}

func TestForward_recordsAnAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, all(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/api/v1/orders", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); err == nil {
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Error("half an answer came as a whole one")
		}
		_ = resp.Body.Close()
	}
	if event := e.log.await(t, 200); event["aborted"] != true {
		t.Errorf("the log does not say that it broke off: %v", event)
	}
}

func TestForward_repeatsOnlyWhatIsHarmless(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, path string
		key          string
		tries        int64
	}{
		"a read":               {"GET", "/api/v1/orders", "", 2},
		"a write with a key":   {"POST", "/api/v1/orders", "k", 2},
		"a write without":      {"POST", "/api/v1/orders", "", 1},
		"a change":             {"PATCH", "/api/v1/users/me", "", 1},
		"a removal":            {"DELETE", "/api/v1/users/me/addresses/1", "", 1},
		"a login":              {"POST", "/api/v1/auth/login", "", 1},
		"a refresh with a key": {"POST", "/api/v1/auth/refresh", "k", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int64
			h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				tries.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler) // the connection breaks once the request was read
			})
			e := setup(t, gateway.Config{}, shop{"order": {h, h}, "user": {h, h}})
			var headers []string
			if c.key != "" {
				headers = []string{"Idempotency-Key", c.key}
			}
			e.do(t, c.method, c.path, strings.NewReader(`{"a":1}`), headers...).Problem(t, 502, "upstream")
			if got := tries.Load(); got != c.tries {
				t.Errorf("it was sent %d times, want %d", got, c.tries)
			}
		})
	}
}

func TestForward_hidesOneDeadInstance(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	good := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })
	bad := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	e := setup(t, gateway.Config{}, shop{"product": {good, bad}})
	for range 30 {
		e.do(t, "GET", "/api/v1/products", nil).Into(t, 200, nil)
	}
	if served.Load() != 30 {
		t.Errorf("the good instance served %d of 30", served.Load())
	}
}
