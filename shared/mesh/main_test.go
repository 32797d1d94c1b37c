package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"souk/shared/registry"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names is a resolver whose answers a test sets.
type names struct {
	mu  sync.Mutex
	set []registry.Instance
	err error
}

func (n *names) Instances(context.Context, string) ([]registry.Instance, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set, n.err
}

// list sets the instances by address; the address is the ID too.
func (n *names) list(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set = nil
	for _, a := range addrs {
		n.set = append(n.set, registry.Instance{ID: a, Addr: a})
	}
}

// newMesh is a mesh over real servers.
func newMesh(t *testing.T, cfg Config, servers ...*httptest.Server) (*Mesh, *names) {
	t.Helper()
	n := &names{}
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Listener.Addr().String())
	}
	n.list(addrs...)
	cfg.Caller = "test"
	m := New(cfg, Deps{Resolver: n})
	t.Cleanup(m.Close)
	return m, n
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// fakes are instances without a network, for tests in a synctest bubble: a function per address, which sees the request
// after a connection was had. An address without a function refuses the connection.
type fakes map[string]instance

type instance func(*http.Request) answer

// answer is a response without a body, or an error.
type answer struct {
	status int
	header http.Header
	err    error
}

func (f fakes) wrap(http.RoundTripper) http.RoundTripper { return f }

func (f fakes) RoundTrip(req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	trace.GetConn(req.URL.Host)
	ask := f[req.URL.Host]
	if ask == nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	trace.GotConn(httptrace.GotConnInfo{})
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
	a := ask(req)
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: a.status, Header: a.header, Body: http.NoBody}, nil
}

func newFakeMesh(cfg Config, f fakes, addrs ...string) (*Mesh, *names) {
	n := &names{}
	n.list(addrs...)
	cfg.Caller = "test"
	return New(cfg, Deps{Resolver: n, Wrap: f.wrap}), n
}

func reply(code int, header ...string) instance {
	return after(0, code, header...)
}

// after answers when d has passed, unless the request ends first.
func after(d time.Duration, code int, header ...string) instance {
	return func(req *http.Request) answer {
		if d > 0 && !wait(req.Context(), d) {
			return answer{err: context.Cause(req.Context())}
		}
		a := answer{status: code, header: http.Header{}}
		for i := 0; i+1 < len(header); i += 2 {
			a.header.Set(header[i], header[i+1])
		}
		return a
	}
}

func hang(req *http.Request) answer {
	<-req.Context().Done()
	return answer{err: context.Cause(req.Context())}
}

func reset(*http.Request) answer {
	return answer{err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}}
}

// counted counts the requests that reach an instance.
func counted(n *atomic.Int64, next instance) instance {
	return func(req *http.Request) answer {
		n.Add(1)
		return next(req)
	}
}

// ask makes a call and gives its status or its error.
func ask(ctx context.Context, m *Mesh, method string, header ...string) (int, *Error) {
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPut {
		body = strings.NewReader("goods")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://product/v1/things?q=1", body)
	if err != nil {
		panic(err)
	}
	req.Pattern = "/v1/things"
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := m.RoundTrip(req)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			panic(fmt.Sprintf("not an *Error: %v", err))
		}
		return 0, e
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

func get(m *Mesh) (int, *Error) { return ask(context.Background(), m, http.MethodGet) }

func (m *Mesh) endpoint(addr string) *endpoint {
	for _, e := range m.service("product").set.Load().list {
		if e.Addr == addr {
			return e
		}
	}
	return nil
}

// inflight is the number of tries not ended, over all instances.
func (m *Mesh) inflight() (n int64) {
	for _, e := range m.service("product").set.Load().list {
		n += e.inflight.Load()
	}
	return n
}

// set makes an instance look as quick or as slow as a test wants.
func (l *latency) set(mean float64) { l.mean.Store(math.Float64bits(mean)) }
