package product

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Config is what the service reads from its environment.
type Config struct {
	// Currency is the shop's own: a price range that names no currency is in this one.
	Currency money.Currency `env:"SHOP_CURRENCY" envDefault:"USD"`
}

// Deps are what the service works with; all are required.
type Deps struct {
	DB      *gorm.DB
	Mesh    *http.Client
	Now     func() time.Time // UTC, microseconds
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the product service. It is safe for concurrent use, in any number of instances on one database.
type Service struct {
	Participant *twopc.Participant

	db       *gorm.DB
	now      func() time.Time
	currency money.Currency
}

// New makes the service. Its error is a currency that the shop does not trade in.
func New(cfg Config, deps Deps) (*Service, error) {
	currency, err := money.ParseCurrency(string(cfg.Currency))
	if err != nil {
		return nil, err
	}
	s := &Service{db: deps.DB, now: deps.Now, currency: currency}
	s.Participant = twopc.NewParticipant(
		twopc.Deps{DB: deps.DB, Mesh: deps.Mesh, Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now}, s.actions())
	return s, nil
}

// author is who changes something, by which request, and when.
type author struct {
	Actor     *uuid.UUID // nil where no person is behind it
	RequestID string
	At        time.Time
}

func (s *Service) author(ctx context.Context) author {
	a := author{RequestID: contract.RequestIDFrom(ctx), At: s.now()}
	if id := identity.From(ctx).UserID; id != uuid.Nil {
		a.Actor = &id
	}
	return a
}
