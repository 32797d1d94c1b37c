package registry

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// agent is a Consul that does as it is told. It speaks HTTP over pipes, so that it lives in a synctest bubble, where hours
// pass at once.
type agent struct {
	mu      sync.Mutex
	index   uint64
	ids     []string
	down    bool // answers 500
	hangs   bool // answers nothing
	token   string
	asked   int
	changed chan struct{}
	kept    map[string]time.Time // registrations, by ID
}

func (a *agent) set(change func(*agent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index++
	change(a)
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(q.Get("wait"))
	timeout := time.After(wait)
	if strings.HasPrefix(r.URL.Path, "/v1/agent/service/") {
		a.serveAgent(w, r, timeout)
		return
	}
	for {
		a.mu.Lock()
		changed, current, down, hangs := a.changed, a.index, a.down, a.hangs
		allowed := a.token == "" || r.Header.Get("X-Consul-Token") == a.token
		entries := []*api.ServiceEntry{}
		for i, id := range a.ids {
			entries = append(entries, &api.ServiceEntry{
				Node: &api.Node{Address: "10.0.0.1"}, Service: &api.AgentService{ID: id, Port: 80 + i},
			})
		}
		a.mu.Unlock()
		switch {
		case !allowed:
			w.WriteHeader(http.StatusForbidden)
			return
		case down:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case !hangs && (index == 0 || index < current || timeout == nil):
			a.mu.Lock()
			a.asked++
			a.mu.Unlock()
			w.Header().Set("X-Consul-Index", strconv.FormatUint(current, 10))
			w.Header().Set("X-Consul-LastContact", "0") // without it the client reads no further
			w.Header().Set("X-Consul-KnownLeader", "true")
			_ = json.NewEncoder(w).Encode(entries)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			timeout = nil
		case <-r.Context().Done():
			return
		}
	}
}

// serveAgent answers for registrations. It has one version of each.
func (a *agent) serveAgent(w http.ResponseWriter, r *http.Request, timeout <-chan time.Time) {
	var service api.AgentServiceRegistration
	register := strings.HasSuffix(r.URL.Path, "/register") && json.NewDecoder(r.Body).Decode(&service) == nil
	a.mu.Lock()
	_, known := a.kept[strings.TrimPrefix(r.URL.Path, "/v1/agent/service/")]
	changed, down := a.changed, a.down
	if register && !down {
		a.kept[service.ID] = time.Now()
	}
	a.mu.Unlock()
	switch {
	case down:
		w.WriteHeader(http.StatusInternalServerError)
	case register, r.Method == http.MethodPut:
	case known && r.URL.Query().Get("hash") != "":
		select {
		case <-changed:
			a.serveAgent(w, r, timeout)
			return
		case <-timeout:
		case <-r.Context().Done():
		}
		fallthrough
	case known:
		w.Header().Set("X-Consul-ContentHash", "one")
		_ = json.NewEncoder(w).Encode(api.AgentService{})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// withAgent makes a registry on an agent that knows of some instances. It is for use in a bubble.
func withAgent(t *testing.T, known ...string) (*Registry, *agent) {
	t.Helper()
	return withConfig(t, Config{}, known...)
}

// withAgentAt is withAgent with a state folder.
func withAgentAt(t *testing.T, state string, known ...string) (*Registry, *agent) {
	t.Helper()
	return withConfig(t, Config{StateDir: state}, known...)
}

func withConfig(t *testing.T, cfg Config, known ...string) (*Registry, *agent) {
	t.Helper()
	a := &agent{index: 100, ids: known, changed: make(chan struct{}), kept: map[string]time.Time{}}
	listener := pipes{make(chan net.Conn), make(chan struct{})}
	srv := &http.Server{Handler: a}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(listener) }()
	cfg.Addr = "consul:8500"
	r, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	r.transport.DialContext = listener.dial
	t.Cleanup(func() {
		r.Close()
		_ = srv.Close()
		<-served
	})
	return r, a
}

func want(t *testing.T, r *Registry, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	got := ids(t, r, "product")
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", when, diff)
	}
}

// pass lets time pass, in the bubble.
func pass(d time.Duration) { <-time.After(d) }

func TestInstances_oneWatchHoweverManyAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := ids(t, r, "product"); len(got) != 1 {
					t.Errorf("got %v", got)
				}
			})
		}
		all.Wait()
		pass(20 * time.Second)
		if a.asked != 1 {
			t.Errorf("got %d look-ups, want 1", a.asked)
		}
	})
}

