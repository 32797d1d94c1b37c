package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrClosed is returned by Instances after Close.
var ErrClosed = errors.New("registry closed")

// Config says where Consul is. The zero value is the agent on this machine.
type Config struct {
	// Addr is the agent's host:port. Empty means CONSUL_HTTP_ADDR, or else 127.0.0.1:8500.
	Addr string
	// TokenFile holds the ACL token, and is read again when Consul refuses it. Empty means CONSUL_HTTP_TOKEN_FILE, or else
	// CONSUL_HTTP_TOKEN.
	TokenFile string
	// GRPCAddr is where Consul's servers sign certificates: host:port, or a URL that begins with https. Empty means
	// CONSUL_GRPC_ADDR, or else port 8502 of the agent's host.
	GRPCAddr string
	// StateDir is where copies of the instance sets and of the credentials are kept, so that a process can start while Consul
	// is away. Empty keeps none. Processes of one service may share it.
	StateDir string
}

// Deps are the registry's surroundings. Every field may be left zero.
type Deps struct {
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps the metrics unregistered
	Now     func() time.Time      // nil means time.Now
}

// Registry talks to one Consul agent. Its methods may be called concurrently.
type Registry struct {
	consul    *api.Client
	transport *http.Transport
	signer    *signer
	stateDir  string
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics

	watching context.Context // ends at Close
	stop     context.CancelFunc
	loops    sync.WaitGroup

	mu      sync.RWMutex
	watches map[string]*watch
}

// New makes a registry. It never dials, so Consul may be away. Besides Config it honours the environment of Consul's own
// client (CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL, CONSUL_CACERT, …). It fails when that environment
// cannot be used, or when the metrics are already registered.
func New(cfg Config, deps Deps) (*Registry, error) {
	conf := api.DefaultConfig()
	switch {
	case cfg.Addr != "":
		conf.Address = cfg.Addr
	case os.Getenv(api.HTTPAddrEnvName) == "":
		conf.Address = "127.0.0.1:8500" // not "localhost", which may be ::1 first
	}
	conf.Transport.Proxy = nil // a proxy meant for the outside has no business between us and our agent
	r := &Registry{
		transport: conf.Transport,
		stateDir:  cfg.StateDir,
		log:       cmp.Or(deps.Log, slog.New(slog.DiscardHandler)),
		now:       deps.Now,
		watches:   make(map[string]*watch),
	}
	client, err := api.NewHttpClient(conf.Transport, conf.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("configure TLS to Consul: %w", err)
	}
	var token *tokenFile
	if path := cmp.Or(cfg.TokenFile, conf.TokenFile); path != "" {
		token = &tokenFile{path: path, next: client.Transport, log: r.log}
		client.Transport = token
		conf.Token, conf.TokenFile = "", "" // or the client would read it once and for ever
	}
	if r.signer, err = newSigner(cmp.Or(cfg.GRPCAddr, os.Getenv(api.GRPCAddrEnvName)), conf, token); err != nil {
		return nil, err
	}
	conf.HttpClient = client
	if r.consul, err = api.NewClient(conf); err != nil {
		return nil, fmt.Errorf("configure the Consul client: %w", err)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.metrics, err = newMetrics(r, deps.Metrics); err != nil {
		return nil, err
	}
	// The watches belong to the process, not to whoever asked first.
	r.watching, r.stop = context.WithCancel(context.Background()) //nolint:forbidigo // ends at Close
	return r, nil
}

// Close ends the watches and waits for them. Keep is ended by its own context, not by Close.
func (r *Registry) Close() {
	r.mu.Lock() // so that nobody is between asking whether we have ended and starting a watch
	r.stop()
	r.mu.Unlock()
	r.loops.Wait()
	r.transport.CloseIdleConnections()
}

// backoff is how long to wait after so many failures in a row: full jitter over 100 ms doubled each time, at most 5 s.
// Jitter over the whole range is what keeps a fleet from returning to a recovering Consul in one wave.
func backoff(failures int) time.Duration { return jitter(longest(failures)) }

// longest is the longest that backoff can be; nothing before the first failure.
func longest(failures int) time.Duration {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	if failures == 0 {
		return 0
	}
	return min(most, first<<min(failures-1, 10))
}

// jitter is a random time up to most.
func jitter(most time.Duration) time.Duration { return rand.N(most) + 1 }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// isNotFound tells whether Consul answered that it does not know the thing.
func isNotFound(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
