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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/transport"
)

// said is a connection on which a test may send several records of TLS in one piece.
type said struct {
	net.Conn
	hold bool
	kept []byte
}

func (s *said) Write(b []byte) (int, error) {
	s.kept = append(s.kept, b...)
	if s.hold {
		return len(b), nil
	}
	kept := s.kept
	s.kept = nil
	_, err := s.Conn.Write(kept)
	return len(b), err
}

// scriptedIn is scripted, in TLS too. What it hands to f are the connection, what is below TLS, and a reader.
func scriptedIn(t *testing.T, secure bool, f func(n int, conn net.Conn, raw *said, r *bufio.Reader)) *transport.Pool {
	t.Helper()
	if !secure {
		return scripted(t, func(n int, conn net.Conn, r *bufio.Reader) {
			raw := &said{Conn: conn}
			f(n, raw, raw, r)
		})
	}
	s := httptest.NewTLSServer(nil) // for its certificate

	conf, roots := s.TLS.Clone(), s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // so httptest has it
	s.Close()
	p := scripted(t, func(n int, conn net.Conn, _ *bufio.Reader) {
		raw := &said{Conn: conn}
		sealed := tls.Server(raw, conf)
		f(n, sealed, raw, bufio.NewReader(sealed))
	})
	p.TLS = &tls.Config{RootCAs: roots}
	return p
}

// What comes after an answer is no answer to the next request, however the first one ends, and also when TLS has read it together
// with the first.
func TestPool_takesNothingForTheNextAnswer(t *testing.T) {
	t.Parallel()
	const more = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore"
	for _, secure := range []bool{false, true} {
		for _, first := range []string{
			"GET HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
			"GET HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"GET HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
			"GET HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0\r\nA: b\r\n\r\n",
			"GET HTTP/1.1 204 No Content\r\nContent-Length: 41\r\n\r\n",
			"GET HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
			"GET HTTP/1.1 103 Early Hints\r\nContent-Length: 41\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
			"GET HTTP/1.1 099 Odd\r\nContent-Length: 41\r\n\r\n",
			"HEAD HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n",
		} {
			t.Run(fmt.Sprint(first, secure), func(t *testing.T) {
				t.Parallel()
				method, answer, _ := strings.Cut(first, " ")
				p := scriptedIn(t, secure, func(_ int, conn net.Conn, raw *said, r *bufio.Reader) {
					for {
						req, err := http.ReadRequest(r)
						if err != nil {
							return
						}
						if req.URL.Path == "/next" {
							_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
							continue
						}
						raw.hold = true
						_, _ = io.WriteString(conn, answer)
						raw.hold = false
						_, _ = io.WriteString(conn, more)
					}
				})
				for range 2 {
					if _, got, err := ask(t.Context(), p, method, "/", nil); err != nil || got == "more" {
						t.Errorf("got %q, %v", got, err)
					}
					if _, got, err := ask(t.Context(), p, "GET", "/next", nil); err != nil || got != "next" {
						t.Errorf("the next one got %q, %v", got, err)
					}
				}
			})
		}
	}
}

// An answer that is cut off anywhere is an error, be it by a goodbye or by a reset.
func TestPool_takesNoPartForTheWhole(t *testing.T) {
	t.Parallel()
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	} {
		for _, secure := range []bool{false, true} {
			for _, reset := range []bool{false, true} {
				var cut atomic.Int64
				p := scriptedIn(t, secure, func(_ int, conn net.Conn, raw *said, r *bufio.Reader) {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					_, _ = io.WriteString(conn, whole[:cut.Load()])
					if reset {
						_ = raw.Conn.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // it was accepted as such
						_ = raw.Conn.Close()
					}
					_ = conn.Close()
				})
				for i := range len(whole) {
					cut.Store(int64(i))
					if _, got, err := ask(t.Context(), p, "GET", "/", nil); err == nil {
						t.Errorf("%q, TLS %v, reset %v: got %q", whole[:i], secure, reset, got)
					}
				}
			}
		}
	}
}

// waiting is a body of which there is some, and then nothing until it is closed.
type waiting struct {
	some   io.Reader
	closed chan struct{}
	once   sync.Once
}

func (w *waiting) Read(p []byte) (int, error) {
	if n, err := w.some.Read(p); n > 0 {
		return n, err
	}
	<-w.closed
	return 0, io.EOF
}

func (w *waiting) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

