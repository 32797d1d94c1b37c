package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/testkit"
	"souk/shared/transport"
)

// server counts the connections that are made to it.
type server struct {
	*httptest.Server
	opened, closed atomic.Int64
}

func serve(t *testing.T, h http.HandlerFunc, secure bool) *server {
	t.Helper()
	s := &server{Server: httptest.NewUnstartedServer(h)}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.opened.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.closed.Add(1)
		}
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) pool(t *testing.T) *transport.Pool {
	t.Helper()
	p := &transport.Pool{Addr: s.Listener.Addr().String(), DialTimeout: time.Second, MaxIdle: 4}
	if s.TLS != nil {
		p.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs} //nolint:forcetypeassert // so httptest has it
	}
	t.Cleanup(p.CloseIdleConnections)
	return p
}

// scripted is a server that gives each connection to f, which ends it.
func scripted(t *testing.T, f func(n int, conn net.Conn, r *bufio.Reader)) *transport.Pool {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(n, conn, bufio.NewReader(conn))
			}()
		}
	}()
	p := &transport.Pool{Addr: l.Addr().String(), MaxIdle: 4}
	t.Cleanup(p.CloseIdleConnections)
	return p
}

func ask(ctx context.Context, p *transport.Pool, method, path string, body io.Reader, header ...string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.Addr+path, body)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// stream hides what a reader is, so that its length is not known and it can be read once.
type stream struct{ io.Reader }

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("Method", r.Method)
	_, _ = fmt.Fprintf(w, "%s %s %d %s", r.Method, r.URL.Path, r.ContentLength, b) //nolint:gosec // no browser
}

// One connection is enough for one request after another, whatever their bodies and answers are, in the clear and with TLS.
func TestPool_usesAConnectionAgain(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 300<<10)
	for _, secure := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/none":
				w.WriteHeader(http.StatusNoContent)
			case "/chunked":
				_, _ = io.WriteString(w, "one ")
				w.(http.Flusher).Flush()
				_, _ = io.WriteString(w, "two")
			default:
				echo(w, r)
			}
		}, secure)
		p := s.pool(t)
		for range 3 {
			for _, tt := range []struct {
				method, path string
				body         io.Reader
				status       int
				want         string
			}{
				{"GET", "/a", nil, 200, "GET /a 0 "},
				{"GET", "/none", http.NoBody, 204, ""},
				{"HEAD", "/a", nil, 200, ""},
				{"POST", "/b", strings.NewReader("goods"), 200, "POST /b 5 goods"},
				{"POST", "/c", stream{strings.NewReader("streams")}, 200, "POST /c -1 streams"},
				{"POST", "/d", bytes.NewReader([]byte(large)), 200, fmt.Sprintf("POST /d %d %s", len(large), large)},
				{"GET", "/chunked", nil, 200, "one two"},
			} {
				status, got, err := ask(t.Context(), p, tt.method, tt.path, tt.body)
				if err != nil || status != tt.status || got != tt.want {
					t.Fatalf("tls %v, %s %s: got %d %.40q %v, want %d %.40q", secure, tt.method, tt.path, status, got, err, tt.status, tt.want)
				}
			}
		}
		if n := s.opened.Load(); n != 1 {
			t.Errorf("tls %v: %d connections, want 1", secure, n)
		}
	}
}

// Many at a time have a connection each, of which no more than MaxIdle are kept, for IdleTimeout.
func TestPool_keepsSoMany(t *testing.T) {
	t.Parallel()
	const n = 12
	var together sync.WaitGroup
	together.Add(n)
	s := serve(t, func(http.ResponseWriter, *http.Request) {
		together.Done()
		together.Wait()
	}, false)
	p := s.pool(t)
	p.IdleTimeout = 50 * time.Millisecond
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() {
			if code, _, err := ask(t.Context(), p, "GET", "/", nil); code != 200 {
				t.Errorf("got %d, %v", code, err)
			}
		})
	}
	calls.Wait()
	if got := s.opened.Load(); got != n {
		t.Errorf("%d connections for %d at a time", got, n)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return s.closed.Load() == n })
}

// What the server closed while it was idle is not used; not even a POST without a key notices.
func TestPool_noticesThatTheServerHasGone(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s := serve(t, echo, secure)
		p := s.pool(t)
		for i := range 5 {
			if code, _, err := ask(t.Context(), p, "POST", "/", strings.NewReader("x")); code != 200 {
				t.Fatalf("tls %v, call %d: got %d, %v", secure, i, code, err)
			}
			s.CloseClientConnections()
			testkit.Eventually(t, 5*time.Second, func() bool { return s.closed.Load() == int64(i+1) })
		}
	}
}

