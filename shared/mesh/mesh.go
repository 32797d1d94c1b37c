package mesh

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/registry"

	"github.com/prometheus/client_golang/prometheus"
)

// Resolver says where a service can be called; *registry.Registry is one. It must answer at once after the first time, and
// should return the same slice until something changes. It may be called concurrently.
type Resolver interface {
	Instances(ctx context.Context, service string) ([]registry.Instance, error)
}

// Config tunes a mesh. Only Caller is needed; every other zero value means the default given beside it.
type Config struct {
	Caller string // our own service name, for metrics

	CallTimeout     time.Duration // a whole call, body included: 10 s
	ReadTimeout     time.Duration // one try of a read until its response headers: 1 s
	WriteTimeout    time.Duration // the same of a write: 3 s
	CriticalTimeout time.Duration // the same of a critical call: 5 s
	DialTimeout     time.Duration // connecting to an instance: 300 ms

	Tries           int     // at most, per call: 2
	BodyBufferBytes int64   // request bodies up to this size are kept for another try: 64 KiB
	RetryRatio      float64 // retries allowed per call, on average: 0.1
	RetryReserve    float64 // retries per second allowed besides: 3

	MaxInflight int64 // tries at one instance at a time, until their bodies end: 128

	EjectAfter   int           // failures in a row that eject an instance: 5
	EjectRefused int           // refused connections in a row that do: 2
	EjectFor     time.Duration // the first ejection, doubled for each that follows: 5 s
	EjectMost    time.Duration // the longest: 60 s

	BreakerCalls         uint32        // ended calls in 10 s below which no breaker opens: 20
	BreakerRatio         float64       // share of failures that opens it: 0.5
	BreakerCriticalRatio float64       // the same for critical calls: 0.8
	BreakerOpen          time.Duration // how long it stays open before it probes: 5 s
}

func (c Config) withDefaults() Config {
	c.CallTimeout = cmp.Or(c.CallTimeout, 10*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 3*time.Second)
	c.CriticalTimeout = cmp.Or(c.CriticalTimeout, 5*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 300*time.Millisecond)
	c.Tries = cmp.Or(c.Tries, 2)
	c.BodyBufferBytes = cmp.Or(c.BodyBufferBytes, 64<<10)
	c.RetryRatio = cmp.Or(c.RetryRatio, 0.1)
	c.RetryReserve = cmp.Or(c.RetryReserve, 3)
	c.MaxInflight = cmp.Or(c.MaxInflight, 128)
	c.EjectAfter = cmp.Or(c.EjectAfter, 5)
	c.EjectRefused = cmp.Or(c.EjectRefused, 2)
	c.EjectFor = cmp.Or(c.EjectFor, 5*time.Second)
	c.EjectMost = cmp.Or(c.EjectMost, 60*time.Second)
	// Hystrix's numbers, but for critical calls: those are worth trying as long as one in five gets through.
	c.BreakerCalls = cmp.Or(c.BreakerCalls, 20)
	c.BreakerRatio = cmp.Or(c.BreakerRatio, 0.5)
	c.BreakerCriticalRatio = cmp.Or(c.BreakerCriticalRatio, 0.8)
	c.BreakerOpen = cmp.Or(c.BreakerOpen, 5*time.Second)
	return c
}

// Deps are the mesh's surroundings. Only Resolver is needed.
type Deps struct {
	Resolver Resolver
	Log      *slog.Logger          // nil discards
	Metrics  prometheus.Registerer // nil keeps the metrics unregistered
	Now      func() time.Time      // nil means time.Now
	// TLS says how to speak TLS with a service's instances, each of which has the name it is called by from the resolver and
	// not from its certificate: so the configuration must verify that it is the service (as go-spiffe's tlsconfig does), and
	// fetch certificates that are renewed by its callbacks. It says ErrImpostor of an instance that is not, which is then left
	// out at the expense of no call. It is asked once per instance. nil, or nil for a service, is
	// plain HTTP.
	TLS func(service string) *tls.Config
	// Wrap goes around the connection pool of each instance, so it sees every try; telemetry.Transport fits. nil adds
	// nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Mesh is an http.RoundTripper that calls services by name. It may be used concurrently.
type Mesh struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	closed  atomic.Bool
	journal journal

	mu       sync.RWMutex
	services map[string]*service
}

// New makes a mesh. It panics without a Resolver or a Caller, and when the metrics are already registered.
func New(cfg Config, deps Deps) *Mesh {
	if deps.Resolver == nil || cfg.Caller == "" {
		panic("mesh: New needs a Resolver and a Caller")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m := &Mesh{
		cfg:      cfg.withDefaults(),
		deps:     deps,
		log:      cmp.Or(deps.Log, slog.New(slog.DiscardHandler)),
		services: make(map[string]*service),
	}
	m.metrics = newMetrics(cfg.Caller, deps.Metrics, m)
	return m
}

// Client returns an http.Client on the mesh. It has no timeout of its own, contexts rule, and it does not follow
// redirects: between services a redirect is an answer.
func (m *Mesh) Client() *http.Client {
	return &http.Client{
		Transport:     m,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close refuses further calls and closes idle connections. Calls in flight end in their own time.
func (m *Mesh) Close() {
	m.closed.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.services {
		s.retire()
	}
}

// CloseIdleConnections closes connections that are kept and not in use. http.Client's method of that name calls it.
func (m *Mesh) CloseIdleConnections() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.services {
		if set := s.set.Load(); set != nil {
			for _, e := range set.list {
				e.pool.CloseIdleConnections()
			}
		}
	}
}

// RoundTrip makes one call. Its errors are all of type *Error.
func (m *Mesh) RoundTrip(req *http.Request) (*http.Response, error) {
	began := m.deps.Now()
	c, err := m.newCall(req, began)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	t := c.fallBack(c.run())
	if t.at.IsZero() { // or a try has looked at the clock just now
		t.at = m.deps.Now()
	}
	took := t.at.Sub(began)
	m.metrics.ended(c, t.outcome, took)
	c.svc.tally.ended(c, t.outcome, took)
	if t.resp == nil {
		return nil, c.failure(t)
	}
	return t.resp, nil
}

func (m *Mesh) service(name string) *service {
	m.mu.RLock()
	s := m.services[name]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s = m.services[name]; s == nil {
		s = newService(m, name)
		m.services[name] = s
	}
	return s
}
