package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/telemetry"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFallback_answersWhatNoOperationDoes(t *testing.T) {
	t.Parallel()
	s := testkit.NewService(t, "edge")
	s.Fallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/soon":
			w.Header().Set("Retry-After", "9")
			httpapi.Problem(w, r, fault.New(fault.Exhausted, "", "slower"))
		}
	}))
	if got := s.Do(t, testkit.Request{Method: "GET", Path: "/x"}); got.Status != 200 || len(got.Body) != 0 {
		t.Errorf("a handler that writes nothing gave %d %q, want an empty 200", got.Status, got.Body)
	}
	if got := s.Do(t, testkit.Request{Method: "GET", Path: "/none"}); got.Status != 404 || len(got.Body) != 0 {
		t.Errorf("got %d %q, want a 404 without a body", got.Status, got.Body)
	}
	got := s.Do(t, testkit.Request{Method: "GET", Path: "/soon"})
	got.Problem(t, 429, "exhausted")
	if got.Header.Get("Retry-After") != "9" {
		t.Errorf("Retry-After is %q, want the handler's 9", got.Header.Get("Retry-After"))
	}
	s.Do(t, testkit.Request{Method: "GET", Path: "/openapi.json"}).Into(t, 200, nil) // no operations, no document
}

func TestAround_comesBeforeEverything(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.Around(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del(httpapi.RequestTimeout)
			next.ServeHTTP(w, r)
		})
	})
	s.Do(t, testkit.Request{
		Method: "GET", Path: "/v1/nothing", Header: http.Header{httpapi.RequestTimeout: {"3"}},
	}).Problem(t, 404, "no_such_path")
}

// A proxy that loses its client panics with http.ErrAbortHandler; the request must be seen all the same.
func TestObserve_recordsWhatIsAborted(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	s := httpapi.New(httpapi.Config{Service: "edge", Version: "test", Log: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: metrics})
	s.Fallback(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		httpapi.NameRoute(r.Context(), "/things")
		panic(http.ErrAbortHandler)
	}))
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
				t.Errorf("recovered %v, want http.ErrAbortHandler passed on", v)
			}
		}()
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "BREW", "/things/1", http.NoBody))
	}()
	var event struct {
		Msg, Route, Method string
		Aborted            bool
	}
	if err := json.Unmarshal(log.Bytes(), &event); err != nil {
		t.Fatalf("want one event, got %q", log.String())
	}
	if event.Msg != "request" || event.Route != "/things" || event.Method != "BREW" || !event.Aborted {
		t.Errorf("got %+v", event)
	}
	want := bytes.NewBufferString(`# HELP mesh_server_inflight Requests being answered.
# TYPE mesh_server_inflight gauge
mesh_server_inflight 0
# HELP mesh_server_requests_total Requests answered.
# TYPE mesh_server_requests_total counter
mesh_server_requests_total{method="other",route="/things",status="200"} 1
`)
	if err := testutil.GatherAndCompare(metrics, want, "mesh_server_inflight", "mesh_server_requests_total"); err != nil {
		t.Error(err)
	}
}

// What is refused in front of the server is answered, logged and counted as if the server had been asked.
func TestRefuse_isLikeAnswering(t *testing.T) {
	t.Parallel()
	refusal := fault.New(fault.Unavailable, "overloaded", "come back").After(2 * time.Second)
	ask := func(inFront bool) (*httptest.ResponseRecorder, map[string]any) {
		var log bytes.Buffer
		metrics := prometheus.NewRegistry()
		s := httpapi.New(httpapi.Config{Service: "edge", Version: "test", Log: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: metrics})
		if inFront {
			s.Around(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s.Refuse(w, r, "/things", refusal, slog.String("client", "here"))
				})
			})
		}
		s.Fallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			httpapi.NameRoute(r.Context(), "/things")
			telemetry.Note(r.Context(), slog.String("client", "here"))
			httpapi.Problem(w, r, refusal)
		}))
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/things/1?q=secret", http.NoBody)
		r.Header.Set(contract.RequestID, "mine-1")
		s.Handler().ServeHTTP(w, r)
		var event map[string]any
		if err := json.Unmarshal(log.Bytes(), &event); err != nil {
			t.Fatalf("want one event, got %q", log.String())
		}
		delete(event, "time")
		delete(event, "duration_ms")
		counted := bytes.NewBufferString(`# HELP mesh_server_inflight Requests being answered.
# TYPE mesh_server_inflight gauge
mesh_server_inflight 0
# HELP mesh_server_requests_total Requests answered.
# TYPE mesh_server_requests_total counter
mesh_server_requests_total{method="GET",route="/things",status="503"} 1
`)
		n, err := testutil.GatherAndCount(metrics, "mesh_server_request_seconds")
		if err := errors.Join(err, testutil.GatherAndCompare(metrics, counted, "mesh_server_inflight", "mesh_server_requests_total")); err != nil || n != 1 {
			t.Errorf("%d series of times, %v", n, err)
		}
		return w, event
	}
	want, wantEvent := ask(false)
	got, event := ask(true)
	if got.Code != 503 || got.Code != want.Code || got.Body.String() != want.Body.String() {
		t.Errorf("got %d %s\nwant %d %s", got.Code, got.Body, want.Code, want.Body)
	}
	if diff := cmp.Diff(want.Header(), got.Header()); diff != "" || got.Header().Get("Retry-After") != "2" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	wantEvent["level"] = "INFO" // nothing went wrong
	if diff := cmp.Diff(wantEvent, event); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}
