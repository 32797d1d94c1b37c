// Command product runs the product service. "product seed" fills an empty shop with goods.
package main

import (
	"context"

	"souk/migrations"
	"souk/services/product"
	"souk/shared/app"
	"souk/shared/idempotency"

	"gorm.io/gorm"
)

func main() {
	app.Main("product", serve, app.Command{Name: "seed", Run: seed}, app.Document(new(product.Service).Routes))
}

func serve(ctx context.Context, a *app.App) error {
	var cfg product.Config
	if err := a.Env(&cfg); err != nil {
		return err
	}
	db, err := database(ctx, a)
	if err != nil {
		return err
	}
	s, err := product.New(cfg, product.Deps{DB: db, Mesh: a.Mesh, Now: a.Now, Log: a.Log, Metrics: a.Metrics})
	if err != nil {
		return err
	}
	s.Routes(a.HTTP)
	a.Go("inquiry", s.Participant.Run)
	a.Go("sweep idempotency keys", idempotency.Sweeper(db, a.Log))
	if err := a.Calls("coordinator"); err != nil {
		return err
	}
	return a.Serve(ctx)
}

func seed(ctx context.Context, a *app.App) error {
	db, err := database(ctx, a)
	if err != nil {
		return err
	}
	return product.Seed(ctx, db, a.Now())
}

func database(ctx context.Context, a *app.App) (*gorm.DB, error) {
	return a.Database(ctx, migrations.Product(), migrations.Participant(), migrations.Idempotency())
}