func TestInstances_sameSliceUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		first, _ := r.Instances(t.Context(), "product")
		a.set(func(*agent) {}) // a new index, the same instances
		pass(time.Second)
		second, _ := r.Instances(t.Context(), "product")
		if &first[0] != &second[0] {
			t.Error("got another slice")
		}
	})
}

// One of several leaves: at once. The last one leaves: doubted for 30 s.
func TestWatch_doubtsSuddenEmptiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a", "b")
		want(t, r, "at first", "a", "b")
		a.set(func(a *agent) { a.ids = []string{"b"} })
		pass(minGap)
		want(t, r, "one left", "b")
		a.set(func(a *agent) { a.ids = nil })
		pass(emptyGrace - time.Second)
		want(t, r, "all left, 29 s ago", "b")
		pass(6 * time.Second)
		want(t, r, "all left, 35 s ago")
		a.set(func(a *agent) { a.ids = []string{"c"} })
		pass(minGap)
		want(t, r, "one came", "c")
	})
}

func TestWatch_emptinessThatPassesIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		want(t, r, "at first", "a")
		for range 3 {
			a.set(func(a *agent) { a.ids = nil })
			pass(20 * time.Second)
			want(t, r, "empty for 20 s", "a")
			a.set(func(a *agent) { a.ids = []string{"a"} })
			pass(time.Second)
		}
	})
}

// Errors never take away what is known, and the watch takes up again when they end.
func TestWatch_keepsTheLastGoodSetForEver(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*agent, bool){
		"errors": func(a *agent, on bool) { a.down = on },
		"hangs":  func(a *agent, on bool) { a.hangs = on },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, a := withAgent(t, "a")
				want(t, r, "at first", "a")
				w := r.watches["product"]
				if got := w.staleness(time.Now()); got != 0 {
					t.Errorf("staleness while all is well: got %s", got)
				}
				a.set(func(a *agent) { fault(a, true); a.ids = nil })
				pass(time.Hour)
				want(t, r, "an hour later", "a")
				if got := w.staleness(time.Now()); got < time.Hour-2*time.Minute {
					t.Errorf("staleness: got %s, want about an hour", got)
				}
				a.set(func(a *agent) { fault(a, false); a.ids = []string{"b"} })
				pass(80 * time.Second)
				want(t, r, "when it answers again", "b")
			})
		})
	}
}

// Who will be called is known, though Consul has gone before the first call.
func TestWatch_beforeTheFirstCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		if err := r.Watch("product"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		a.set(func(a *agent) { a.down = true })
		pass(time.Minute)
		want(t, r, "without Consul", "a")
	})
}

// Consul lost its data and counts from the start. Waiting for the old index would sleep through the change.
func TestWatch_indexThatGoesBackwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t, "a")
		want(t, r, "at first", "a")
		a.set(func(a *agent) { a.down = true })
		pass(10 * time.Second)
		a.set(func(a *agent) { a.down, a.index = false, 5 })
		pass(10 * time.Second)
		a.set(func(a *agent) { a.ids = []string{"b"} })
		pass(time.Second)
		want(t, r, "after the loss", "b")
	})
	if got := nextIndex(100, 7); got != 0 {
		t.Errorf("nextIndex(100, 7): got %d, want 0", got)
	}
	if got := nextIndex(0, 0); got != 1 {
		t.Errorf("nextIndex(0, 0): got %d, want 1: zero would not block", got)
	}
}

