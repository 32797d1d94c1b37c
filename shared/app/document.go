package app

import (
	"context"

	"souk/shared/httpapi"
)

// Document is the command openapi, which writes the OpenAPI document of a service, of which it needs the routes alone: no
// database and no other service. routes is usually the method Routes of a service's zero value.
func Document(routes func(*httpapi.Server)) Command {
	return Command{Name: "openapi", Run: func(_ context.Context, a *App) error {
		routes(a.HTTP)
		b, err := a.HTTP.Document()
		if err != nil {
			return err
		}
		_, err = a.Out.Write(b)
		return err
	}}
}
