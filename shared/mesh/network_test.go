package mesh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// kill makes a server vanish as kill -9 does: nobody listens, and connections are cut in the middle of their answers.
func kill(s *httptest.Server) {
	_ = s.Listener.Close()
	s.CloseClientConnections()
}

// One of two instances is killed under load. Every read succeeds. Of the writes without a key only those that were on the
// wire fail, and none is executed twice.
func TestKillOneOfTwo(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			executed := map[string]int{}
			var busy atomic.Int64
			handler := func(w http.ResponseWriter, r *http.Request) {
				busy.Add(1)
				defer busy.Add(-1)
				mu.Lock()
				executed[r.Header.Get("Call")]++
				mu.Unlock()
				<-time.After(2 * time.Millisecond)
				_, _ = io.WriteString(w, "ok")
			}
			doomed, other := serve(t, handler), serve(t, handler)
			m, _ := newMesh(t, Config{}, doomed, other)

			var failed atomic.Int64
			var calls sync.WaitGroup
			var onWire int64
			tick := time.NewTicker(3 * time.Millisecond)
			defer tick.Stop()
			const n = 600
			for i := range n {
				<-tick.C
				if i == n/3 {
					onWire = m.inflight()
					kill(doomed)
				}
				calls.Go(func() {
					if code, err := ask(context.Background(), m, method, "Call", fmt.Sprint(i)); code != 200 {
						failed.Add(1)
						if method == "GET" || err.Retryable {
							t.Errorf("call %d: %v", i, err)
						}
					}
				})
			}
			calls.Wait()
			// The count was taken a moment before the end.
			if got := failed.Load(); method == "POST" && got > onWire+3 {
				t.Errorf("%d failed, with %d on the wire", got, onWire)
			}
			mu.Lock()
			defer mu.Unlock()
			for call, times := range executed {
				if method == "POST" && times > 1 {
					t.Errorf("call %s was executed %d times", call, times)
				}
			}
			// Whether ejected or only avoided for its failures: it must not be asked again and again.
			if got := testutil.ToFloat64(m.endpoint(doomed.Listener.Addr().String()).attempts[unreachable]); got > 5 {
				t.Errorf("the dead one was asked %.0f times", got)
			}
			if n := m.inflight(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

// A connection cut after the request was sent: with a key the call is repeated with the same body, without it never.
func TestPostCutOnTheWire(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		var mu sync.Mutex
		var bodies []string
		cut := func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			bodies = append(bodies, string(b))
			first := len(bodies) == 1
			mu.Unlock()
			if first {
				panic(http.ErrAbortHandler)
			}
		}
		m, _ := newMesh(t, Config{}, serve(t, cut), serve(t, cut))
		var header []string
		want := []string{"goods"}
		if key != "" {
			header, want = []string{"Idempotency-Key", key}, []string{"goods", "goods"}
		}
		code, err := ask(t.Context(), m, "POST", header...)
		if (code == 200) != (key != "") {
			t.Errorf("key %q: got %d, %v", key, code, err)
		}
		if key == "" && (err.Kind != KindBroken || err.Retryable) {
			t.Errorf("got %+v", err)
		}
		mu.Lock()
		if !slices.Equal(bodies, want) {
			t.Errorf("key %q: the instances got %q, want %q", key, bodies, want)
		}
		mu.Unlock()
	}
}

// source is a request body that notes what happens to it.
type source struct {
	io.Reader
	closed atomic.Int64
}

