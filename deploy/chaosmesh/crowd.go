package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"souk/shared/registry"
)

// serveCrowd is a hundred instances of a service in one process, each with an address of its own, that join at once, and leave
// at once when ctx ends.
func serveCrowd(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	reg, err := registry.New(registry.Config{}, registry.Deps{Log: log})
	if err != nil {
		return err
	}
	defer reg.Close()
	var (
		serving, keeping sync.WaitGroup
		servers          []*http.Server
		places           []registry.Registration
	)
	for i := range crowdSize {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		tcp, _ := l.Addr().(*net.TCPAddr)
		name := os.Getenv("CHAOS_CROWD") + "-of-many-" + strconv.Itoa(i)
		server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == readThing.Path && rest(r.Context(), usualTime) == nil {
				w.Header().Set("X-Chaos-Instance", name)
			}
		})}
		serving.Go(func() { _ = server.Serve(l) })
		servers = append(servers, server)
		places = append(places, registry.Registration{Service: os.Getenv("CHAOS_CROWD"), Host: "127.0.0.1", Port: tcp.Port, AdminPort: tcp.Port})
	}
	for _, place := range places {
		keeping.Go(func() { _ = reg.Keep(ctx, place) }) // the registration is sound
	}
	<-ctx.Done()
	keeping.Wait()
	leave := context.WithoutCancel(ctx)
	var errs []error
	for _, place := range places {
		errs = append(errs, reg.Deregister(leave, place))
	}
	_ = rest(leave, time.Second) // for the caller to hear of it
	for _, s := range servers {
		errs = append(errs, s.Shutdown(leave))
	}
	serving.Wait()
	return errors.Join(errs...)
}
