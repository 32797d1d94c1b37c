// Command coordinator runs one instance of the two-phase-commit coordinator.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/coordinator"
	"souk/shared/app"
)

func main() { app.Main("coordinator", serve) }

func serve(ctx context.Context, a *app.App) error {
	db, err := a.Database(ctx, migrations.Coordinator())
	if err != nil {
		return err
	}
	s := coordinator.New(coordinator.Deps{
		DB: db, Mesh: a.Mesh, Now: a.Now, Log: a.Log, Metrics: a.Metrics, Instance: a.Config.Instance,
	})
	s.Routes(a.HTTP)
	a.Go("recovery", s.Run)
	return a.Serve(ctx)
}
