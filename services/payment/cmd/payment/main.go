// Command payment runs the payment service.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/payment"
	"souk/shared/app"
	"souk/shared/idempotency"

	"gorm.io/gorm"
)

// config is what the payment service reads from its environment besides what every service does.
type config struct {
	WebhookSecret app.Secret `env:"WEBHOOK_SECRET"`                   // empty: made once, and kept in the database
	RefundLimit   int64      `env:"REFUND_LIMIT" envDefault:"100000"` // minor units of a payment that one person alone may give back
}

func main() {
	app.Main("payment", serve, app.Sealed(database, payment.DeclareSealed), app.Document(new(payment.Service).Routes))
}

func serve(ctx context.Context, a *app.App) error {
	var cfg config
	if err := a.Env(&cfg); err != nil {
		return err
	}
	db, err := database(ctx, a)
	if err != nil {
		return err
	}
	keys, err := a.Keys(db)
	if err != nil {
		return err
	}
	sealed, err := payment.OpenSealed(ctx, db, keys)
	if err != nil {
		return err
	}
	secret, err := sealed.WebhookSecret(ctx, string(cfg.WebhookSecret))
	if err != nil {
		return err
	}
	sandbox := payment.NewSandbox(payment.SandboxConfig{Secret: secret},
		payment.SandboxDeps{DB: db, Mesh: a.Mesh, Now: a.Now, Log: a.Log})
	s := payment.New(payment.Config{WebhookSecret: secret, RefundLimit: cfg.RefundLimit},
		payment.Deps{DB: db, Sealed: sealed, Mesh: a.Mesh, Provider: sandbox, Now: a.Now, Log: a.Log, Metrics: a.Metrics})
	s.Routes(a.HTTP)
	a.Go("inquiry", s.Participant.Run)
	a.Go("reconciliation", s.RunReconciliation)
	a.Go("sandbox provider", sandbox.Run)
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("order", "payment", "coordinator"); err != nil {
		return err
	}
	return a.Serve(ctx)
}

func database(ctx context.Context, a *app.App) (*gorm.DB, error) {
	return a.Database(ctx, migrations.Payment(), migrations.Participant(), migrations.Idempotency(), migrations.Seal())
}
