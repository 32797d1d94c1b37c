package mesh

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/registry"
	"souk/shared/transport"

	"github.com/prometheus/client_golang/prometheus"
)

// service is what we know about one callee.
type service struct {
	mesh     *Mesh
	name     string
	budget   budget
	breakers [ClassCritical + 1]*breaker
	lbPanic  prometheus.Counter
	tally    tally
	alarms   alarms
	counted  atomic.Pointer[series] // by the last call
	answers  answers
	pacesMu  sync.Mutex
	paces    map[string]*pace // by route; of calls that may be hedged
	ejected  atomic.Int64     // instances of the set that are out of service

	set atomic.Pointer[endpointSet]
	mu  sync.Mutex // serialises changes of set, and ejections
}

// endpointSet is immutable.
type endpointSet struct {
	from []registry.Instance
	list []*endpoint
	out  []*endpoint // expelled
	back time.Time   // when the first of them is looked at again; zero without any
}

// holds tells whether the set is still what there is to call.
func (t *endpointSet) holds(instances []registry.Instance, now func() time.Time) bool {
	return same(t.from, instances) && (t.back.IsZero() || now().Before(t.back))
}

func newService(m *Mesh, name string) *service {
	s := &service{
		mesh: m, name: name,
		budget:  budget{ratio: m.cfg.RetryRatio, reserve: m.cfg.RetryReserve},
		lbPanic: m.metrics.lbPanic.WithLabelValues(name),
	}
	for class := ClassRead; class <= ClassCritical; class++ {
		s.breakers[class] = newBreaker(m.cfg, class, func(c change) {
			m.log.Warn("service breaker changed", "callee", name, "class", class.String(), "from", c.from.String(), "to", c.to.String())
			s.breakerChanged(class, c)
		}, m.metrics.breaker(name, class))
	}
	return s
}

