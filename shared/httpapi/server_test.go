package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

type makeInput struct {
	Body struct {
		Name     string      `json:"name" minLength:"1" maxLength:"10"`
		Quantity int64       `json:"quantity" minimum:"1" maximum:"1000"`
		Price    money.Money `json:"price"`
	}
}

type thing struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
}

var (
	makeThing = contract.Route[makeInput, contract.Created[thing]]{
		ID: "make-thing", Service: "shed", Method: http.MethodPost, Path: "/v1/things", Status: 201, Permission: identity.PlaceOrder, Keyed: true,
	}
	getThing = contract.Route[contract.ByID, contract.Body[thing]]{
		ID: "get-thing", Service: "shed", Method: http.MethodGet, Path: "/v1/things/{id}", Permission: identity.Public,
	}
)

func setup(t *testing.T) *testkit.Service {
	t.Helper()
	s := testkit.NewService(t, "shed")
	httpapi.Handle(s.Server, makeThing, func(_ context.Context, in *makeInput) (*contract.Created[thing], error) {
		if in.Body.Name == "panic" {
			panic("oh no, password=hunter2")
		}
		return &contract.Created[thing]{Location: "/v1/things/1", Body: thing{uuid.New(), in.Body.Name}}, nil
	})
	httpapi.Handle(s.Server, getThing, func(_ context.Context, in *contract.ByID) (*contract.Body[thing], error) {
		if in.ID == uuid.Nil {
			return nil, fault.New(fault.NotFound, "", "there is no such thing")
		}
		return &contract.Body[thing]{Body: thing{in.ID, "found"}}, nil
	})
	return s
}

const good = `{"name":"a","quantity":1,"price":{"amount":5,"currency":"USD"}}`

func TestHandle_answersBadRequestsWithTheRightProblem(t *testing.T) {
	t.Parallel()
	s := setup(t)
	customer, admin := s.Token(t, uuid.New(), identity.Customer), s.Token(t, uuid.New(), identity.Admin)
	post := func(body string) testkit.Request {
		return testkit.Request{Method: "POST", Path: "/v1/things", Token: customer, Key: "k", Body: body}
	}
	for name, c := range map[string]struct {
		request testkit.Request
		status  int
		code    string
	}{
		"unknown field":       {post(`{"name":"a","quantity":1,"price":{"amount":5,"currency":"USD"},"discount":9}`), 422, "invalid"},
		"a field in disguise": {post(`{"name":"a","quantity":1,"Quantity":-1,"price":{"amount":5,"currency":"USD"}}`), 422, "invalid"},
		"wrong type":          {post(`{"name":"a","quantity":"1","price":{"amount":5,"currency":"USD"}}`), 422, "invalid"},
		"negative":            {post(`{"name":"a","quantity":-1,"price":{"amount":5,"currency":"USD"}}`), 422, "invalid"},
		"huge":                {post(`{"name":"a","quantity":1e18,"price":{"amount":5,"currency":"USD"}}`), 422, "invalid"},
		"a fraction":          {post(`{"name":"a","quantity":1.5,"price":{"amount":5,"currency":"USD"}}`), 422, "invalid"},
		"negative money":      {post(`{"name":"a","quantity":1,"price":{"amount":-5,"currency":"USD"}}`), 422, "invalid"},
		"broken JSON":         {post(`{"name":`), 400, "malformed"},
		"two values":          {post(good + good), 400, "malformed"},
		"no body":             {testkit.Request{Method: "POST", Path: "/v1/things", Token: customer, Key: "k"}, 400, "malformed"},
		"body too large":      {post(`{"name":"` + strings.Repeat("a", httpapi.BodyLimit) + `"}`), 413, "too_large"},
		"no key":              {testkit.Request{Method: "POST", Path: "/v1/things", Token: customer, Body: good}, 400, "idempotency_key_required"},
		"a key with spaces":   {testkit.Request{Method: "POST", Path: "/v1/things", Token: customer, Key: "a b", Body: good}, 400, "idempotency_key_invalid"},
		"nobody":              {testkit.Request{Method: "POST", Path: "/v1/things", Key: "k", Body: good}, 401, "unauthenticated"},
		"a forged token":      {testkit.Request{Method: "POST", Path: "/v1/things", Key: "k", Token: "a.b.c", Body: good}, 401, "invalid_token"},
		"another role":        {testkit.Request{Method: "POST", Path: "/v1/things", Key: "k", Token: admin, Body: good}, 403, "forbidden"},
		"a panic":             {post(strings.Replace(good, `"a"`, `"panic"`, 1)), 500, "internal"},
		"no such path":        {testkit.Request{Method: "GET", Path: "/v1/nothing"}, 404, "no_such_path"},
		"wrong method":        {testkit.Request{Method: "DELETE", Path: "/v1/things/" + uuid.NewString()}, 405, "method_not_allowed"},
		"not an id":           {testkit.Request{Method: "GET", Path: "/v1/things/abc"}, 422, "invalid"},
		"none":                {testkit.Request{Method: "GET", Path: "/v1/things/" + uuid.Nil.String()}, 404, "not_found"},
		"no time left":        {testkit.Request{Method: "GET", Path: "/v1/things/" + uuid.NewString(), Header: http.Header{httpapi.RequestTimeout: {"3"}}}, 504, "deadline"},
		"media type":          {testkit.Request{Method: "POST", Path: "/v1/things", Token: customer, Key: "k", Body: good, Header: http.Header{"Content-Type": {"text/plain"}}}, 415, "media"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := s.Do(t, c.request)
			answer.Problem(t, c.status, c.code)
			if strings.Contains(string(answer.Body), "hunter2") {
				t.Errorf("a secret is in the answer: %s", answer.Body)
			}
		})
	}
}

