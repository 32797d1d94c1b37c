package user

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"souk/services/user/provider"
	"souk/shared/contract/user"
	"souk/shared/seal"
	"souk/shared/twopc"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Deps are what the service works with; all but OneNetwork and Providers are required.
type Deps struct {
	DB        *gorm.DB
	Keys      *seal.Keys   // of DB; New loads them
	Mesh      *http.Client // to ask the coordinator
	Passwords Passwords
	Now       func() time.Time // UTC, in microseconds
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	// OneNetwork says that everybody comes from the same address, as on one machine: tries at passwords are then not counted
	// by where they come from.
	OneNetwork bool
	// Providers are with whom one can sign in besides a password, and PublicURL, such as https://shop.example, is where
	// browsers find the shop, to which they send them back.
	Providers provider.List
	PublicURL string
}

// providerTime bounds each call of another identity provider. A sign-in takes two or three, and a request ten seconds.
const providerTime = 3 * time.Second

// Service is the user service. It is safe for concurrent use, in any number of instances on one database.
type Service struct {
	Participant *twopc.Participant

	db         *gorm.DB
	sealed     sealed
	passwords  Passwords
	nobody     string // the hash that the password of an unknown account is compared with
	keys       atomic.Pointer[keyring]
	idKeys     atomic.Pointer[keyring] // for ID tokens
	publicURL  string
	oauth      *oauth
	seen       metrics
	oneNetwork bool
	providers  *provider.Providers
	now        func() time.Time
	log        *slog.Logger
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
		oneNetwork: deps.OneNetwork,
		publicURL:  deps.PublicURL,
		providers: provider.New(deps.Providers, func(name string) string {
			return deps.PublicURL + "/api/v1/auth/providers/" + name + "/callback"
		}, &http.Client{Timeout: providerTime}, deps.Now),
	}
	if err := s.TurnKeys(ctx); err != nil {
		return nil, fmt.Errorf("open signing keys: %w", err)
	}
	var err error
	if s.oauth, err = s.newProvider(); err != nil {
		return nil, fmt.Errorf("be an OAuth provider at %s: %w", deps.PublicURL, err)
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
	slowed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		reused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "user_refresh_token_reused_total", Help: "Sessions ended because a refresh token was used twice: a copy of it is somewhere.",
		}),
		slowed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "user_tries_slowed_total", Help: "Tries at passwords, and at registering what is taken, that came too soon.",
		}),
	}
	r.MustRegister(m.reused, m.slowed)
	return m
}
