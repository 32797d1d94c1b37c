package payment

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Config is how the service behaves. The zero value of a duration, and of the limit, is its default.
type Config struct {
	WebhookSecret   []byte        // what the provider signs its events with; required
	ProviderTimeout time.Duration // how long a card is waited for before the answer is pending; 3 s
	ReconcileAfter  time.Duration // how old a pending top-up is when the provider is asked about it; 10 s
	RefundLimit     int64         // what of a payment one person alone may give back, in minor units; 1000.00
}

const (
	defaultProviderTimeout = 3 * time.Second  // a request may last 10 s, and the client is waiting
	defaultReconcileAfter  = 10 * time.Second // by then the answer has come or never will
	defaultRefundLimit     = 1000_00          // more than most orders cost, so that a second person's work is rare
)

// Deps are what a Service works with; all are required.
type Deps struct {
	DB       *gorm.DB
	Sealed   *Sealed // in DB
	Mesh     *http.Client
	Provider Provider
	Now      func() time.Time
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Service is the payment service. It is safe for concurrent use, in any number of instances on one database.
type Service struct {
	Participant *twopc.Participant

	cfg      Config
	db       *gorm.DB
	sealed   *Sealed
	mesh     *http.Client
	provider Provider
	now      func() time.Time
	log      *slog.Logger
	captured *prometheus.CounterVec
	refunded *prometheus.CounterVec
}

// New makes the service. It panics without a webhook secret: with an empty one anybody could sign.
func New(cfg Config, deps Deps) *Service {
	if len(cfg.WebhookSecret) == 0 {
		panic("payment: no webhook secret")
	}
	if cfg.ProviderTimeout == 0 {
		cfg.ProviderTimeout = defaultProviderTimeout
	}
	if cfg.ReconcileAfter == 0 {
		cfg.ReconcileAfter = defaultReconcileAfter
	}
	if cfg.RefundLimit == 0 {
		cfg.RefundLimit = defaultRefundLimit
	}
	s := &Service{
		cfg: cfg, db: deps.DB, sealed: deps.Sealed, mesh: deps.Mesh, provider: deps.Provider, now: deps.Now, log: deps.Log,
		captured: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "payment_captured_minor_total", Help: "What customers have paid, in minor units.",
		}, []string{"currency"}),
		refunded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "payment_refunded_minor_total", Help: "What went back to them, in minor units.",
		}, []string{"currency"}),
	}
	deps.Metrics.MustRegister(s.captured, s.refunded)
	s.Participant = twopc.NewParticipant(
		twopc.Deps{DB: deps.DB, Mesh: deps.Mesh, Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now}, s.actions())
	return s
}

// reach reads the payment id for its caller to do perm to it; NotFound where they cannot reach it, in the words for one that
// is not there.
func reach(ctx context.Context, tx *gorm.DB, id uuid.UUID, perm identity.Permission) (paymentRow, error) {
	p, err := readPayment(tx, id, policy.Scope(ctx, perm, policy.Payment))
	if err != nil {
		return p, err
	}
	if policy.Check(ctx, perm, policy.Resource{Kind: policy.Payment, ID: id.String(), Owner: p.UserID}) != nil {
		return p, notFound("payment")
	}
	return p, nil
}

// busy says that the same request may succeed a moment later; shared/twopc takes the code as a passing reason.
func busy(message string) *fault.Error {
	return fault.New(fault.Conflict, "busy", "%s", message)
}
