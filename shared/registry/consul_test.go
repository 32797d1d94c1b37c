package registry

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/testkit"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// soon is how long these tests wait for a real agent, which checks every 2 s, on a busy machine.
const soon = 30 * time.Second

// newRegistry is a registry on a real agent.
func newRegistry(t *testing.T, addr string) *Registry {
	t.Helper()
	r, err := New(Config{Addr: addr}, Deps{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// instance is a service as Consul sees one: something that answers /readyz. Its service port is never called.
type instance struct {
	Registration
	unready atomic.Bool
}

func newInstance(t *testing.T, service string, port int) *instance {
	t.Helper()
	in := &instance{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || in.unready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	in.Registration = Registration{
		Service: service, Host: "127.0.0.1", Port: port, AdminPort: admin,
		Meta: map[string]string{"version": "test"},
	}
	return in
}

// keep runs Keep in the background; the returned function ends it and waits.
func keep(t *testing.T, r *Registry, g Registration) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Keep(ctx, g) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Keep: %v", err)
		}
	}
	t.Cleanup(end)
	return end
}

func waitPassing(t *testing.T, r *Registry, g Registration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := r.WaitPassing(ctx, g); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, r *Registry, service string) []string {
	t.Helper()
	set, err := r.Instances(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, in := range set {
		got = append(got, in.ID)
	}
	return got
}

func awaitIDs(t *testing.T, r *Registry, service string, want ...string) {
	t.Helper()
	testkit.Eventually(t, soon, func() bool {
		got := ids(t, r, service)
		if len(got) != len(want) {
			return false
		}
		for i := range got {
			if got[i] != want[i] {
				return false
			}
		}
		return true
	})
}

// unique keeps tests that share an agent apart.
func unique() string {
	return "t" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// Instances come when their check passes and go when it fails or they leave.
func TestRegistry_seesInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	addr := testkit.Consul(t)
	r, service := newRegistry(t, addr), unique()
	a, b := newInstance(t, service, 1001), newInstance(t, service, 1002)
	if got := ids(t, r, service); len(got) != 0 {
		t.Fatalf("before anybody registered: got %v", got)
	}

	endA := keep(t, r, a.Registration)
	keep(t, r, b.Registration)
	waitPassing(t, r, a.Registration)
	waitPassing(t, r, b.Registration)
	awaitIDs(t, r, service, a.ID(), b.ID())

	set, err := r.Instances(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := set[0].Addr, net.JoinHostPort("127.0.0.1", "1001"); got != want {
		t.Errorf("address: got %s, want %s", got, want)
	}
	if got := set[0].Meta["version"]; got != "test" {
		t.Errorf("meta: got %q", got)
	}

	b.unready.Store(true)
	awaitIDs(t, r, service, a.ID())
	b.unready.Store(false)
	awaitIDs(t, r, service, a.ID(), b.ID())

	endA()
	began := time.Now()
	if err := r.Deregister(t.Context(), a.Registration); err != nil {
		t.Fatal(err)
	}
	awaitIDs(t, r, service, b.ID())
	t.Logf("watchers saw the deregistration after %s", time.Since(began))
	if err := r.Deregister(t.Context(), a.Registration); err != nil {
		t.Errorf("deregister twice: %v", err)
	}
}

// Somebody or something removed us: we come back by ourselves.
func TestKeep_registersAgainAfterDeregistration(t *testing.T) {
	t.Parallel()
	r, service := newRegistry(t, testkit.Consul(t)), unique()
	in := newInstance(t, service, 1001)
	keep(t, r, in.Registration)
	waitPassing(t, r, in.Registration)

	if err := r.consul.Agent().ServiceDeregister(in.ID()); err != nil {
		t.Fatal(err)
	}
	lost := r.metrics.reregisters.WithLabelValues("lost")
	testkit.Eventually(t, soon, func() bool { return testutil.ToFloat64(lost) == 1 })
	waitPassing(t, r, in.Registration)
}

// A process that died in maintenance, between the two steps of Deregister, is listed again when it restarts.
func TestKeep_liftsMaintenanceOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	r, service := newRegistry(t, testkit.Consul(t)), unique()
	in := newInstance(t, service, 1001)
	end := keep(t, r, in.Registration)
	waitPassing(t, r, in.Registration)
	end()
	if err := r.consul.Agent().EnableServiceMaintenance(in.ID(), "draining"); err != nil {
		t.Fatal(err)
	}
	keep(t, r, in.Registration)
	waitPassing(t, r, in.Registration)
}

// The agent dies and comes back knowing nothing: callers keep what they knew, and the instance registers again.
func TestRegistry_survivesConsulRestart(t *testing.T) {
	t.Parallel()
	agent, err := testkit.StartConsul(t.Context(), testkit.ConsulConfig{})
	if err != nil {
		t.Fatalf("no Consul for this test: %v", err)
	}
	r, service := newRegistry(t, agent.Addr), unique()
	in := newInstance(t, service, 1001)
	keep(t, r, in.Registration)
	waitPassing(t, r, in.Registration)
	awaitIDs(t, r, service, in.ID())

	_, port, err := net.SplitHostPort(agent.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	errs := r.metrics.errors.WithLabelValues(service, "network")
	testkit.Eventually(t, soon, func() bool {
		return testutil.ToFloat64(errs)+testutil.ToFloat64(r.metrics.errors.WithLabelValues(service, "other")) > 2
	})
	awaitIDs(t, r, service, in.ID()) // Consul is away
	if _, err := r.Instances(t.Context(), "never-seen-"+service); err == nil {
		t.Error("a service never seen, with Consul away: want an error")
	}

	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	agent, err = testkit.StartConsul(t.Context(), testkit.ConsulConfig{HTTPPort: number})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Stop(context.WithoutCancel(t.Context())) })
	began := time.Now()
	for waiting := true; waiting; { // at no moment between may callers be left with nothing
		select {
		case <-passing(t, r, in.Registration):
			waiting = false
		default:
			if got := ids(t, r, service); len(got) != 1 {
				t.Fatalf("after the restart: got %v", got)
			}
		}
	}
	t.Logf("listed again %s after the agent came back", time.Since(began))
	awaitIDs(t, r, service, in.ID())
}

// passing looks once, closed if g passes.
func passing(t *testing.T, r *Registry, g Registration) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ch := make(chan struct{})
	if r.WaitPassing(ctx, g) == nil {
		close(ch)
	}
	return ch
}

func TestKeep_refusesAnImpossibleRegistration(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, "127.0.0.1:1")
	for name, g := range map[string]Registration{
		"empty":         {},
		"no host":       {Service: "a", Port: 1, AdminPort: 2},
		"no admin port": {Service: "a", Host: "h", Port: 1},
		"port too big":  {Service: "a", Host: "h", Port: 70000, AdminPort: 2},
	} {
		if err := r.Keep(t.Context(), g); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}
