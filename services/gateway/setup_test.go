package gateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/services/gateway"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/mesh"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// edge is a gateway that serves on a port, with the real mesh behind it.
type edge struct {
	url     string
	key     *ecdsa.PrivateKey
	log     *logBuffer
	consul  *consul
	run     func(context.Context) error // the gateway's
	gateway *gateway.Gateway
	metrics *prometheus.Registry
}

// shop says where services are: handlers get a server each, one instance per handler.
type shop map[string][]http.Handler

func setup(t testing.TB, cfg gateway.Config, services shop) *edge {
	t.Helper()
	addrs := addresses{}
	for name, handlers := range services {
		for _, h := range handlers {
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			addrs[name] = append(addrs[name], registry.Instance{ID: s.URL, Addr: s.Listener.Addr().String()})
		}
	}
	return setupAt(t, cfg, addrs)
}

func setupAt(t testing.TB, cfg gateway.Config, where mesh.Resolver) *edge {
	t.Helper()
	return setupWith(t, cfg, where, time.Now)
}

func setupWith(t testing.TB, cfg gateway.Config, where mesh.Resolver, now func() time.Time) *edge {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{key: key, log: new(logBuffer), consul: newConsul()}
	log := slog.New(slog.NewJSONHandler(e.log, nil))
	e.metrics = prometheus.NewRegistry()
	m := mesh.New(mesh.Config{Caller: "gateway"}, mesh.Deps{Resolver: where})
	t.Cleanup(m.Close)
	server := httpapi.New(httpapi.Config{
		Service: "gateway", Version: "test", Log: log, Metrics: e.metrics,
		Verifier: identity.NewVerifier(func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, time.Now),
	})
	g := gateway.New(cfg, gateway.Deps{Mesh: m, Verifier: server.Verifier(), Consul: e.consul, Log: log, Now: now, Version: "test"})
	g.Mount(server)
	e.run, e.gateway = g.Run, g
	s := httptest.NewUnstartedServer(server.Handler())
	s.Config.MaxHeaderBytes = 64 << 10
	s.Start()
	t.Cleanup(s.Close)
	e.url = s.URL
	return e
}

// counted is what the counter says of the series with those labels.
func (e *edge) counted(t testing.TB, name string, labels map[string]string) (sum float64) {
	t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			matching := f.GetName() == name
			for _, l := range m.GetLabel() {
				want, ok := labels[l.GetName()]
				matching = matching && (!ok || want == l.GetValue())
			}
			if matching {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// addresses is a resolver that never changes.
type addresses map[string][]registry.Instance

func (a addresses) Instances(_ context.Context, service string) ([]registry.Instance, error) {
	return a[service], nil
}

// clock stands still until it is advanced.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// token is a user's access token, signed so long ago.
func (e *edge) token(t testing.TB, user uuid.UUID, age time.Duration) string {
	t.Helper()
	token, err := identity.Sign(identity.Principal{UserID: user, Roles: []identity.Role{identity.Customer}}, e.key, "test", time.Now().Add(-age))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// do sends a request. Headers come in pairs.
func (e *edge) do(t testing.TB, method, path string, body io.Reader, headers ...string) *testkit.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Add(pair[0], pair[1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &testkit.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}
}

// client shows answers as they are.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// recorder is a service that answers 200 and keeps what it was asked.
type recorder struct {
	mu   sync.Mutex
	seen []*http.Request
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, in)
	w.WriteHeader(http.StatusOK)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// last is the last request, of which there must be one.
func (r *recorder) last(t testing.TB) *http.Request {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		t.Fatal("the service was not asked")
	}
	return r.seen[len(r.seen)-1]
}

// logBuffer keeps log lines.
type logBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	discard bool // set before it is written to
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.discard {
		return len(p), nil
	}
	return l.b.Write(p)
}

// requests are the access log's events.
func (l *logBuffer) requests(t testing.TB) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []map[string]any
	for line := range strings.Lines(l.b.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("a log line that is not JSON: %s", line)
		}
		if e["msg"] == "request" {
			events = append(events, e)
		}
	}
	return events
}

// await waits for the access log to have an event with that status, which is written after the client has left.
func (l *logBuffer) await(t testing.TB, status float64) map[string]any {
	t.Helper()
	var found map[string]any
	testkit.Eventually(t, 5*time.Second, func() bool {
		for _, e := range l.requests(t) {
			if e["status"] == status {
				found = e
			}
		}
		return found != nil
	})
	return found
}
