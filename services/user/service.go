package user

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"souk/shared/contract/user"
	"souk/shared/seal"
	"souk/shared/twopc"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Deps are what the service works with; all are required.
type Deps struct {
	DB        *gorm.DB
	Keys      *seal.Keys   // of DB; New loads them
	Mesh      *http.Client // to ask the coordinator
	Passwords Passwords
	Now       func() time.Time // UTC, in microseconds
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service is the user service. It is safe for concurrent use, in any number of instances on one database.
type Service struct {
	Participant *twopc.Participant

	db        *gorm.DB
	sealed    sealed
	passwords Passwords
	nobody    string // the hash that the password of an unknown account is compared with
	keys      atomic.Pointer[keyring]
	seen      metrics
	now       func() time.Time
	log       *slog.Logger
}

// New makes the service, seals what its database still has in the clear, and makes the shop's first signing key where
// there is none.
func New(ctx context.Context, deps Deps) (*Service, error) {
	kept := declareSealed(deps.Keys)
	if err := deps.Keys.Load(ctx); err != nil {
		return nil, err
	}
	if err := kept.sealPlain(ctx, deps.DB); err != nil {
		return nil, err
	}
	s := &Service{
		db: deps.DB, sealed: kept, passwords: deps.Passwords, nobody: nobodysHash(), seen: newMetrics(deps.Metrics), log: deps.Log, now: deps.Now,
	}
	if err := s.TurnKeys(ctx); err != nil {
		return nil, fmt.Errorf("open signing keys: %w", err)
	}
	s.Participant = twopc.NewParticipant(
		twopc.Deps{DB: deps.DB, Mesh: deps.Mesh, Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now},
		map[string]twopc.Action{
			user.ActionEarn:     s.earn(),
			user.ActionSpend:    s.spend(),
			user.ActionTakeBack: s.takeBack(),
		})
	return s, nil
}

// metrics are what somebody watches over.
type metrics struct {
	reused prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		reused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "user_refresh_token_reused_total", Help: "Sessions ended because a refresh token was used twice: a copy of it is somewhere.",
		}),
	}
	r.MustRegister(m.reused)
	return m
}
