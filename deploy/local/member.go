package local

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"souk/shared/mesh"
	"souk/shared/peer"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// management is the name under which the token is kept that may do everything in Consul.
const management = "management"

// secureConsul gives every service a token that it can register with, itself alone, in a file of its own.
func (s *Shop) secureConsul(ctx context.Context) error {
	if err := s.keepToken(management, s.state.Management); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, service := range services {
		g.Go(func() error {
			_, err := s.Join(ctx, service)
			return err
		})
	}
	return g.Wait()
}

// Join makes service known to the shop's Consul: with the environment that it returns, a process can register as that service,
// and get its certificate. Whom it may then call, and who it, the call table says, with what CALLS_ALSO adds. Ask once for
// each name.
func (s *Shop) Join(ctx context.Context, service string) (env []string, err error) {
	consul := testkit.ConsulServer{Addr: s.Consul, Management: s.state.Management}
	token, err := consul.Token(ctx, service)
	if err == nil {
		err = s.keepToken(service, token)
	}
	return s.consulEnv(service), err
}

func (s *Shop) keepToken(name, token string) error {
	if err := os.MkdirAll(filepath.Dir(s.TokenPath(name)), 0o700); err != nil {
		return err
	}
	return os.WriteFile(s.TokenPath(name), []byte(token), 0o600)
}

// TokenPath is where the token of a service that has joined is kept; "management" is that of who may do everything.
func (s *Shop) TokenPath(name string) string { return filepath.Join(s.cfg.RunDir, "tokens", name) }

func (s *Shop) consulEnv(service string) []string {
	return []string{
		"CONSUL_HTTP_ADDR=" + s.Consul, "CONSUL_GRPC_ADDR=" + address(s.state.Consul.GRPCPort),
		"CONSUL_HTTP_TOKEN_FILE=" + s.TokenPath(service), "CONSUL_HTTP_TOKEN=",
	}
}

// Registry of the shop's Consul for a program that calls services directly, with the token of service; "management" may look at
// everything.
func (s *Shop) Registry(service string) (*registry.Registry, error) {
	return registry.New(registry.Config{
		Addr: s.Consul, GRPCAddr: address(s.state.Consul.GRPCPort), TokenFile: s.TokenPath(service),
	}, registry.Deps{})
}

// Caller is a program that calls the shop's services directly, as one of them.
type Caller struct {
	*http.Client
	Registry *registry.Registry
	Peers    *peer.Peers
	*registry.Identity

	mesh *mesh.Mesh
	end  func()
}

// Call makes this program service, which must have joined, until Close. It returns once there is a certificate.
func (s *Shop) Call(ctx context.Context, service string) (*Caller, error) {
	reg, err := s.Registry(service)
	if err != nil {
		return nil, err
	}
	self := reg.Identity(service)
	log, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	c := &Caller{Registry: reg, Identity: self, Peers: peer.New(peer.Config{Service: service, Source: self, Log: log, Metrics: metrics})}
	c.mesh = mesh.New(mesh.Config{Caller: service}, mesh.Deps{Resolver: reg, Log: log, Metrics: metrics, TLS: c.Peers.Client})
	c.Client = c.mesh.Client()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = self.Run(running) // it has none
	}()
	c.end = func() { stop(); <-ended }
	patience, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if !poll(patience, 25*time.Millisecond, func() bool { _, err = self.Credentials(); return err == nil }) {
		c.Close()
		return nil, fmt.Errorf("call as %s: %w", service, err)
	}
	return c, nil
}

// Close ends the calling.
func (c *Caller) Close() {
	c.mesh.Close()
	c.end()
	c.Registry.Close()
}
