package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"souk/shared/peer"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
)

// knowPeers makes ready to be known to the other services, and to know them. Nobody is asked for anything yet.
func (a *App) knowPeers(metrics prometheus.Registerer) (err error) {
	if a.calls, err = peer.Calls(a.Config.CallsAlso); err != nil {
		return err
	}
	if a.Config.MTLS {
		a.self = a.registry.Identity(a.Name)
		a.peers = peer.New(peer.Config{Service: a.Name, Calls: a.calls, Source: a.self, Log: a.Log, Metrics: metrics})
	}
	return nil
}

// toPeer is how to speak with an instance of service.
func (a *App) toPeer(service string) *tls.Config {
	if a.peers == nil {
		return nil
	}
	return a.peers.Client(service)
}

// prove has Consul certify us from now on. Until it first does, we take no calls, make none, and are not ready. It fails where
// Consul cannot know that it is us, and for an operation meant for other services that none of them may call: somebody has
// forgotten its line in the call table.
func (a *App) prove(ctx context.Context) error {
	if a.peers == nil {
		a.Log.WarnContext(ctx, "mutual TLS is off: whoever reaches the service port may call")
		return nil
	}
	if a.getenv[api.HTTPTokenEnvName] == "" && a.getenv[api.HTTPTokenFileEnvName] == "" {
		return fmt.Errorf("mutual TLS is on, but there is no token for Consul in %s: a Consul that needs none would certify anybody as %s (MTLS=off is for tests of one service alone)",
			api.HTTPTokenFileEnvName, a.Name)
	}
	if a.Config.CallsAlso != "" {
		a.Log.WarnContext(ctx, "the call table has further lines", "lines", a.Config.CallsAlso)
	}
	if unused := a.calls.Unused(a.Name, a.HTTP.Templates()); len(unused) > 0 {
		return fmt.Errorf("the call table lets nobody call %v of %s", unused, a.Name)
	}
	a.admin.check(func(context.Context) error {
		c, err := a.self.Credentials()
		if err != nil {
			return err
		}
		return c.Valid(a.Now())
	})
	a.Go("credentials", a.self.Run)
	return nil
}

// known makes server and its listener take calls of known services alone.
func (a *App) known(server *http.Server, l net.Listener) net.Listener {
	server.ConnContext = a.peers.Connected
	server.Handler = a.peers.Closing(server.Handler)
	a.HTTP.AskPeers(a.peers.Admit)
	return tls.NewListener(l, a.peers.Server())
}