// endpoints returns the callee's instances as the resolver has them now. What is known of an instance survives changes of
// the others.
func (s *service) endpoints(ctx context.Context) ([]*endpoint, error) {
	instances, err := s.mesh.deps.Resolver.Instances(ctx, s.name)
	if err != nil {
		return nil, err
	}
	if set := s.set.Load(); set != nil && set.holds(instances, s.mesh.deps.Now) {
		return set.list, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Asked again under the lock, or two callers with answers of different age would take turns undoing each other.
	if instances, err = s.mesh.deps.Resolver.Instances(ctx, s.name); err != nil {
		return nil, err
	}
	old := s.set.Load()
	if old == nil {
		old = &endpointSet{}
	} else if old.holds(instances, s.mesh.deps.Now) {
		return old.list, nil
	}
	set := s.succeed(slices.Concat(old.list, old.out), instances)
	s.set.Store(set)
	s.countEjected()
	return set.list, nil
}

// succeed makes the set of the instances that there are now. s.mu is held.
func (s *service) succeed(old []*endpoint, instances []registry.Instance) *endpointSet {
	for _, e := range old {
		if !slices.ContainsFunc(instances, e.is) {
			e.retire()
		}
	}
	set := &endpointSet{from: instances}
	var fresh []*endpoint
	for _, in := range instances {
		i := slices.IndexFunc(old, func(e *endpoint) bool { return e.is(in) })
		if i >= 0 && s.mesh.deps.Now().Before(old[i].expelled) {
			set.expel(old[i])
			continue
		}
		if i >= 0 {
			set.list = append(set.list, old[i])
			continue
		}
		e := s.newEndpoint(in)
		set.list, fresh = append(set.list, e), append(fresh, e)
	}
	if 2*len(fresh) > len(set.list) { // there are not enough warm ones to spare the cold ones
		return set
	}
	now := s.mesh.deps.Now().UnixNano()
	for _, e := range fresh {
		e.joined = now
	}
	return set
}

// same tells whether two answers of the resolver are one.
func same(a, b []registry.Instance) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// countEjected is called whenever that number may have changed, so that nobody else needs to count. s.mu is held.
func (s *service) countEjected() {
	n := int64(0)
	for _, e := range s.set.Load().list {
		if e.gate.ejected() {
			n++
		}
	}
	s.ejected.Store(n)
}

// eject takes e out of service, unless too many are: at most half the instances, so never the only one.
func (s *service) eject(e *endpoint, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.set.Load()
	out := 0
	for _, other := range set.list {
		if other != e && other.gate.ejected() {
			out++
		}
	}
	if out+1 > len(set.list)/2 {
		if e.gate.ejected() { // it was a probe of one that is out already, and may be tried again at once
			e.gate.probing.Store(0)
		}
		return
	}
	d := e.gate.eject(&s.mesh.cfg, s.mesh.deps.Now())
	s.countEjected()
	e.ejectedGauge.Set(1)
	s.mesh.metrics.ejections.WithLabelValues(s.name, reason).Inc()
	s.mesh.log.Warn("instance ejected", "callee", s.name, "instance", e.ID, "reason", reason, "for_ms", d.Milliseconds())
	s.mesh.journal.add(Event{At: s.mesh.deps.Now(), Kind: "ejected", Callee: s.name, Instance: e.ID, Reason: reason, ForMs: d.Milliseconds()})
}

// expel leaves e out of the set: it could not prove to be of the service, so it is neither tried nor counted, however many
// there are like it. It does that for as long as an ejection lasts, no longer, and not to the last one there is: it may be that
// the two of us do not know the same authority at the moment. It tells whether e is out.
func (s *service) expel(e *endpoint, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.set.Load()
	i := slices.Index(old.list, e)
	if i < 0 {
		return true
	}
	if len(old.list) == 1 {
		return false
	}
	d := e.gate.eject(&s.mesh.cfg, now)
	e.gate.readmit(now.Add(d))
	e.expelled = now.Add(d)
	set := &endpointSet{from: old.from, list: slices.Delete(slices.Clone(old.list), i, i+1), out: slices.Clone(old.out), back: old.back}
	set.expel(e)
	s.set.Store(set)
	s.countEjected()
	s.mesh.metrics.ejections.WithLabelValues(s.name, "impostor").Inc()
	s.mesh.journal.add(Event{At: now, Kind: "ejected", Callee: s.name, Instance: e.ID, Reason: "impostor", ForMs: d.Milliseconds()})
	return true
}

func (t *endpointSet) expel(e *endpoint) {
	t.out = append(t.out, e)
	if t.back.IsZero() || e.expelled.Before(t.back) {
		t.back = e.expelled
	}
}

// readmit puts e back in service.
func (s *service) readmit(e *endpoint, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.gate.readmit(now)
	s.countEjected()
	e.ejectedGauge.Set(0)
}

func (s *service) retire() {
	if set := s.set.Load(); set != nil {
		for _, e := range slices.Concat(set.list, set.out) {
			e.retire()
		}
	}
}

// endpoint is one instance, with its own connection pool: a dead instance's connections trouble nobody else, and go with it.
type endpoint struct {
	registry.Instance
	svc       *service
	pool      *transport.Pool
	transport http.RoundTripper // the pool, wrapped
	scheme    string
	weight    float64
	joined    int64     // unix nanoseconds, when it came into the set; 0 if it needs no slow start
	expelled  time.Time // until when it is; guarded by the service's mu

	gate       gate
	latency    latency
	inflight   atomic.Int64
	lastPicked atomic.Int64 // unix nanoseconds
	tries      tries
	failure    atomic.Pointer[Failure] // the last

	ejectedGauge prometheus.Gauge
	seconds      prometheus.Observer
	attempts     [closed + 1]prometheus.Counter
}

func (s *service) newEndpoint(in registry.Instance) *endpoint {
	cfg := s.mesh.cfg
	pool := &transport.Pool{
		Addr:             in.Addr,
		DialTimeout:      cfg.DialTimeout,
		HandshakeTimeout: time.Second,
		MaxIdle:          64,               // of the MaxInflight that there may be in a burst
		IdleTimeout:      45 * time.Second, // less than the servers' 75 s: the client must be the one who closes
		MaxHeaderBytes:   64 << 10,
	}
	e := &endpoint{Instance: in, svc: s, pool: pool, transport: pool, scheme: "http", weight: 1}
	if of := s.mesh.deps.TLS; of != nil {
		if pool.TLS = of(s.name); pool.TLS != nil {
			e.scheme = "https"
		}
	}
	if wrap := s.mesh.deps.Wrap; wrap != nil {
		e.transport = wrap(pool)
	}
	if w, err := strconv.ParseFloat(in.Meta[registry.MetaWeight], 64); err == nil && w > 0 {
		e.weight = w
	}
	s.mesh.metrics.endpoint(e)
	return e
}

// is tells whether in is this instance, in this life of it: a process that has been restarted owes nothing to the last one.
func (e *endpoint) is(in registry.Instance) bool {
	return e.ID == in.ID && e.Addr == in.Addr && e.Meta[registry.MetaBoot] == in.Meta[registry.MetaBoot]
}

// learn tells the balancer and the gate how a try ended.
func (e *endpoint) learn(t trial, probe bool, limit time.Duration) {
	e.attempts[t.outcome].Inc()
	now := t.at
	v := rulings[t.outcome].instance
	e.count(now, t, v)
	if t.outcome == timedOut {
		e.svc.mesh.metrics.late.WithLabelValues("try").Inc()
	}
	if v != excluded {
		e.seconds.Observe(t.took.Seconds())
	}
	switch {
	case t.retryAfter > 0: // it said itself how long it wants to be left alone
		e.latency.penalise(now, min(t.retryAfter, 30*time.Second))
	case v == failure: // failing fast must not look like being fast
		e.latency.penalise(now, max(time.Second, limit))
	case v == success:
		e.latency.observe(now, t.took)
	}
	if !probe {
		if reason := e.gate.record(&e.svc.mesh.cfg, now, v, t.refused); reason != "" && !e.gate.ejected() {
			e.svc.eject(e, reason)
		}
		return
	}
	switch v {
	case success:
		e.svc.readmit(e, now)
		e.svc.mesh.log.Info("instance readmitted", "callee", e.svc.name, "instance", e.ID)
		e.svc.mesh.journal.add(Event{At: now, Kind: "readmitted", Callee: e.svc.name, Instance: e.ID})
	case failure:
		e.svc.eject(e, "probe")
	default:
		e.gate.probing.Store(0)
	}
}

// retire ends the use of an instance that left.
func (e *endpoint) retire() {
	e.pool.CloseIdleConnections()
	e.svc.mesh.metrics.forget(e)
}