// A body that has not been sent when the exchange is over is closed, or who reads it would wait for ever. Even if that looks like
// its end, the server does not take it for that.
func TestPool_closesABodyThatIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, some := range []string{"", "beginning"} {
		for name, answer := range map[string]string{
			"answered": "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
			"halfway":  "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno", // and the rest is not waited for
			"empty":    "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
			"hung up":  "",
			"silence":  "-",
		} {
			t.Run(name+some, func(t *testing.T) {
				t.Parallel()
				p := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
					req, err := http.ReadRequest(r)
					if err != nil || answer == "" {
						return
					}
					if answer != "-" {
						_, _ = io.WriteString(conn, answer)
					}
					if _, err := io.Copy(io.Discard, req.Body); err == nil {
						t.Error("the server took a part of the body for the whole")
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				b := &waiting{some: strings.NewReader(some), closed: make(chan struct{})}
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Addr, b)
				resp, err := p.RoundTrip(req)
				if err == nil {
					if _, err := io.CopyN(io.Discard, resp.Body, 2); (err == nil) != (name != "empty") {
						t.Error(err)
					}
					_ = resp.Body.Close()
				}
				if (err == nil) != strings.HasPrefix(answer, "HTTP") {
					t.Errorf("got %v", err)
				}
				select {
				case <-b.closed:
				case <-time.After(5 * time.Second):
					t.Error("it was not closed")
				}
			})
		}
	}
}

// Some of a read's body is read in the background, to see whether there is any. That may go on when the exchange is over.
func TestPool_givesUpAReadWhoseBodyWaits(t *testing.T) {
	t.Parallel()
	p := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			given := make(chan struct{})
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(given) }})
			b := &waiting{some: strings.NewReader(""), closed: make(chan struct{})}
			if _, _, err := ask(ctx, p, "GET", "/", b); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			<-b.closed
			<-given
		})
	}
	calls.Wait()
}

// A server that reads nothing does not keep anybody longer than the context does, to say goodbye in TLS.
func TestPool_endsWithTheContextWhateverTheServerReads(t *testing.T) {
	t.Parallel()
	p := scriptedIn(t, true, func(_ int, conn net.Conn, _ *said, _ *bufio.Reader) {
		_ = conn.(*tls.Conn).HandshakeContext(t.Context()) //nolint:forcetypeassert // it was asked for
		<-t.Context().Done()
	})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, _, err := ask(ctx, p, "POST", "/", bytes.NewReader(make([]byte, 16<<20)))
			end, _ := ctx.Deadline()
			if late := time.Since(end); err == nil || late > 3*time.Second {
				t.Errorf("got %v, %v late", err, late)
			}
		})
	}
	calls.Wait()
}

// A body whose length is not known may be a large one, although it could be had again.
func TestPool_hearsAnAnswerBeforeABodyOfUnknownLengthIsSent(t *testing.T) {
	t.Parallel()
	p := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			<-t.Context().Done()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Addr, bytes.NewReader(make([]byte, 32<<20)))
	req.ContentLength = 0
	resp, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// A request that cannot be sent is no connection's fault: one is asked for, and the others are kept.
func TestPool_blamesNoConnectionForTheRequest(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Request){
		"a line break in its URL":   func(r *http.Request) { r.URL.RawQuery = "a\r\nInjected: 1" },
		"less body than it says":    func(r *http.Request) { r.ContentLength = 9 },
		"more body than it says":    func(r *http.Request) { r.ContentLength = 2 },
		"a trailer that may not be": func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var together sync.WaitGroup
			together.Add(3)
			s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					t.Error("it was sent")
				}
				together.Done()
				together.Wait()
			}, false)
			p := s.pool(t)
			var calls sync.WaitGroup
			for range 3 {
				calls.Go(func() { _, _, _ = ask(t.Context(), p, "GET", "/", nil) })
			}
			calls.Wait()
			asked := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { asked++ }})
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader("goods"))
			change(req)
			resp, err := p.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if err == nil || asked != 1 {
				t.Errorf("got %v, with %d connections asked for", err, asked)
			}
		})
	}
}

// What was written to a connection that failed may have been executed. When it is sent again and there is no connection, whoever
// follows the trace must not believe that nothing was sent.
func TestPool_hidesNotThatItWasSent(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(gone)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
		_, _ = http.ReadRequest(r)
		_ = l.Close()
	}()
	p := &transport.Pool{Addr: l.Addr().String(), MaxIdle: 1}
	if code, _, err := ask(t.Context(), p, "GET", "/", nil); code != 204 {
		t.Fatal(code, err)
	}
	had := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { had = false }, GotConn: func(httptrace.GotConnInfo) { had = true },
	})
	if _, _, err := ask(ctx, p, "POST", "/", nil, "Idempotency-Key", "k"); err == nil || !had {
		t.Errorf("got %v, had %v", err, had)
	}
	<-gone
}
