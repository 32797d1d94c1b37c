package policy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are how many decisions there were in this process, by what came of them.
type counts struct{ allowed, denied, failed atomic.Int64 }

// counted is one for the process, as the policies are.
//
//nolint:gochecknoglobals // counters
var counted counts

func (c *counts) add(d Decision) {
	switch {
	case d.failed != nil:
		c.failed.Add(1)
	case d.Allowed:
		c.allowed.Add(1)
	default:
		c.denied.Add(1)
	}
}

// Metrics are policy_decisions_total by outcome: allowed, denied, and failed, which is a no as well, and a bug in a policy
// that somebody has to look at.
func Metrics() []prometheus.Collector {
	of := func(outcome string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "policy_decisions_total", Help: "Decisions of the policies, by outcome.", ConstLabels: prometheus.Labels{"outcome": outcome},
		}, func() float64 { return float64(n.Load()) })
	}
	return []prometheus.Collector{of("allowed", &counted.allowed), of("denied", &counted.denied), of("failed", &counted.failed)}
}
