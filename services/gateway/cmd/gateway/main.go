// Command gateway is the public edge of the shop.
package main

import (
	"context"

	"souk/services/gateway"
	"souk/shared/app"
)

func main() { app.Main("gateway", serve) }

func serve(ctx context.Context, a *app.App) error {
	var cfg gateway.Config
	if err := a.Env(&cfg); err != nil {
		return err
	}
	g := gateway.New(cfg, gateway.Deps{
		Mesh: a.Mesh.Transport, Verifier: a.HTTP.Verifier(), Log: a.Log, Now: a.Now, Version: a.Config.Version,
	})
	g.Mount(a.HTTP)
	if err := a.Calls(gateway.Services()...); err != nil {
		return err
	}
	return a.Serve(ctx)
}
