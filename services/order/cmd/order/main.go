// Command order is the order service.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/order"
	"souk/shared/app"
	"souk/shared/idempotency"

	"gorm.io/gorm"
)

func main() {
	app.Main("order", serve, app.Sealed(database, order.Sealed), app.Document(new(order.Service).Routes))
}

func serve(ctx context.Context, a *app.App) error {
	db, err := database(ctx, a)
	if err != nil {
		return err
	}
	keys, err := a.Keys(db)
	if err != nil {
		return err
	}
	s, err := order.New(ctx, order.Deps{DB: db, Keys: keys, Mesh: a.Mesh, Now: a.Now, Log: a.Log, Metrics: a.Metrics})
	if err != nil {
		return err
	}
	s.Routes(a.HTTP)
	a.Go("inquiry", s.Participant.Run)
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("product", "payment", "coordinator"); err != nil {
		return err
	}
	return a.Serve(ctx)
}

func database(ctx context.Context, a *app.App) (*gorm.DB, error) {
	return a.Database(ctx, migrations.Order(), migrations.Participant(), migrations.Idempotency(), migrations.Seal())
}
