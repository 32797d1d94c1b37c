// Command order is the order service.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/order"
	"souk/shared/app"
	"souk/shared/idempotency"
)

func main() { app.Main("order", serve, app.Document(new(order.Service).Routes)) }

func serve(ctx context.Context, a *app.App) error {
	db, err := a.Database(ctx, migrations.Order(), migrations.Participant(), migrations.Idempotency())
	if err != nil {
		return err
	}
	s := order.New(order.Deps{DB: db, Mesh: a.Mesh, Now: a.Now, Log: a.Log, Metrics: a.Metrics})
	s.Routes(a.HTTP)
	a.Go("inquiry", s.Participant.Run)
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("product", "coordinator"); err != nil {
		return err
	}
	return a.Serve(ctx)
}
