// Command gateway is the public edge of the shop. "gateway openapi" writes its OpenAPI document.
package main

import (
	"context"

	"souk/services/gateway"
	"souk/shared/app"
)

func main() { app.Main("gateway", serve, app.Command{Name: "openapi", Run: openapi}) }

func serve(ctx context.Context, a *app.App) error {
	var cfg gateway.Config
	if err := a.Env(&cfg); err != nil {
		return err
	}
	g := gateway.New(cfg, gateway.Deps{
		Mesh: a.Mesh.Transport, Verifier: a.HTTP.Verifier(), Consul: a.Registry(), Log: a.Log, Now: a.Now, Version: a.Config.Version,
		Metrics: a.Metrics,
	})
	g.Mount(a.HTTP)
	a.Go("ops", func(context.Context) error { return g.Run(ctx) }) // until the signal, not the end of the last request
	if err := a.Calls(gateway.Services()...); err != nil {
		return err
	}
	return a.ServePublic(ctx)
}