// A server that hangs up as the request arrives may have executed it. So it is asked again on another connection only where that is
// harmless, and only if this one had been good before.
func TestPool_repeatsWhatIsHarmless(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method, key string
		body        io.Reader
		ok          bool
	}{
		"a read":                         {"GET", "", nil, true},
		"a read with a body":             {"GET", "", strings.NewReader("x"), true},
		"a read whose body streams":      {"GET", "", stream{strings.NewReader("x")}, false},
		"a write":                        {"POST", "", strings.NewReader("x"), false},
		"a write with a key":             {"POST", "k", strings.NewReader("x"), true},
		"a write with a key and nothing": {"POST", "k", nil, true},
		"a deletion":                     {"DELETE", "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			p := scripted(t, func(n int, conn net.Conn, r *bufio.Reader) {
				for i := 1; ; i++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					asked.Add(1)
					if n == 1 && i == 2 { // the second on the first connection
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			if code, _, err := ask(t.Context(), p, "GET", "/", nil); code != 200 {
				t.Fatal(code, err)
			}
			code, _, err := ask(t.Context(), p, tt.method, "/", tt.body, "Idempotency-Key", tt.key)
			if (code == 200) != tt.ok {
				t.Errorf("got %d, %v", code, err)
			}
			if want := map[bool]int64{true: 3, false: 2}[tt.ok]; asked.Load() != want {
				t.Errorf("asked %d times, want %d", asked.Load(), want)
			}
		})
	}
	// A new connection that fails is a failure.
	var asked atomic.Int64
	p := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		asked.Add(1)
	})
	if _, _, err := ask(t.Context(), p, "GET", "/", nil); err == nil || asked.Load() != 1 {
		t.Errorf("got %v after %d", err, asked.Load())
	}
}

// A context ends the waiting for a connection, for an answer, and for its body, with its cause.
func TestPool_endsWithTheContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	for _, secure := range []bool{false, true} {
		for _, where := range []string{"before", "header", "body", "sending"} {
			t.Run(fmt.Sprint(where, secure), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancelCause(t.Context())
				left := make(chan struct{}, 1)
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
					switch where {
					case "sending":
						_, _ = io.Copy(io.Discard, r.Body)
					case "body":
						_, _ = io.WriteString(w, "beginning")
						w.(http.Flusher).Flush()
						fallthrough
					default:
						<-r.Context().Done()
					}
					left <- struct{}{}
				}, secure)
				p := s.pool(t)
				var body io.Reader
				if where == "before" {
					cancel(cause)
				}
				if where == "sending" {
					r, w := io.Pipe()
					defer func() { _ = w.Close() }()
					go func() { _, _ = w.Write([]byte("beginning")) }() // or net/http waits for it, before it writes the header
					body = r
				}
				if _, _, err := ask(ctx, p, "POST", "/", body); !errors.Is(err, cause) {
					t.Errorf("got %v", err)
				}
				if where != "before" {
					<-left // the server knows, because the connection is closed
				}
			})
		}
	}
}

// A context that ends when an answer has been read has nothing to do with the connection any more.
func TestPool_isDoneWithTheContext(t *testing.T) {
	t.Parallel()
	s := serve(t, echo, false)
	p := s.pool(t)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		if code, _, err := ask(ctx, p, "GET", "/", nil); code != 200 {
			t.Fatal(code, err)
		}
		cancel()
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A body that is closed before its end costs its connection, and no time; reading it then is an error. At its end it says so as often
// as it is asked.
func TestPool_givesUpBodies(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "beginning")
		if r.URL.Path == "/endless" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}, false)
	p := s.pool(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/endless", nil)
	resp, err := p.RoundTrip(req) //nolint:bodyclose // it is closed, twice
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		waiting <- err
	}()
	_ = resp.Body.Close()
	_ = resp.Body.Close()
	if <-waiting == nil {
		t.Error("who was reading was told that it was the end")
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
		t.Error("read after Close")
	}
	req.URL.Path = "/"
	if resp, err = p.RoundTrip(req); err != nil { //nolint:bodyclose // it is closed at its end
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	for range 2 {
		if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
	_ = resp.Body.Close()
	if s.opened.Load() != 2 {
		t.Errorf("%d connections, want a second one", s.opened.Load())
	}
}

// A server may refuse a body that is still being sent. The answer comes through; the connection is not used again.
func TestPool_hearsAnAnswerBeforeTheBodyIsSent(t *testing.T) {
	t.Parallel()
	p := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.CopyN(io.Discard, r, 1<<20)
		}
	})
	for range 2 {
		in, out := io.Pipe()
		go func() {
			for {
				if _, err := out.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}()
		code, text, err := ask(t.Context(), p, "POST", "/", in)
		if code != 413 || text != "no" || err != nil {
			t.Errorf("got %d %q %v", code, text, err)
		}
		_ = in.Close()
	}
}

// A body that cannot be read is why the request fails.
func TestPool_tellsThatABodyCannotBeRead(t *testing.T) {
	t.Parallel()
	s := serve(t, echo, false)
	bad := errors.New("no more")
	in, out := io.Pipe()
	go func() {
		_, _ = out.Write([]byte("beginning"))
		_ = out.CloseWithError(bad)
	}()
	if _, _, err := ask(t.Context(), s.pool(t), "POST", "/", in); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
}

