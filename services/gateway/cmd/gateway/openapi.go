package main

import (
	"context"
	"os"
	"strings"

	"souk/services/gateway"
	"souk/shared/app"
)

// openapi writes the public document made of the services' documents in the files that are named: order=order.json ...
func openapi(_ context.Context, a *app.App) error {
	documents := map[string][]byte{}
	for _, arg := range a.Args {
		service, path, _ := strings.Cut(arg, "=")
		b, err := os.ReadFile(path) //nolint:gosec // a file that whoever runs the command has named
		if err != nil {
			return err
		}
		documents[service] = b
	}
	b, err := gateway.Document(a.Config.Version, documents)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(b)
	return err
}
