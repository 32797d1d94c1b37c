package mesh

import (
	"net/http"
	"sync"
	"time"

	"souk/shared/telemetry"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// metrics are labelled with instances only where a person would look for one; those series go when the instance does.
// Children are kept, because looking one up costs ten times as much as counting with it.
type metrics struct {
	requests    *prometheus.CounterVec   // callee, route, method, result
	seconds     *prometheus.HistogramVec // callee, route, method
	attempts    *prometheus.CounterVec   // callee, instance, outcome
	tryseconds  *prometheus.HistogramVec // callee, instance
	retries     *prometheus.CounterVec   // callee, reason
	hedges      *prometheus.CounterVec   // callee, won
	state       *prometheus.GaugeVec     // callee, class
	transitions *prometheus.CounterVec   // callee, class, from, to
	ejected     *prometheus.GaugeVec     // callee, instance
	ejections   *prometheus.CounterVec   // callee, reason
	lbPanic     *prometheus.CounterVec   // callee
	late        *prometheus.CounterVec   // where
	inflight    *prometheus.Desc         // callee, instance
	cost        *prometheus.Desc         // callee, instance
	balance     *prometheus.Desc         // callee

	mu     sync.RWMutex
	series map[seriesKey]*series
}

type seriesKey struct{ callee, route, method string }

type series struct {
	seriesKey
	results [closed + 1]prometheus.Counter // by outcome
	seconds prometheus.Observer
}

// buckets of the time of calls and of tries, in seconds.
func buckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func newMetrics(caller string, reg prometheus.Registerer, of *Mesh) *metrics {
	labels := prometheus.Labels{"caller": caller}
	counter := func(name, help string, l ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, l)
	}
	gauge := func(name, help string, l ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, l)
	}
	desc := func(name, help string, l ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, l, labels)
	}
	m := &metrics{
		requests: counter("mesh_client_requests_total", "Calls, by how they ended.", "callee", "route", "method", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mesh_client_request_seconds", Help: "Time of a call until its response headers, tries and pauses included.",
			ConstLabels: labels, Buckets: buckets(),
		}, []string{"callee", "route", "method"}),
		attempts: counter("mesh_client_attempts_total", "Tries at instances, by how they ended.", "callee", "instance", "outcome"),
		tryseconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mesh_client_attempt_seconds", Help: "Time of a try until its response headers or its error.",
			ConstLabels: labels, Buckets: buckets(),
		}, []string{"callee", "instance"}),
		retries:     counter("mesh_client_retries_total", "Tries after the first, by why.", "callee", "reason"),
		hedges:      counter("mesh_client_hedges_total", "Second requests beside a slow first, by whether theirs was the answer.", "callee", "won"),
		state:       gauge("mesh_breaker_state", "Service breakers: 0 closed, 1 half open, 2 open.", "callee", "class"),
		transitions: counter("mesh_breaker_transitions_total", "Changes of service breakers.", "callee", "class", "from", "to"),
		ejected:     gauge("mesh_outlier_ejected", "Whether an instance is ejected.", "callee", "instance"),
		ejections:   counter("mesh_outlier_ejections_total", "Ejections of instances, by why.", "callee", "reason"),
		lbPanic:     counter("mesh_lb_panic_total", "Tries at ejected instances for want of others.", "callee"),
		late:        telemetry.DeadlineExceeded(reg),
		inflight:    desc("mesh_client_inflight", "Tries whose response body has not ended.", "callee", "instance"),
		cost:        desc("mesh_lb_cost", "Seconds the balancer expects a request more to take at an instance; 0 before the first.", "callee", "instance"),
		balance:     desc("mesh_retry_budget_balance", "Retries that would be allowed at this moment.", "callee"),
		series:      make(map[seriesKey]*series),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.attempts, m.tryseconds, m.retries, m.hedges, m.state, m.transitions, m.ejected, m.ejections,
			m.lbPanic, knowledge{of, m})
	}
	return m
}