func TestInstances_firstCallsWaitTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, a := withAgent(t)
		a.set(func(a *agent) { a.hangs = true })
		began := time.Now()
		if _, err := r.Instances(t.Context(), "product"); err == nil {
			t.Fatal("want an error")
		}
		if got := time.Since(began); got != firstWait {
			t.Errorf("the first call took %s, want %s", got, firstWait)
		}
		began = time.Now()
		if _, err := r.Instances(t.Context(), "product"); err == nil || time.Since(began) != 0 {
			t.Errorf("the second call: got %v after %s, want an error at once", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Instances(ctx, "order"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a shorter deadline: got %v", err)
		}
	})
}

func TestInstances_limits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := withAgent(t, "a")
		for i := range maxWatches {
			if _, err := r.Instances(t.Context(), fmt.Sprint("svc", i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Instances(t.Context(), "one-too-many"); err == nil {
			t.Error("want an error")
		}
		if _, err := r.Instances(t.Context(), ""); err == nil {
			t.Error("no name: want an error")
		}
		r.Close()
		if _, err := r.Instances(t.Context(), "another"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: got %v, want ErrClosed", err)
		}
	})
}

// However long the agent was away before it came back knowing nobody, all are registered again in five seconds, and not all
// at once.
func TestKeep_comesBackInFiveSeconds(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{0, time.Second, 3 * time.Second, 8 * time.Second, 40 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, a := withAgent(t)
				ctx, stop := context.WithCancel(t.Context())
				var keeping sync.WaitGroup
				defer keeping.Wait()
				defer stop()
				const all = 30
				for i := range all {
					keeping.Go(func() { _ = r.Keep(ctx, Registration{Service: "product", Host: "h", Port: 1 + i, AdminPort: 1}) })
				}
				pass(2 * time.Second)
				synctest.Wait()
				a.set(func(a *agent) { a.down = away > 0 })
				pass(away)
				a.set(func(a *agent) { a.down = false; clear(a.kept) })
				back := time.Now()
				pass(5 * time.Second)
				a.mu.Lock()
				defer a.mu.Unlock()
				if len(a.kept) != all {
					t.Fatalf("%d of %d are back", len(a.kept), all)
				}
				first, last := time.Hour, time.Duration(0)
				for _, at := range a.kept {
					first, last = min(first, at.Sub(back)), max(last, at.Sub(back))
				}
				if last-first < time.Second {
					t.Errorf("they came from %s to %s", first, last)
				}
			})
		})
	}
}

func TestBackoff_isBoundedAndSpread(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for failures := 1; failures < 200; failures++ {
		d := backoff(failures)
		if d <= 0 || d > 5*time.Second+1 {
			t.Fatalf("backoff(%d) = %s", failures, d)
		}
		seen[d] = true
	}
	if len(seen) < 190 {
		t.Errorf("only %d different pauses of 199", len(seen))
	}
}

// A process that starts while Consul is away calls those it knew before, for a day; an answer replaces them, and an empty
// one is doubted like any other.
func TestWatch_startsWithoutConsul(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*agent, bool){
		"errors": func(a *agent, on bool) { a.down = on },
		"hangs":  func(a *agent, on bool) { a.hangs = on },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				state := t.TempDir()
				r, _ := withAgentAt(t, state, "a", "b")
				want(t, r, "in the first life", "a", "b")
				r.Close()

				r, a := withAgentAt(t, state)
				a.set(func(a *agent) { fault(a, true) })
				began := time.Now()
				want(t, r, "without Consul", "a", "b")
				if took := time.Since(began); took > firstWait {
					t.Errorf("the first call took %s", took)
				}
				if l := r.Lookups()[0]; l.Source != "disk" || l.Instances != 2 {
					t.Errorf("looked up %+v, want the disk's two", l)
				}
				a.set(func(a *agent) { fault(a, false) }) // it has lost everything
				pass(70 * time.Second)
				want(t, r, "70 s later: it was an answer at last, and is doubted no more")
				a.set(func(a *agent) { a.ids = []string{"c"} })
				pass(time.Second)
				want(t, r, "when somebody comes", "c")
				if l := r.Lookups()[0]; l.Source != "live" {
					t.Errorf("looked up %+v, want it live", l)
				}
			})
		})
	}
}

