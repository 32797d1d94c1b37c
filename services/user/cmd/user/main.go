// Command user runs the user service. `user seed` opens the accounts admin@souk.example, alice@souk.example and
// bob@souk.example, with the password in SEED_PASSWORD or, without one, user.DefaultSeedPassword. `user revoke-signing-key`
// withdraws the key that signs access tokens, for when somebody may have it; everybody's next request refreshes.
package main

import (
	"context"
	"log/slog"
	"time"

	"souk/migrations"
	"souk/services/user"
	"souk/services/user/provider"
	"souk/shared/app"
	"souk/shared/idempotency"
	"souk/shared/identity"

	"gorm.io/gorm"
)

func main() {
	app.Main("user", serve, app.Command{Name: "seed", Run: seed}, app.Command{Name: "revoke-signing-key", Run: revokeKey},
		app.Sealed(database, user.Sealed), app.Document(new(user.Service).Routes))
}

func serve(ctx context.Context, a *app.App) error {
	slog.SetDefault(a.Log) // the library that speaks OAuth logs there
	s, db, err := open(ctx, a)
	if err != nil {
		return err
	}
	v := identity.NewVerifier(s.Keyfunc, time.Now) // with our own keys: there is nobody to fetch them from
	v.Ask(s.InGoodStanding)
	a.VerifyWith(v, s.Revoked)
	s.Routes(a.HTTP)
	a.Go("inquiry", s.Participant.Run)
	a.Go("turn signing keys", s.TurnKeysOn)
	a.Go("sweep sessions", s.Sweep)
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("coordinator"); err != nil {
		return err
	}
	return a.Serve(ctx)
}

type config struct {
	// RateLogin is the gateway's limit of tries at passwords by client address. "0" says that everybody has the same one.
	RateLogin string `env:"RATE_LOGIN"`
	// PublicURL is where browsers find the shop.
	PublicURL string `env:"PUBLIC_URL" envDefault:"http://127.0.0.1:8080"`
	// Providers are with whom one can sign in besides a password: a JSON array of objects with name, label, issuer,
	// client_id, client_secret, and perhaps scopes. Each sends browsers back to
	// PUBLIC_URL/api/v1/auth/providers/NAME/callback.
	Providers provider.List `env:"OIDC_PROVIDERS"`
}

// open opens the service and its database.
func open(ctx context.Context, a *app.App) (*user.Service, *gorm.DB, error) {
	db, err := database(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	var cfg config
	if err := a.Env(&cfg); err != nil {
		return nil, nil, err
	}
	keys, err := a.Keys(db)
	if err != nil {
		return nil, nil, err
	}
	s, err := user.New(ctx, user.Deps{
		DB: db, Keys: keys, Mesh: a.Mesh, Passwords: user.NewArgon2(), Now: a.Now, Log: a.Log, Metrics: a.Metrics,
		OneNetwork: cfg.RateLogin == "0", Providers: cfg.Providers, PublicURL: cfg.PublicURL,
	})
	return s, db, err
}

func database(ctx context.Context, a *app.App) (*gorm.DB, error) {
	return a.Database(ctx, migrations.User(), migrations.Participant(), migrations.Idempotency(), migrations.Seal())
}