// ended counts a call.
func (m *metrics) ended(c *call, o outcome, took time.Duration) {
	// The request names its route by its template, such as /v1/products/{id}. Without one the label is empty: a raw path would
	// make a time series per product.
	key := seriesKey{c.svc.name, c.req.Pattern, methodLabel(c.req.Method)}
	s := c.svc.counted.Load() // what is called in a loop is the same each time
	if s == nil || s.seriesKey != key {
		s = m.of(key)
		c.svc.counted.Store(s)
	}
	s.results[o].Inc()
	switch o {
	case spent:
		m.late.WithLabelValues("unsent").Inc()
	case outOfTime, cutShort:
		m.late.WithLabelValues("call").Inc()
	}
	telemetry.Observe(c.req.Context(), s.seconds, took.Seconds())
}

// of finds the series of key, or makes them.
func (m *metrics) of(key seriesKey) *series {
	m.mu.RLock()
	s := m.series[key]
	m.mu.RUnlock()
	if s == nil {
		s = &series{seriesKey: key, seconds: m.seconds.WithLabelValues(key.callee, key.route, key.method)}
		for o := range s.results {
			s.results[o] = m.requests.WithLabelValues(key.callee, key.route, key.method, rulings[o].result)
		}
		m.mu.Lock()
		m.series[key] = s // whoever came second stores the same children
		m.mu.Unlock()
	}
	return s
}

// methodLabel keeps invented methods from becoming time series.
func methodLabel(method string) string {
	switch method {
	case "":
		return http.MethodGet
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "OTHER"
}

// breaker returns what a breaker calls on a change, under its mutex: atomic writes only.
func (m *metrics) breaker(callee string, class Class) func(change) {
	state := m.state.WithLabelValues(callee, class.String())
	return func(c change) {
		state.Set(float64(c.to)) // gobreaker numbers its states as we do
		m.transitions.WithLabelValues(callee, class.String(), stateLabel(c.from), stateLabel(c.to)).Inc()
	}
}

func stateLabel(s gobreaker.State) string { return [...]string{"closed", "half_open", "open"}[s] }

// endpoint makes an instance's series.
func (m *metrics) endpoint(e *endpoint) {
	e.seconds = m.tryseconds.WithLabelValues(e.svc.name, e.ID)
	e.ejectedGauge = m.ejected.WithLabelValues(e.svc.name, e.ID)
	for o := range e.attempts {
		switch outcome(o) {
		case spent, noInstances, full, fellBack, open, closed: // a call may end so, a try cannot
		default:
			e.attempts[o] = m.attempts.WithLabelValues(e.svc.name, e.ID, outcome(o).String())
		}
	}
}

// forget removes an instance's series.
func (m *metrics) forget(e *endpoint) {
	of := prometheus.Labels{"callee": e.svc.name, "instance": e.ID}
	m.tryseconds.Delete(of)
	m.ejected.Delete(of)
	m.attempts.DeletePartialMatch(of)
}

// knowledge is what the mesh knows anyway, made into metrics when somebody asks.
type knowledge struct {
	mesh *Mesh
	*metrics
}

// Describe is part of prometheus.Collector.
func (k knowledge) Describe(ch chan<- *prometheus.Desc) {
	ch <- k.inflight
	ch <- k.cost
	ch <- k.balance
}

// Collect is part of prometheus.Collector.
func (k knowledge) Collect(ch chan<- prometheus.Metric) {
	now := k.mesh.deps.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	k.mesh.mu.RLock()
	defer k.mesh.mu.RUnlock()
	for _, s := range k.mesh.services {
		gauge(k.balance, s.budget.balance(now), s.name)
		set := s.set.Load()
		if set == nil {
			continue
		}
		for _, e := range set.list {
			gauge(k.inflight, float64(e.inflight.Load()), s.name, e.ID)
			cost := 0.0
			if e.latency.score(now.UnixNano()) > 0 {
				cost = e.cost(now.UnixNano(), set.list) / float64(time.Second)
			}
			gauge(k.cost, cost, s.name, e.ID)
		}
	}
}