func (s *source) Close() error { s.closed.Add(1); return nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Bodies of unknown length stream: sent once, though to another instance if the first refused the connection. Whatever
// happens the caller's body is closed.
func TestStreamingBody(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 300<<10)
	var got atomic.Int64
	var code atomic.Int64
	code.Store(200)
	live := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got.Add(n)
		w.WriteHeader(int(code.Load()))
	})
	dead := serve(t, status(200))
	kill(dead)
	call := func(m *Mesh, body io.Reader, length int64) (int, *source, error) {
		src := &source{Reader: body}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://product/v1/x", nil)
		req.Body, req.ContentLength = src, length
		req = req.WithContext(WithIdempotent(req.Context()))
		resp, err := m.RoundTrip(req)
		if err != nil {
			return 0, src, err
		}
		_ = resp.Body.Close()
		return resp.StatusCode, src, nil
	}

	m, _ := newMesh(t, Config{EjectRefused: 1 << 30, EjectAfter: 1 << 30, BreakerCalls: 1 << 30}, dead, live)
	for i := range 10 {
		got.Store(0)
		status, src, err := call(m, strings.NewReader(big), -1)
		if status != 200 || got.Load() != int64(len(big)) || src.closed.Load() != 1 {
			t.Fatalf("call %d: got %d, %v, %d bytes, closed %d times", i, status, err, got.Load(), src.closed.Load())
		}
		m.endpoint(dead.Listener.Addr().String()).latency.set(1) // tempting
	}

	code.Store(503)
	m, _ = newMesh(t, Config{}, live, live)
	got.Store(0)
	status, src, _ := call(m, strings.NewReader(big), -1)
	if status != 503 || got.Load() != int64(len(big)) || src.closed.Load() != 1 {
		t.Errorf("streamed, 503: got %d, %d bytes, closed %d times; want it sent once", status, got.Load(), src.closed.Load())
	}
	got.Store(0)
	status, src, _ = call(m, strings.NewReader("small"), 5)
	if status != 503 || got.Load() != 10 || src.closed.Load() != 1 {
		t.Errorf("kept, 503: got %d, %d bytes, closed %d times; want it sent twice", status, got.Load(), src.closed.Load())
	}

	// A caller's body that cannot be read is nobody else's fault.
	tooBig := &http.MaxBytesError{Limit: 7}
	for _, length := range []int64{-1, 5, 1 << 20} {
		for range 10 {
			_, src, err := call(m, failing{tooBig}, length)
			var e *Error
			var cause *http.MaxBytesError
			if !errors.As(err, &e) || e.Kind != KindRequest || !errors.As(err, &cause) || src.closed.Load() != 1 {
				t.Fatalf("length %d: got %v, closed %d times", length, err, src.closed.Load())
			}
		}
	}
	if m.endpoint(live.Listener.Addr().String()).gate.ejected() {
		t.Error("ejected for a caller's fault")
	}

	m, n := newMesh(t, Config{})
	n.list()
	if _, src, err := call(m, strings.NewReader(big), -1); err == nil || src.closed.Load() != 1 {
		t.Errorf("no instances: got %v, closed %d times", err, src.closed.Load())
	}
	m.Close()
	if _, src, err := call(m, strings.NewReader(big), 5); err == nil || src.closed.Load() != 1 {
		t.Errorf("closed: got %v, closed %d times", err, src.closed.Load())
	}
}

// sending is a transport that refuses a first try before its body is read, and reads it, and closes it, when the second begins:
// RoundTrip may do that after it has returned.
type sending struct {
	http.RoundTripper
	first io.ReadCloser
	read  []byte
}

func (s *sending) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.first == nil {
		trace := httptrace.ContextClientTrace(req.Context())
		trace.GetConn(req.URL.Host)
		trace.GotConn(httptrace.GotConnInfo{})
		s.first = req.Body
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{HeaderShed: {"1"}}, Body: http.NoBody}, nil
	}
	s.read = make([]byte, 3)
	n, _ := s.first.Read(s.read)
	s.read = s.read[:n]
	_ = s.first.Close()
	return s.RoundTripper.RoundTrip(req)
}

// A streaming body that a second try sends is the second's alone, whatever the first is still about to do.
func TestStreamingBody_hasOneReader(t *testing.T) {
	t.Parallel()
	s := serve(t, echoBody)
	var between *sending
	n := &names{}
	n.list(s.Listener.Addr().String())
	m := New(Config{Caller: "test"}, Deps{Resolver: n, Wrap: func(next http.RoundTripper) http.RoundTripper {
		between = &sending{RoundTripper: next}
		return between
	}})
	defer m.Close()
	src := &source{Reader: strings.NewReader("goods")}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://product/v1/x", src)
	resp, err := m.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != "goods" || err != nil || len(between.read) > 0 || src.closed.Load() != 1 {
		t.Errorf("got %q, %v; the first try read %q; closed %d times", got, err, between.read, src.closed.Load())
	}
}

func echoBody(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }

// An instance that dies with a keyed request, over a connection that was good before, may have executed it: that nobody listens
// there when the pool sends it once more does not make it one that was not sent.
func TestDiesWithARequest(t *testing.T) {
	t.Parallel()
	var s *httptest.Server
	s = serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = s.Listener.Close()
			panic(http.ErrAbortHandler)
		}
	})
	m, _ := newMesh(t, Config{Tries: 1}, s)
	if code, err := get(m); code != 200 {
		t.Fatal(err)
	}
	if _, err := ask(t.Context(), m, http.MethodPost, "Idempotency-Key", "k"); err == nil || err.Kind != KindBroken {
		t.Errorf("got %v, want %s", err, KindBroken)
	}
}

// A request the transport rejects is not held against the instance.
func TestInvalidRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, status(200))
	m, _ := newMesh(t, Config{}, s, serve(t, status(200)))
	for range 20 {
		if _, err := ask(t.Context(), m, "GET", "Bad", "line\nbreak"); err == nil || err.Kind != KindRequest || err.Retryable {
			t.Fatalf("got %+v", err)
		}
	}
	if code, err := get(m); code != 200 {
		t.Errorf("then: %v", err)
	}
}