// The copy is renewed while the set stays the same, is not used after a day, and is never an empty set. A broken one is none.
func TestWatch_copyGrowsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		r, a := withAgentAt(t, state, "a")
		want(t, r, "at first", "a")
		pass(30 * time.Hour)
		a.set(func(a *agent) { a.ids = nil })
		pass(time.Hour)
		want(t, r, "when all have left")
		r.Close()
		start := func() []string {
			r, a := withAgentAt(t, state)
			a.set(func(a *agent) { a.down = true })
			set, _ := r.Instances(t.Context(), "product")
			r.Close()
			got := []string{}
			for _, in := range set {
				got = append(got, in.ID)
			}
			return got
		}
		if got := start(); len(got) != 1 {
			t.Errorf("after 31 hours, with a copy of an hour or two ago: got %v", got)
		}
		pass(savedFor)
		if got := start(); len(got) != 0 {
			t.Errorf("a day later: got %v", got)
		}
		if err := os.WriteFile(r.path("product"), []byte(`{"at":`), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := start(); len(got) != 0 {
			t.Errorf("with a broken copy: got %v", got)
		}
	})
}

func TestRegistry_pathOfACopy(t *testing.T) {
	t.Parallel()
	r := &Registry{stateDir: "state"}
	for service, want := range map[string]string{ //nolint:gosec // a path that looks like one of secrets is the point
		"product": "state/mesh/product.json", "../../etc/passwd": "state/mesh/..%2F..%2Fetc%2Fpasswd.json", "..": "state/mesh/...json",
	} {
		if got := r.path(service); got != want {
			t.Errorf("%s: got %s, want %s", service, got, want)
		}
	}
}

// A renewed token is read when the old one is refused, and one that is not there yet when it comes.
func TestRegistry_tokenFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		renew := func(token string) {
			if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, a := withConfig(t, Config{TokenFile: path}, "a")
		a.set(func(a *agent) { a.token = "one" })
		if _, err := r.Instances(t.Context(), "product"); err == nil {
			t.Fatal("without a token: want an error")
		}
		renew("one")
		pass(10 * time.Second)
		want(t, r, "with a token", "a")
		a.set(func(a *agent) { a.token, a.ids = "two", []string{"b"} })
		pass(time.Minute)
		want(t, r, "with a token that is no more: what is known", "a")
		if got := testutil.ToFloat64(r.metrics.errors.WithLabelValues("product", "status")); got == 0 {
			t.Error("no error was counted")
		}
		renew("two")
		pass(10 * time.Second)
		want(t, r, "with the new one", "b")
	})
}

// TLS to the agent is what Consul's own environment says.
func TestNew_speaksTLSToTheAgent(t *testing.T) { //nolint:paralleltest // the environment is the process's
	srv := httptest.NewTLSServer(&agent{index: 1, ids: []string{"a"}, changed: make(chan struct{})})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	for _, trusted := range []bool{false, true} {
		t.Setenv(api.HTTPSSLEnvName, "true")
		if trusted {
			t.Setenv(api.HTTPCAFile, ca)
		}
		r, err := New(Config{Addr: srv.Listener.Addr().String()}, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		set, err := r.Instances(t.Context(), "product")
		if (err == nil && len(set) == 1) != trusted {
			t.Errorf("trusted %t: got %v, %v", trusted, set, err)
		}
		r.Close()
	}
}