func TestPool_refusesWhatItCannotSend(t *testing.T) {
	t.Parallel()
	s := serve(t, echo, false)
	p := s.pool(t)
	for name, change := range map[string]func(*http.Request){
		"a name":    func(r *http.Request) { r.Header["Bad Name"] = []string{"x"} },
		"a value":   func(r *http.Request) { r.Header["X"] = []string{"a\r\nInjected: 1"} },
		"a method":  func(r *http.Request) { r.Method = "GET /" },
		"a trailer": func(r *http.Request) { r.Trailer = http.Header{"Bad Name": nil} },
		"a URL":     func(r *http.Request) { r.URL = nil },
	} {
		closed := &closing{Reader: strings.NewReader("x")}
		asked := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { asked = true }})
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, closed)
		change(req)
		resp, err := p.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil || asked || !closed.done {
			t.Errorf("%s: got %v, asked %v, closed %v", name, err, asked, closed.done)
		}
	}
}

type closing struct {
	io.Reader
	done bool
}

func (c *closing) Close() error { c.done = true; return nil }

// A header without end is cut off; 1xx answers are told of and passed over, but not for ever.
func TestPool_readsHeaders(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer string
		ok     bool
		told   int
	}{
		"hints":       {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 2) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, 2},
		"only hints":  {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), false, 5},
		"too long":    {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", false, 0},
		"no HTTP":     {"SSH-2.0-x\r\n", false, 0},
		"half of one": {"HTTP/1.1 200 OK\r\nContent-Le", false, 0},
		"1.0":         {"HTTP/1.0 200 OK\r\n\r\nhello", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				_, _ = io.WriteString(conn, tt.answer)
			})
			p.MaxHeaderBytes = 64 << 10
			told := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(int, textproto.MIMEHeader) error { told++; return nil },
			})
			if _, _, err := ask(ctx, p, "GET", "/", nil); (err == nil) != tt.ok || told != tt.told {
				t.Errorf("got %v, told %d", err, told)
			}
		})
	}
}

// A server that says more than it was asked is not listened to.
func TestPool_takesNoAnswerForAnotherRequest(t *testing.T) {
	t.Parallel()
	p := scripted(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			text := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
			_, _ = io.WriteString(conn, text+text)
		}
	})
	for i := range 3 {
		if _, got, err := ask(t.Context(), p, "GET", "/", nil); got != fmt.Sprint(i+1) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// 101 hands over the connection, which the request's context does not end.
func TestPool_handsOverTheConnection(t *testing.T) {
	t.Parallel()
	p := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi ")
			_, _ = io.Copy(conn, r)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Addr, nil)
	resp, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	w := resp.Body.(io.ReadWriteCloser) //nolint:forcetypeassert // so net/http has it
	_, _ = io.WriteString(w, "there")
	got := make([]byte, 8)
	if _, err := io.ReadFull(w, got); string(got) != "hi there" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A server that does not speak TLS, or is not whom we trust, gets no request; one that says nothing is left after a while.
func TestPool_provesTheServer(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	reach := func(http.ResponseWriter, *http.Request) { reached.Add(1) }
	for name, s := range map[string]*server{"plain": serve(t, reach, false), "stranger": serve(t, reach, true)} {
		p := s.pool(t)
		p.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
		if code, _, err := ask(t.Context(), p, "GET", "/", nil); err == nil {
			t.Errorf("%s: got %d", name, code)
		}
	}
	mute := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	mute.TLS, mute.HandshakeTimeout = &tls.Config{MinVersion: tls.VersionTLS13}, 50*time.Millisecond
	if _, _, err := ask(t.Context(), mute, "GET", "/", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("mute: got %v", err)
	}
	if reached.Load() != 0 {
		t.Error("a request was sent")
	}
}

// Nobody gets another's answer, whatever is cancelled, cut and given up beside it.
func TestPool_mixesNothingUp(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "7") {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(append([]byte(r.URL.Path), b...)) //nolint:gosec // no browser
	}, false)
	p := s.pool(t)
	p.IdleTimeout = time.Millisecond
	var calls sync.WaitGroup
	for g := range 8 {
		calls.Go(func() {
			for i := range 200 {
				path, ctx, cancel := fmt.Sprintf("/%d/%d", g, i), t.Context(), func() {}
				if i%5 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Microsecond)
				}
				text := strings.Repeat("b", i*i)
				var body io.Reader = strings.NewReader(text)
				if i%3 == 0 {
					body = stream{body}
				}
				code, got, err := ask(ctx, p, "POST", path, body)
				cancel()
				if err == nil && (code != 200 || got != path+text) {
					t.Errorf("%s: got %d %.30q", path, code, got)
				}
				if err != nil && i%5 != 0 && !strings.HasSuffix(path, "7") {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	calls.Wait()
}

func TestPool_closesIdleConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, echo, false)
	p := s.pool(t)
	for i := range int64(3) {
		if code, _, err := ask(t.Context(), p, "GET", "/", nil); code != 200 {
			t.Fatal(code, err)
		}
		p.CloseIdleConnections()
		testkit.Eventually(t, 5*time.Second, func() bool { return s.closed.Load() == i+1 })
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(beServer) != "" {
		answer()
		return
	}
	os.Exit(m.Run())
}
