package mesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"time"

	"souk/shared/mesh"
	"souk/shared/registry"

	"github.com/prometheus/client_golang/prometheus"
)

// fixed is the smallest Resolver: it knows where things are and never learns.
type fixed map[string][]registry.Instance

func (f fixed) Instances(_ context.Context, service string) ([]registry.Instance, error) {
	return f[service], nil
}

// A client calls services by name. Nothing else about it is special: it takes contexts, and gives responses and errors.
func ExampleNew() {
	product := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Asked-As", r.Host)
		_, _ = io.WriteString(w, "a thing")
	}))
	defer product.Close()
	where := fixed{"product": {{ID: "product-1", Addr: product.Listener.Addr().String()}}}

	m := mesh.New(mesh.Config{Caller: "order"}, mesh.Deps{Resolver: where})
	defer m.Close()
	client := m.Client()

	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://product/v1/products/42", nil)
	req.Pattern = "/v1/products/{id}" // what it is counted under
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	fmt.Println(string(b), "from", resp.Header.Get("Asked-As"))
	// Output: a thing from product
}

// A whole program: it finds others through Consul, and others find it. It starts, serves and calls whether or not Consul is
// there.
func Example_program() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log, metrics := slog.Default(), prometheus.NewRegistry()

	consul, err := registry.New(registry.Config{StateDir: "/var/lib/basket"}, registry.Deps{Log: log, Metrics: metrics})
	if err != nil {
		log.Error("configure", "error", err)
		return
	}
	defer consul.Close()
	m := mesh.New(mesh.Config{Caller: "basket"}, mesh.Deps{Resolver: consul, Log: log, Metrics: metrics})
	defer m.Close()
	if err := consul.Watch("product"); err != nil { // or at the first call
		log.Error("watch", "error", err)
		return
	}

	// Listen on both ports first: the service on 8080, and /readyz, which Consul asks, on 9090. Then:
	me := registry.Registration{Service: "basket", Host: "10.0.0.7", Port: 8080, AdminPort: 9090}
	kept := make(chan error, 1)
	go func() { kept <- consul.Keep(ctx, me) }() // registers, and again whenever Consul forgets

	// Serve with m.Client() until ctx ends. Then stop keeping, leave, and serve on for the three seconds in which the last
	// callers notice.
	<-ctx.Done()
	if err := <-kept; err != nil {
		log.Error("register", "error", err)
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := consul.Deregister(leave, me); err != nil {
		log.Warn("leave Consul", "error", err)
	}
}

// An error says whether the call may have been executed, and whether to repeat it is harmless.
func ExampleError() {
	m := mesh.New(mesh.Config{Caller: "order"}, mesh.Deps{Resolver: fixed{}})
	defer m.Close()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://payment/v1/charges", nil)
	resp, err := m.Client().Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	var failed *mesh.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Kind, failed.Callee, failed.Retryable)
	}
	// Output: no_instances payment true
}

// A page that can do without its recommendations does, when the service that makes them is away.
func ExampleWithFallback() {
	m := mesh.New(mesh.Config{Caller: "shopfront"}, mesh.Deps{Resolver: fixed{}})
	defer m.Close()
	ctx := mesh.WithFallback(context.Background(), mesh.Fallback{
		Stale:   2 * time.Minute,
		Default: map[string][]string{"items": {}},
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://recommendation/v1/items", nil)
	resp, err := m.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Header.Get(mesh.HeaderFallback), string(b))
	// Output: default {"items":[]}
}

// What a caller knows about one call is in the call's context.
func Example_options() {
	ctx := context.Background()

	// Of a read whose slowest one in twenty is waited for, a second instance may be asked.
	read := mesh.WithHedge(ctx)

	// A PUT that replaces the whole may be repeated. So may a POST with an Idempotency-Key, without saying so.
	replace := mesh.WithIdempotent(ctx)

	// The end of a two-phase commit gets five seconds a try and a patient breaker, and is shed last.
	commit := mesh.WithClass(ctx, mesh.ClassCritical)

	// A report takes its time, and nobody waits for it.
	report := mesh.WithPriority(mesh.WithTryTimeout(ctx, 30*time.Second), mesh.Sheddable)

	_, _, _, _ = read, replace, commit, report
}

// A server makes the calls for a request what the request is: those for a second try are not tried twice themselves, and
// importance is passed on.
func ExampleInherit() {
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := mesh.Inherit(r.Context(), r.Header)
		_ = ctx // for the calls that answering needs
	})
	_ = handler
}

// Between instances TLS is what a callback says. The name in a certificate is the service's, not a host's, so the callback
// has to verify it; go-spiffe's tlsconfig.MTLSClientConfig does so for a SPIFFE id, with certificates that renew themselves.
func ExampleDeps_tls() {
	verified := func(service string) func(tls.ConnectionState) error {
		return func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || len(s.PeerCertificates[0].URIs) != 1 ||
				s.PeerCertificates[0].URIs[0].String() != "spiffe://souk/svc/"+service {
				return errors.New("the other side is not " + service)
			}
			return nil // and its chain ends at our authority
		}
	}
	_ = mesh.Deps{TLS: func(service string) *tls.Config {
		return &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies
			VerifyConnection:   verified(service),
		}
	}}
}
