package app

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/testkit"
)

// A service does not start where others could not know that it is it, or where what it is for cannot happen.
func TestServe_notHalfConfigured(t *testing.T) {
	t.Parallel()
	noted := contract.Route[contract.None, contract.None]{
		ID: "note", Service: "order", Method: http.MethodGet, Path: "/internal/v1/note", Permission: identity.Internal, Summary: "Notes.",
	}
	serve := func(ctx context.Context, a *App) error { return a.Serve(ctx) }
	token := map[string]string{"CONSUL_HTTP_TOKEN_FILE": "/nowhere"}
	for name, tt := range map[string]struct {
		env   map[string]string
		serve func(context.Context, *App) error
		want  string
	}{
		"no token for Consul": {nil, serve, "there is no token for Consul"},
		"half a switch":       {map[string]string{"MTLS": "yes"}, serve, `\"yes\" is neither \"on\" nor \"off\"`},
		"a call that the table does not allow": {token, func(_ context.Context, a *App) error {
			return a.Calls("product", "gateway")
		}, "order would call gateway, which the call table does not allow"},
		"an operation that nobody may call": {token, func(ctx context.Context, a *App) error {
			httpapi.Handle(a.HTTP, noted, func(context.Context, *contract.None) (*contract.None, error) { return new(contract.None), nil })
			return a.Serve(ctx)
		}, "the call table lets nobody call [/internal/v1/note] of order"},
		"a line that is none": {map[string]string{"CALLS_ALSO": "order payment"}, serve, "the call table has a line that is not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"SERVICE_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"}
			maps.Copy(env, tt.env)
			var said log
			status := run("order", nil, env, &said, &said, tt.serve, nil)
			if want := strings.ReplaceAll(tt.want, `\"`, `"`); status == 0 || !said.contains(tt.want) && !said.contains(want) {
				t.Errorf("ended with %d: %s", status, said.text.String())
			}
		})
	}
}

// Without Consul, and without a certificate from an earlier life, a service is alive, not ready, and says why.
func TestServe_withoutACertificate(t *testing.T) {
	t.Parallel()
	port, err := testkit.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	admin := "127.0.0.1:" + strconv.Itoa(port)
	env := map[string]string{
		"SERVICE_ADDR": "127.0.0.1:0", "ADMIN_ADDR": admin, "CONSUL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_TOKEN_FILE": "/nowhere",
	}
	errSeen := errors.New("seen")
	var said log
	ended := make(chan int)
	go func() {
		ended <- run("order", nil, env, &said, &said, func(ctx context.Context, a *App) error {
			ctx, cancel := context.WithCancelCause(ctx)
			a.Go("look", func(loop context.Context) error {
				for loop.Err() == nil {
					if status, text := ask(t, "http://"+admin+"/readyz"); status == http.StatusServiceUnavailable && strings.Contains(text, "no certificate from Consul yet") {
						cancel(errSeen)
						return nil
					}
					select {
					case <-loop.Done():
					case <-time.After(10 * time.Millisecond):
					}
				}
				return nil
			})
			return a.Serve(ctx)
		}, nil)
	}()
	select {
	case status := <-ended:
		if status != 0 {
			t.Errorf("ended with %d: %s", status, said.text.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not say that it has no certificate")
	}
}

func ask(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
