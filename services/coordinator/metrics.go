package coordinator

import (
	"souk/shared/contract/coordinator"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a contract with whoever watches: deploy/monitoring/README.md says what each is for, and alerts.yml there
// names them.
type metrics struct {
	decisions      *prometheus.CounterVec
	heuristics     prometheus.Counter
	unacknowledged prometheus.Gauge
	inDoubt        prometheus.Gauge
	oldest         prometheus.Gauge
	takeovers      prometheus.Counter
	retries        *prometheus.CounterVec
	registerErrors prometheus.Counter
	forgotten      prometheus.Counter
	seconds        *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twopc_decisions_total", Help: "Transactions decided by this instance, by outcome and the code of the reason.",
		}, []string{"outcome", "code"}),
		heuristics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_heuristics_total", Help: "Transactions that this instance saw a participant contradict.",
		}),
		unacknowledged: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_heuristics_unacknowledged", Help: "Heuristic outcomes in the register that no person has acknowledged.",
		}),
		inDoubt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_in_doubt", Help: "Transactions in the register decided and not yet carried out everywhere.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_in_doubt_oldest_seconds", Help: "Age of the oldest of them.",
		}),
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_takeovers_total", Help: "Leases that this instance's recovery took on transactions nobody was carrying out.",
		}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twopc_retries_total", Help: "Times a branch could not be told the outcome and has to be told again, by participant.",
		}, []string{"participant"}),
		registerErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_register_errors_total", Help: "Times the decision register could not be read or written.",
		}),
		forgotten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_forgotten_total", Help: "Decisions removed by retention.",
		}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twopc_phase_seconds", Help: "Time a transaction spent in a phase: preparing, deciding, finishing.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"phase"}),
	}
	r.MustRegister(m.decisions, m.heuristics, m.unacknowledged, m.inDoubt, m.oldest, m.takeovers, m.retries, m.registerErrors,
		m.forgotten, m.seconds)
	m.decisions.WithLabelValues(string(coordinator.Committed), "") // so that a rate of zero is a zero, and not nothing
	return m
}

// decided counts a decision that this instance was the first to write.
func (m metrics) decided(d decision) {
	code := ""
	if d.Reason != nil {
		code = d.Reason.Code
	}
	m.decisions.WithLabelValues(string(d.Outcome), code).Inc()
}