func TestHandle_takesNullForNoList(t *testing.T) {
	t.Parallel()
	s := testkit.NewService(t, "shed")
	type input struct {
		Body struct {
			Things []string `json:"things" minItems:"1"`
		}
	}
	r := contract.Route[input, contract.None]{ID: "put-things", Method: http.MethodPut, Path: "/v1/things", Status: 204, Permission: identity.Public}
	httpapi.Handle(s.Server, r, func(context.Context, *input) (*contract.None, error) { return &contract.None{}, nil })
	s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/things", Body: `{"things":["a"]}`}).Into(t, 204, nil)
	for _, body := range []string{`{"things":null}`, `{"things":[]}`, `{}`} {
		s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/things", Body: body}).Problem(t, 422, "invalid")
	}
}

func TestHandle_saysWhichMethodsAreAllowedAndHowToSignIn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if got := s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/things"}).Header.Get("Allow"); got != "POST" {
		t.Errorf("Allow is %q, want POST", got)
	}
	if got := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/things", Key: "k", Body: good}).Header.Get("WWW-Authenticate"); got == "" {
		t.Error("401 without WWW-Authenticate")
	}
}

func TestHandle_createsAndIsCalledByItsRoute(t *testing.T) {
	t.Parallel()
	s := setup(t)
	answer := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/things", Token: s.Token(t, uuid.New(), identity.Customer), Key: `"quoted"`, Body: good})
	answer.Into(t, 201, nil)
	if answer.Header.Get("Location") == "" || answer.Header.Get(contract.RequestID) == "" {
		t.Errorf("headers %v lack Location or request id", answer.Header)
	}

	client, template := testkit.Hosts{"shed": s.Handler()}.Client(), ""
	client.Transport = seen{client.Transport, &template}
	id := uuid.New()
	got, err := getThing.Call(t.Context(), client, &contract.ByID{ID: id})
	if err != nil || got.Body.ID != id || template != getThing.Path {
		t.Errorf("got %v, %v as %q, want the thing %s", got, err, template, id)
	}
	if _, err = getThing.Call(t.Context(), client, &contract.ByID{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if _, err = getThing.Call(t.Context(), testkit.Hosts{}.Client(), &contract.ByID{ID: id}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
}

// seen notes the template of the path that is called.
type seen struct {
	http.RoundTripper
	template *string
}

func (s seen) RoundTrip(r *http.Request) (*http.Response, error) {
	*s.template = r.Pattern
	return s.RoundTripper.RoundTrip(r)
}

func TestHandle_refusesARouteThatDoesNotSayWhoMayCallIt(t *testing.T) {
	t.Parallel()
	s := testkit.NewService(t, "shed")
	for name, r := range map[string]contract.Route[contract.None, contract.None]{
		"no permission":          {ID: "a", Method: "GET", Path: "/v1/a"},
		"internal path, public":  {ID: "b", Method: "GET", Path: "/internal/v1/b", Permission: identity.Public},
		"public path, internal":  {ID: "c", Method: "GET", Path: "/v1/c", Permission: identity.Internal},
		"unknown permission":     {ID: "d", Method: "GET", Path: "/v1/d", Permission: "reed_order"},
		"sensitive, no class":    {ID: "e", Method: "GET", Path: "/v1/e", Permission: identity.ReadSensitiveData},
		"a class, not sensitive": {ID: "f", Method: "GET", Path: "/v1/f", Permission: identity.SignedIn, Class: 1},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the route was registered", name)
				}
			}()
			httpapi.Handle(s.Server, r, func(context.Context, *contract.None) (*contract.None, error) { return nil, nil })
		}()
	}
}

