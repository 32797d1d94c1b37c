// Command coordinator runs one instance of the two-phase-commit coordinator. "coordinator tx" is what an operator needs:
// it shows what is in doubt, and resolves it.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/coordinator"
	"souk/shared/app"
	"souk/shared/idempotency"
)

func main() {
	app.Main("coordinator", serve, app.Command{Name: "tx", Run: tx}, app.Document(new(coordinator.Service).Routes))
}

func serve(ctx context.Context, a *app.App) error {
	var cfg coordinator.Config
	if err := a.Env(&cfg); err != nil {
		return err
	}
	db, err := a.Database(ctx, migrations.Coordinator(), migrations.Idempotency())
	if err != nil {
		return err
	}
	s := coordinator.New(coordinator.Deps{
		DB: db, Mesh: a.Mesh, Now: a.Now, Log: a.Log, Metrics: a.Metrics, Instance: a.Config.Instance,
	})
	s.Routes(a.HTTP)
	a.Go("recovery", s.Run)
	a.Go("retention", s.Forgetter(cfg.Retention))
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("product", "payment", "order"); err != nil {
		return err
	}
	return a.Serve(ctx)
}
