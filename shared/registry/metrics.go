package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator needs to know whether discovery works. Staleness grows while nothing happens, so it is
// computed when it is asked for.
type metrics struct {
	r              *Registry
	registrationUp *prometheus.GaugeVec   // 1 while Consul holds our registration
	reregisters    *prometheus.CounterVec // by reason: start, lost, renewal
	instances      *prometheus.GaugeVec   // by callee and status: passing, suspect
	updates        *prometheus.CounterVec // changes of an instance set
	errors         *prometheus.CounterVec // by callee and kind: timeout, network, status, other
	staleness      *prometheus.Desc       // seconds an answer has been overdue
	notAfter       *prometheus.Desc       // when our certificate ends
	identity       atomic.Pointer[Identity]
}

func newMetrics(r *Registry, reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		r:              r,
		registrationUp: gauge("mesh_registration_up", "Whether Consul holds this instance's registration.", "service", "instance"),
		reregisters:    counter("mesh_registration_reregisters_total", "Registrations, by reason.", "reason"),
		instances:      gauge("mesh_resolver_instances", "Instances known of a callee.", "callee", "status"),
		updates:        counter("mesh_resolver_updates_total", "Changes of a callee's instance set.", "callee"),
		errors:         counter("mesh_resolver_errors_total", "Failed look-ups of a callee.", "callee", "kind"),
		staleness: prometheus.NewDesc("mesh_resolver_staleness_seconds",
			"How long the instance set of a callee has been overdue; 0 while Consul answers.", []string{"callee"}, nil),
		notAfter: prometheus.NewDesc("mesh_identity_not_after_seconds",
			"When the certificate of this service ends, in Unix time; missing while there is none.", nil, nil),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.registrationUp, m.reregisters, m.instances, m.updates, m.errors, m} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the registry's metrics: %w", err)
		}
	}
	return m, nil
}

// Describe and Collect make metrics of the staleness of every watch and of the age of our credentials.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.staleness
	ch <- m.notAfter
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.r.mu.RLock()
	defer m.r.mu.RUnlock()
	for service, w := range m.r.watches {
		ch <- prometheus.MustNewConstMetric(m.staleness, prometheus.GaugeValue, w.staleness(m.r.now()).Seconds(), service)
	}
	if i := m.identity.Load(); i != nil {
		if c := i.held.Load(); c != nil {
			ch <- prometheus.MustNewConstMetric(m.notAfter, prometheus.GaugeValue, float64(c.Certificate.Leaf.NotAfter.Unix()))
		}
	}
}

func errorKind(err error) string {
	var (
		status  api.StatusError
		network net.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &status):
		return "status"
	case errors.As(err, &network):
		return "network"
	}
	return "other"
}
