package order

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"souk/shared/contract/order"
	"souk/shared/seal"
	"souk/shared/twopc"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Deps are what the service works with; all are required.
type Deps struct {
	DB      *gorm.DB
	Keys    *seal.Keys   // of DB; New loads them
	Mesh    *http.Client // to ask the product service, the payment service and the coordinator
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the order service. It is safe for concurrent use, in any number of instances on one database.
type Service struct {
	Participant *twopc.Participant

	db       *gorm.DB
	sealed   sealed
	letters  letters
	mesh     *http.Client
	now      func() time.Time
	payments *prometheus.CounterVec
	moved    *prometheus.CounterVec
}

// New makes the service, and seals what its database still has in the clear.
func New(ctx context.Context, deps Deps) (*Service, error) {
	kept := declareSealed(deps.Keys)
	if err := deps.Keys.Load(ctx); err != nil {
		return nil, err
	}
	if err := kept.sealPlain(ctx, deps.DB); err != nil {
		return nil, err
	}
	s := &Service{
		db: deps.DB, sealed: kept, mesh: deps.Mesh, now: deps.Now,
		payments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "order_payments_total", Help: "Requests to pay an order, by what came of them: paid, refused, unknown or failed.",
		}, []string{"outcome"}),
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orders_total", Help: "Orders that came to a status, each once: created is placed.",
		}, []string{"status"}),
	}
	deps.Metrics.MustRegister(s.payments, s.moved)
	for _, status := range []order.Status{order.Created, order.Paid, order.Refunded} {
		s.moved.WithLabelValues(string(status)) // so that a rate of zero is a zero, and not nothing
	}
	s.Participant = twopc.NewParticipant(
		twopc.Deps{DB: deps.DB, Mesh: deps.Mesh, Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now},
		map[string]twopc.Action{
			order.ActionPay:    twopc.NewAction(s.preparePay, s.commitPay, s.abortPay),
			order.ActionRefund: twopc.NewAction(s.prepareRefund, s.commitRefund, s.abortRefund),
		})
	return s, nil
}
