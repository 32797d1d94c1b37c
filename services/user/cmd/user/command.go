package main

import (
	"context"

	"souk/services/user"
	"souk/shared/app"
)

func revokeKey(ctx context.Context, a *app.App) error {
	s, _, err := open(ctx, a)
	if err != nil {
		return err
	}
	return s.RevokeKey(ctx)
}

type seedConfig struct {
	Password app.Secret `env:"SEED_PASSWORD"`
}

func seed(ctx context.Context, a *app.App) error {
	cfg := seedConfig{Password: user.DefaultSeedPassword}
	if err := a.Env(&cfg); err != nil {
		return err
	}
	s, _, err := open(ctx, a)
	if err != nil {
		return err
	}
	return s.Seed(ctx, string(cfg.Password))
}