// The try's limit ends with the headers; the body is bounded by the call.
func TestResponseBody(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for range 100 {
			_, _ = io.WriteString(w, "drip ")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(15 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
	m, _ := newMesh(t, Config{ReadTimeout: 700 * time.Millisecond}, s)
	client := m.Client()
	open := func(ctx context.Context, client *http.Client) *http.Response {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://product/drip", nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}

	resp := open(t.Context(), client)
	if got := m.inflight(); got != 1 {
		t.Errorf("in flight with an open body: %d, want 1", got)
	}
	b, err := io.ReadAll(resp.Body)
	if len(b) != 500 || err != nil {
		t.Errorf("a body of a second and a half: got %d bytes, %v", len(b), err)
	}
	_ = resp.Body.Close()
	_ = resp.Body.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	resp = open(ctx, client)
	if _, err = io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the deadline: got %v", err)
	}
	_ = resp.Body.Close()
	short, _ := newMesh(t, Config{CallTimeout: 800 * time.Millisecond}, s)
	resp = open(t.Context(), short.Client())
	if _, err = io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the mesh's own deadline: got %v", err)
	}
	_ = resp.Body.Close()

	resp = open(t.Context(), client)
	_ = resp.Body.Close() // unread
	if got := m.inflight(); got != 0 {
		t.Errorf("in flight at the end: %d, want 0", got)
	}
}

func TestRedirectIsAnAnswer(t *testing.T) {
	t.Parallel()
	m, _ := newMesh(t, Config{}, serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
	}))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://product/x", nil)
	resp, err := m.Client().Do(req)
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("got %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// The gateway's use: under a reverse proxy bodies stream both ways, an upgraded connection works and outlives the call's
// deadline, and a client that leaves ends the work behind.
func TestUnderReverseProxy(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upgrade":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(conn, rw)
		case "/wait":
			<-r.Context().Done()
			close(left)
		default:
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}
	})
	m, _ := newMesh(t, Config{CallTimeout: 1500 * time.Millisecond}, s)
	product := &url.URL{Scheme: "http", Host: "product"}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: m, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(product) }})
	t.Cleanup(proxy.Close)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

	for _, body := range []io.Reader{strings.NewReader("short"), io.MultiReader(bytes.NewReader(make([]byte, 200<<10)))} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy.URL+"/echo", body)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || (string(b) != "short" && len(b) != 200<<10) {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
	}

	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: got %v, %v", resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		_, _ = io.WriteString(conn, "ping\n")
		if line, err := in.ReadString('\n'); line != "ping\n" {
			t.Fatalf("echo: got %q, %v", line, err)
		}
	}
	if got := m.inflight(); got != 1 {
		t.Errorf("in flight with an upgraded connection: %d, want 1", got)
	}
	_ = conn.Close()

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, proxy.URL+"/wait", nil)
	if late, err := client.Do(req); err == nil {
		_ = late.Body.Close()
		t.Error("want an error")
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the work went on after the client left")
	}
}

// The bar is 10 µs and 20 allocations above a plain transport.
func BenchmarkRoundTrip(b *testing.B) {
	s := httptest.NewServer(status(204))
	defer s.Close()
	n := &names{}
	n.list(s.Listener.Addr().String(), s.Listener.Addr().String())
	m := New(Config{Caller: "bench"}, Deps{Resolver: n})
	defer m.Close()
	plain := &http.Transport{MaxIdleConnsPerHost: 64}
	defer plain.CloseIdleConnections()
	for _, bb := range []struct {
		name string
		rt   http.RoundTripper
		url  string
	}{{"plain", plain, s.URL}, {"mesh", m, "http://product"}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, bb.url+"/x", nil)
				resp, err := bb.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}

// What the mesh itself costs, without a network.
func BenchmarkOverhead(b *testing.B) {
	ok := func(*http.Request) answer { return answer{status: http.StatusOK} }
	m, _ := newFakeMesh(Config{}, fakes{"a": ok, "b": ok, "c": ok}, "a", "b", "c")
	req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://product/x", nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := m.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 4, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var addrs []string
			for i := range n {
				addrs = append(addrs, fmt.Sprint("a", i))
			}
			m, _ := newFakeMesh(Config{}, fakes{}, addrs...)
			s := m.service("product")
			list, _ := s.endpoints(context.Background())
			now := time.Now()
			for _, e := range list {
				e.latency.observe(now, time.Millisecond)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.pick(list, choice{now: now})
				}
			})
		})
	}
}
