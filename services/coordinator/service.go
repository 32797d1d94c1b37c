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
