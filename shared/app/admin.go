package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTime bounds a readiness check; Consul waits one second for the answer.
const checkTime = 900 * time.Millisecond

// admin is the second port of a service: health, metrics, profiles. The gateway never routes to it.
//
// /livez says that the process runs and asks nobody. /readyz says that the service can serve: its own database answers,
// it can prove who it is, and it is not draining. It never asks another service, or one outage would become everybody's.
type admin struct {
	ready   atomic.Bool
	drained atomic.Bool // has left Consul and serves on for those who have not noticed
	checks  []func(context.Context) error
	mux     *http.ServeMux
	server  *http.Server
	addr    net.Addr
}

func newAdmin(metrics prometheus.Gatherer) *admin {
	mux := http.NewServeMux()
	a := &admin{mux: mux}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		EnableOpenMetrics: true, // the format that has exemplars
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: headerTime}
	return a
}

// check makes /readyz ask c, too; its error is shown to whoever asks.
func (a *admin) check(c func(context.Context) error) { a.checks = append(a.checks, c) }

func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	if err := a.readiness(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (a *admin) readiness(ctx context.Context) error {
	if !a.ready.Load() {
		return errors.New("starting or draining")
	}
	for _, check := range a.checks {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *admin) listen(ctx context.Context, addr string, failed func(error)) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	a.addr = l.Addr()
	go func() {
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(err)
		}
	}()
	return nil
}

func (a *admin) close(ctx context.Context) error { return a.server.Shutdown(ctx) }

// healthcheck asks the instance on this machine whether it is ready, for container images that have no shell.
func healthcheck(ctx context.Context, getenv map[string]string, complain io.Writer) int {
	addr := getenv["ADMIN_ADDR"]
	if addr == "" {
		addr = ":9090"
	}
	if err := askReady(ctx, addr); err != nil {
		fmt.Fprintln(complain, err)
		return 1
	}
	return 0
}

func askReady(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answered %s", resp.Status)
	}
	return nil
}