func TestOpenAPI_hasTheRoutesAndNotTheInternalOnes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]any
	}
	answer := s.Do(t, testkit.Request{Method: "GET", Path: "/openapi.json"})
	if err := json.Unmarshal(answer.Body, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Paths["/v1/things"]["post"] == nil || len(doc.Paths) != 2 {
		t.Errorf("got %s", answer.Body)
	}
}

// The gateway makes one document of all services', and another service may have a Brief too.
func TestOpenAPI_leadsSchemasWithTheirPackage(t *testing.T) {
	t.Parallel()
	s := testkit.NewService(t, "order")
	httpapi.Handle(s.Server, order.List, func(context.Context, *order.ListInput) (*contract.Body[contract.Page[order.Brief]], error) {
		return new(contract.Body[contract.Page[order.Brief]]), nil
	})
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(s.Do(t, testkit.Request{Method: "GET", Path: "/openapi.json"}).Body, &doc); err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(doc.Components.Schemas))
	if diff := cmp.Diff([]string{"Field", "Money", "OrderBrief", "OrderPageBrief", "Problem"}, got); diff != "" {
		t.Errorf("schemas (-want +got):\n%s", diff)
	}
}

// A route has one name on both sides of a call.
func TestHandle_countsUnderTheRoutesTemplate(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s := httpapi.New(httpapi.Config{Service: "shed", Log: slog.New(slog.DiscardHandler), Metrics: registry})
	httpapi.Handle(s, contract.Route[contract.ByID, contract.None]{ID: "open", Method: "GET", Path: "/v1/things/{id}", Permission: identity.Public},
		func(context.Context, *contract.ByID) (*contract.None, error) { return &contract.None{}, nil })
	s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/things/"+uuid.NewString(), http.NoBody))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, l := range f.GetMetric()[0].GetLabel() {
			if l.GetName() == "route" && l.GetValue() != "/v1/things/{id}" {
				t.Errorf("%s counts under %s", f.GetName(), l.GetValue())
			}
		}
	}
	if len(families) < 3 {
		t.Errorf("%d metrics", len(families))
	}
}

// A body that is wrong in a hundred thousand places is told of a hundred: the rest would cost more to say than it is worth.
func TestHandle_tellsOfSoManyFieldsAtMost(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var body strings.Builder
	body.WriteString(strings.TrimSuffix(good, "}"))
	for i := range 60_000 {
		fmt.Fprintf(&body, `,"x%d":1`, i)
	}
	body.WriteString("}")
	began := time.Now()
	a := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/things", Token: s.Token(t, uuid.New(), identity.Customer), Key: "k", Body: body.String()})
	a.Problem(t, 422, "invalid")
	if n := strings.Count(string(a.Body), `"pointer"`); n != 100 {
		t.Errorf("%d fields are named in %d bytes, want 100", n, len(a.Body))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
