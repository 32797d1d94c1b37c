package coordinator

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
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

	finds     *batcher[uuid.UUID, *verdict]
	decides   map[bool]*batcher[decision, ruling] // by whether it is done lazily
	completes *batcher[completion, struct{}]
	away      atomic.Bool // the register did not answer the last time

	mu           sync.Mutex
	flights      map[uuid.UUID]*flight
	flying       sync.WaitGroup
	participants map[string]*participant
}

// New makes a coordinator. Run must be running for what it decides to be finished in every case.
func New(deps Deps) *Service {
	s := &Service{
		deps: deps, register: register{deps.DB}, seen: newMetrics(deps.Metrics),
		flights: map[uuid.UUID]*flight{}, participants: map[string]*participant{},
	}
	s.finds = &batcher[uuid.UUID, *verdict]{call: s.findAll, lanes: registerLanes, patience: registerPatience}
	s.decides = map[bool]*batcher[decision, ruling]{}
	for _, lazily := range []bool{false, true} {
		s.decides[lazily] = &batcher[decision, ruling]{
			call:  func(ctx context.Context, all []decision) ([]ruling, error) { return s.decideAll(ctx, all, lazily) },
			lanes: registerLanes, patience: registerPatience,
		}
	}
	s.completes = &batcher[completion, struct{}]{call: s.completeAll, lanes: 1, pause: completePause}
	return s
}

// Several transactions share a statement of the register, and its commit.
const (
	registerLanes    = 2
	registerPatience = 10 * time.Millisecond
	completePause    = 20 * time.Millisecond // nobody waits for it
)

func (s *Service) findAll(ctx context.Context, gids []uuid.UUID) ([]*verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	found, err := s.register.findAll(ctx, gids)
	s.away.Store(err != nil)
	answers := make([]*verdict, len(gids))
	for i, gid := range gids {
		if d, ok := found[gid]; ok {
			answers[i] = &d
		}
	}
	return answers, err
}

func (s *Service) decideAll(ctx context.Context, all []decision, lazily bool) ([]ruling, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	rulings, err := s.register.decideAll(ctx, all, lazily)
	s.away.Store(err != nil)
	return rulings, err
}

func (s *Service) completeAll(ctx context.Context, all []completion) ([]struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	return make([]struct{}, len(all)), s.register.complete(ctx, all)
}
