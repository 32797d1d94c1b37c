package httpapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/mesh"
	"souk/shared/registry"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A server that is filling up refuses first what nobody waits for, then ordinary requests, and last those that end
// something begun; what it refuses it has not begun.
func TestAdmit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		priority string
		taken    int // of ten
		admitted bool
	}{
		"sheddable, at 50 %":       {"sheddable", 5, true},
		"sheddable, at 60 %":       {"sheddable", 6, false},
		"normal, at 80 %":          {"", 8, true},
		"normal, at 90 %":          {"", 9, false},
		"unheard of, at 90 %":      {"urgent", 9, false},
		"critical, at 90 %":        {"critical", 9, true},
		"critical, when it's full": {"critical", 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := prometheus.NewRegistry()
			s := httpapi.New(httpapi.Config{Service: "shed", Version: "test", Log: slog.New(slog.DiscardHandler), Metrics: reg})
			s.Admit(10)
			begun, finish := make(chan struct{}), make(chan struct{})
			httpapi.Handle(s, getThing, func(_ context.Context, in *contract.ByID) (*contract.Body[thing], error) {
				if in.ID == uuid.Nil {
					begun <- struct{}{}
					<-finish
				}
				return &contract.Body[thing]{Body: thing{in.ID, "found"}}, nil
			})
			call := func(id uuid.UUID, priority string) *httptest.ResponseRecorder {
				w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/things/"+id.String(), http.NoBody)
				if priority != "" {
					r.Header.Set(mesh.HeaderPriority, priority)
				}
				s.Handler().ServeHTTP(w, r)
				return w
			}
			done := make(chan struct{})
			for range tt.taken {
				go func() { call(uuid.Nil, "critical"); done <- struct{}{} }()
				<-begun
			}
			w := call(uuid.New(), tt.priority)
			if admitted := w.Code == http.StatusOK; admitted != tt.admitted {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if !tt.admitted {
				if w.Code != http.StatusServiceUnavailable || w.Header().Get(mesh.HeaderShed) != "1" || w.Header().Get("Retry-After") != "1" ||
					!strings.Contains(w.Body.String(), `"overloaded"`) {
					t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
				}
				if n, err := testutil.GatherAndCount(reg, "mesh_server_shed_total"); n != 1 || err != nil {
					t.Errorf("%d series of what was shed, %v", n, err)
				}
			}
			close(finish)
			for range tt.taken {
				<-done
			}
			if w := call(uuid.New(), "sheddable"); w.Code != http.StatusOK {
				t.Errorf("when all is over: got %d", w.Code)
			}
		})
	}
}

// instances is a resolver with one answer.
type instances []registry.Instance

func (i instances) Instances(context.Context, string) ([]registry.Instance, error) { return i, nil }

// A POST that one instance refuses for want of room is executed by another, once.
func TestAdmit_anotherInstanceTakesIt(t *testing.T) {
	t.Parallel()
	var where instances
	var executed [2]int
	for i := range executed {
		s := httpapi.New(httpapi.Config{Service: "shed", Version: "test", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		s.Admit(i * 100) // the first takes nothing
		s.Fallback(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { executed[i]++ }))
		srv := httptest.NewServer(s.Handler())
		t.Cleanup(srv.Close)
		addr := srv.Listener.Addr().String()
		where = append(where, registry.Instance{ID: addr, Addr: addr})
	}
	m := mesh.New(mesh.Config{Caller: "test"}, mesh.Deps{Resolver: where})
	t.Cleanup(m.Close)
	for range 20 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://shed/v1/things", strings.NewReader("goods"))
		resp, err := m.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("got %s", resp.Status)
		}
	}
	if executed != [2]int{0, 20} {
		t.Errorf("executed: %v", executed)
	}
}

// roundTripper is who answers in place of a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Who fails because another has failed says so, and who fails by itself does not.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	own := fault.New(fault.Unavailable, "", "the database is away")
	for name, tt := range map[string]struct {
		other     int // what the other service answers; nothing if it is 0
		own       error
		status    int
		elsewhere string
	}{
		"it cannot be reached":       {0, nil, 503, "1"},
		"it has failed":              {500, nil, 500, "1"},
		"it says no":                 {404, nil, 404, ""},
		"it has failed, and it's no": {503, fault.New(fault.Conflict, "", "without it we do not"), 409, ""},
		"we have failed":             {200, own, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				if tt.other == 0 {
					return nil, errors.New("refused")
				}
				return &http.Response{StatusCode: tt.other, Body: io.NopCloser(strings.NewReader("{}"))}, nil
			})}
			s := httpapi.New(httpapi.Config{Service: "middle", Version: "test", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
			httpapi.Handle(s, getThing, func(ctx context.Context, in *contract.ByID) (*contract.Body[thing], error) {
				out, err := getThing.Call(ctx, other, in)
				if f, ok := errors.AsType[*fault.Error](tt.own); ok {
					return nil, f.Because(err)
				}
				return out, err
			})
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/things/"+uuid.NewString(), http.NoBody)
			s.Handler().ServeHTTP(w, r)
			if got := w.Header().Get(mesh.HeaderElsewhere); w.Code != tt.status || got != tt.elsewhere {
				t.Errorf("got %d, %q; want %d, %q", w.Code, got, tt.status, tt.elsewhere)
			}
		})
	}
}

// What a request is, the calls made for it are: a second try is not tried twice further on, and importance is passed on.
func TestInherit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header   http.Header
		tries    int
		priority string
	}{
		"a first try":           {http.Header{mesh.HeaderAttempt: {"1"}}, 2, ""},
		"a second":              {http.Header{mesh.HeaderAttempt: {"2"}}, 1, ""},
		"nobody waits for it":   {http.Header{mesh.HeaderPriority: {"sheddable"}}, 2, "sheddable"},
		"a critical second try": {http.Header{mesh.HeaderAttempt: {"2"}, mesh.HeaderPriority: {"critical"}}, 1, "critical"},
		"nonsense":              {http.Header{mesh.HeaderPriority: {"urgent"}}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []http.Header
			behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, r.Header)
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			t.Cleanup(behind.Close)
			addr := behind.Listener.Addr().String()
			m := mesh.New(mesh.Config{Caller: "shed"}, mesh.Deps{Resolver: instances{{ID: addr, Addr: addr}}})
			t.Cleanup(m.Close)
			s := httpapi.New(httpapi.Config{Service: "shed", Version: "test", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Inherit: mesh.Inherit})
			s.Fallback(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://behind/", nil)
				resp, err := m.Client().Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
			}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.Header = tt.header
			s.Handler().ServeHTTP(httptest.NewRecorder(), r)
			if len(seen) != tt.tries {
				t.Fatalf("%d tries, want %d", len(seen), tt.tries)
			}
			if got := seen[0].Get(mesh.HeaderPriority); got != tt.priority {
				t.Errorf("priority: got %q, want %q", got, tt.priority)
			}
		})
	}
}
