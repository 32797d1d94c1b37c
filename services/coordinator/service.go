package coordinator

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Deps are what the coordinator works with; all are required.
type Deps struct {
	DB       *gorm.DB
	Mesh     *http.Client // to the participants
	Now      func() time.Time
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Instance string // named in timelines
}

// Service is one instance of the coordinator. Any number of them may share a database. It is safe for concurrent use.
type Service struct {
	deps     Deps
	register register
	seen     metrics

	mu      sync.Mutex
	flights map[uuid.UUID]*flight
	flying  sync.WaitGroup
}

// New makes a coordinator. Run must be running for what it decides to be finished in every case.
func New(deps Deps) *Service {
	return &Service{deps: deps, register: register{deps.DB}, seen: newMetrics(deps.Metrics), flights: map[uuid.UUID]*flight{}}
}

type metrics struct {
	decisions  *prometheus.CounterVec
	heuristics prometheus.Counter
	inDoubt    prometheus.Gauge
	oldest     prometheus.Gauge
	takeovers  prometheus.Counter
	seconds    *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twopc_decisions_total", Help: "Transactions decided by this instance.",
		}, []string{"outcome", "code"}),
		heuristics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_heuristics_total", Help: "Transactions that a participant contradicts; each needs a person.",
		}),
		inDoubt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_in_doubt", Help: "Transactions decided and not yet carried out everywhere.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_in_doubt_oldest_seconds", Help: "Age of the oldest of them.",
		}),
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_takeovers_total", Help: "Transactions that recovery took over.",
		}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twopc_phase_seconds", Help: "Time a transaction spent in a phase.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"phase"}),
	}
	r.MustRegister(m.decisions, m.heuristics, m.inDoubt, m.oldest, m.takeovers, m.seconds)
	return m
}
