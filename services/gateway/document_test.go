package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"souk/services/gateway"
	"souk/shared/contract"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

type item struct {
	ID    uuid.UUID   `json:"id"`
	Price money.Money `json:"price"`
}

type itemInput struct {
	Body struct {
		Price money.Money `json:"price"`
		Notes []string    `json:"notes,omitempty" maxItems:"3"`
	}
}

// realService is a service as the house builds them, with a list and a keyed write under its path.
func realService(t *testing.T, name, path string) *testkit.Service {
	t.Helper()
	s := testkit.NewService(t, name)
	httpapi.Handle(s.Server, contract.Route[contract.Paging, contract.Body[contract.Page[item]]]{
		ID: "list-" + name, Method: "GET", Path: path, Permission: identity.Public,
	}, func(context.Context, *contract.Paging) (*contract.Body[contract.Page[item]], error) { return nil, nil })
	httpapi.Handle(s.Server, contract.Route[itemInput, contract.Created[item]]{
		ID: "make", Method: "POST", Path: path, Status: 201, Permission: identity.PlaceOrder, Keyed: true, // an id that two services have
	}, func(context.Context, *itemInput) (*contract.Created[item], error) { return nil, nil })
	httpapi.Handle(s.Server, contract.Route[contract.None, contract.None]{
		ID: "hidden-" + name, Method: "GET", Path: "/internal/v1/" + name, Permission: identity.Internal,
	}, func(context.Context, *contract.None) (*contract.None, error) { return nil, nil })
	httpapi.Handle(s.Server, contract.Route[contract.None, contract.None]{
		ID: "unreachable-" + name, Method: "GET", Path: "/v1/backdoor", Permission: identity.Public,
	}, func(context.Context, *contract.None) (*contract.None, error) { return nil, nil })
	return s
}

func TestDocument_isOneOfAllServices(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{
		"product": {realService(t, "product", "/v1/products").Handler()}, "order": {realService(t, "order", "/v1/orders").Handler()},
	})
	answer := e.do(t, "GET", "/api/openapi.json", nil)
	var doc map[string]any
	answer.Into(t, 200, &doc)
	valid(t, doc)
	paths := doc["paths"].(map[string]any)
	var got []string
	for path := range paths {
		got = append(got, path)
	}
	slices.Sort(got)
	if want := []string{"/api/v1/orders", "/api/v1/products"}; !slices.Equal(got, want) {
		t.Errorf("paths are %v, want %v: no internal ones, and none that cannot be reached", got, want)
	}
	post := paths["/api/v1/orders"].(map[string]any)["post"].(map[string]any)
	if post["operationId"] != "order-make" && post["operationId"] != "make" {
		t.Errorf("operationId is %v", post["operationId"])
	}
	if fmt.Sprint(post["tags"]) != "[order]" || fmt.Sprint(post["security"]) != "[map[bearer:[]]]" {
		t.Errorf("tags %v, security %v", post["tags"], post["security"])
	}
	if get := paths["/api/v1/orders"].(map[string]any)["get"].(map[string]any); fmt.Sprint(get["security"]) != "[]" {
		t.Errorf("a public operation wants %v", get["security"])
	}
	if answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("Etag") == "" {
		t.Errorf("headers %v", answer.Header)
	}
	if again := e.do(t, "GET", "/api/openapi.json", nil, "If-None-Match", answer.Header.Get("Etag")); again.Status != 304 {
		t.Errorf("got status %d for the same document, want 304", again.Status)
	}
	wrong := e.do(t, "POST", "/api/openapi.json", nil)
	wrong.Problem(t, 405, "method_not_allowed")
	if wrong.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow is %q", wrong.Header.Get("Allow"))
	}
}

func TestDocument_isThereWhenServicesAreNot(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{
		"product": {realService(t, "product", "/v1/products").Handler()},
		"order":   {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"openapi":"3.0.3"}`) })},
		"payment": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })},
		"user":    {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "no JSON") })},
	})
	var doc map[string]any
	e.do(t, "GET", "/api/openapi.json", nil).Into(t, 200, &doc)
	valid(t, doc)
	if got := len(doc["paths"].(map[string]any)); got != 1 {
		t.Errorf("it has %d paths, want the product service's one", got)
	}
	empty := setup(t, gateway.Config{}, shop{})
	empty.do(t, "GET", "/api/openapi.json", nil).Into(t, 200, &doc)
	valid(t, doc)
}

// A service is asked rarely, and its document outlives it.
func TestDocument_isKept(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	inner := realService(t, "product", "/v1/products").Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		inner.ServeHTTP(w, r)
	}))
	clock := newClock()
	e := setupWith(t, gateway.Config{}, addresses{"product": {registry.Instance{ID: "1", Addr: server.Listener.Addr().String()}}}, clock.now)
	first := e.do(t, "GET", "/api/openapi.json", nil)
	for range 5 {
		e.do(t, "GET", "/api/openapi.json", nil).Into(t, 200, nil)
	}
	if asked.Load() != 1 {
		t.Errorf("the service was asked %d times, want 1", asked.Load())
	}
	clock.advance(gateway.DocumentLife)
	e.do(t, "GET", "/api/openapi.json", nil).Into(t, 200, nil)
	if asked.Load() != 2 {
		t.Errorf("after half a minute the service was asked %d times, want 2", asked.Load())
	}
	server.Close()
	clock.advance(gateway.DocumentLife)
	if got := e.do(t, "GET", "/api/openapi.json", nil); string(got.Body) != string(first.Body) {
		t.Errorf("the last good document is gone: %s", got.Body)
	}
}

// valid checks what OpenAPI 3.1 demands and merging could break.
func valid(t *testing.T, doc map[string]any) {
	t.Helper()
	info, _ := doc["info"].(map[string]any)
	if doc["openapi"] != "3.1.0" || info["title"] == "" || info["version"] == nil || doc["paths"] == nil {
		t.Errorf("it lacks openapi, info or paths: %v", doc)
	}
	tags := map[string]bool{}
	for _, tag := range doc["tags"].([]any) {
		tags[tag.(map[string]any)["name"].(string)] = true
	}
	components, _ := doc["components"].(map[string]any)
	schemes, _ := components["securitySchemes"].(map[string]any)
	ids := map[string]bool{}
	for path, entry := range doc["paths"].(map[string]any) {
		if !strings.HasPrefix(path, "/") {
			t.Errorf("path %s", path)
		}
		for method, op := range entry.(map[string]any) {
			op := op.(map[string]any)
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q is missing or taken", method, path, id)
			}
			ids[id] = true
			if r, _ := op["responses"].(map[string]any); len(r) == 0 {
				t.Errorf("%s %s has no responses", method, path)
			}
			for _, tag := range op["tags"].([]any) {
				if !tags[tag.(string)] {
					t.Errorf("%s %s: tag %v is not declared", method, path, tag)
				}
			}
			security, _ := op["security"].([]any)
			for _, need := range security {
				for name := range need.(map[string]any) {
					if schemes[name] == nil {
						t.Errorf("%s %s: security scheme %s is not declared", method, path, name)
					}
				}
			}
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				var at any = doc
				for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[step]
				}
				if at == nil || !strings.HasPrefix(ref, "#/") {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	if _, err := json.Marshal(doc); err != nil {
		t.Error(err)
	}
}
