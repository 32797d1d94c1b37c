package gateway_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"souk/services/gateway"
	"souk/shared/contract"

	"github.com/caarlos0/env/v11"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// all is every service of the shop, as the same recorder.
func all(h http.Handler) shop {
	return shop{"user": {h}, "product": {h}, "order": {h}, "payment": {h}, "coordinator": {h}}
}

func TestServe_findsTheServiceOfAPath(t *testing.T) {
	t.Parallel()
	for path, service := range map[string]string{
		"/api/v1/auth/register": "user", "/api/v1/users": "user", "/api/v1/users/me": "user", "/.well-known/jwks.json": "user",
		"/api/v1/products?q=a+b&page_size=3": "product", "/api/v1/categories": "product",
		"/api/v1/orders/": "order", "/api/v1/orders/1/pay": "order",
		"/api/v1/wallets": "payment", "/api/v1/top-ups": "payment", "/api/v1/payments/1": "payment", "/api/v1/transfers": "payment",
		"/api/v1/webhooks/sandbox": "payment", "/api/v1/ledger": "payment",
		"/api/v1/transactions/1": "coordinator",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			r := new(recorder)
			e := setup(t, gateway.Config{}, shop{service: {r}})
			e.do(t, "GET", path, nil).Into(t, 200, nil)
			got := r.last(t)
			if want := strings.TrimPrefix(path, "/api"); got.RequestURI != want {
				t.Errorf("the service was asked for %s, want %s", got.RequestURI, want)
			}
			prefix := ""
			if strings.HasPrefix(path, "/api/") {
				prefix = "/api"
			}
			if got.Host != service || got.Header.Get("X-Forwarded-Prefix") != prefix {
				t.Errorf("asked host %q with prefix %q, want %q and %q", got.Host, got.Header.Get("X-Forwarded-Prefix"), service, prefix)
			}
		})
	}
}

func TestServe_hidesEverythingElse(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	for _, path := range []string{
		"/internal/v1/transactions", "/api/internal/v1/transactions", "/api/v1/internal", "/v1/orders", "/api", "/api/", "/api/v1", "/api/v2/orders",
		"/api/v1/ordersets", "/api/v1/Orders", "/openapi.json", "/openapi.yaml", "/livez", "/readyz", "/metrics", "/debug/pprof/", "/favicon.ico",
		"/.well-known/", "/.well-known/jwks.json2", "/docs/index.html", "/docs/start.js.gz",
	} {
		e.do(t, "GET", path, nil).Problem(t, 404, "no_such_path")
		e.do(t, "POST", path, nil).Problem(t, 404, "no_such_path")
	}
	if r.count() != 0 {
		t.Errorf("services got %d requests", r.count())
	}
}

func TestServe_refusesCrookedPaths(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	for _, path := range []string{
		"/api/v1/products/../../internal/v1/x", "/api/v1/products/..", "/api/v1/products/%2e%2e/x", "/api/v1/products/.%2E/x", "/api/v1/products//x",
		"//api/v1/products", "/api/v1/products/a%2fb", "/api/v1/products/a%2Fb", "/api/v1/products/a%5cb", `/api/v1/products/a\b`,
		"/api/v1/products/a%00", "/api/v1/products/a%0d%0aX-User-Id:%201", "/api/v1/products;a=b", "/api/v1/products/a%3bb", "/api/v1/products/%252e%252e",
		"/internal/../api/v1/products", "/docs/..%2f",
	} {
		e.do(t, "GET", path, nil).Problem(t, 400, "invalid_path")
	}
	if r.count() != 0 {
		t.Errorf("services got %d requests", r.count())
	}
	e.do(t, "GET", "/api/v1/products?next=a%2f..%2fb", nil).Into(t, 200, nil) // a query may say anything
}

func TestServe_encodesThePathAnew(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	e.do(t, "GET", "/%61pi/v1/%70roducts/caf%C3%A9%20x%21", nil).Into(t, 200, nil)
	if got := r.last(t).RequestURI; got != "/v1/products/caf%C3%A9%20x%21" && got != "/v1/products/caf%C3%A9%20x!" {
		t.Errorf("the service was asked for %s", got)
	}
}

func TestServe_limitsTheURL(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, all(new(recorder)))
	e.do(t, "GET", "/api/v1/products?q="+strings.Repeat("a", 8100), nil).Into(t, 200, nil)
	e.do(t, "GET", "/api/v1/products?q="+strings.Repeat("a", 8200), nil).Problem(t, 414, "long_url")
	if got := e.do(t, "GET", "/api/v1/products", nil, "X-Long", strings.Repeat("a", 80<<10)); got.Status != 431 {
		t.Errorf("80 KiB of headers: got status %d, want 431", got.Status)
	}
}

func TestServe_checksTokens(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	user := uuid.New()
	good, expired := e.token(t, user, 0), e.token(t, user, time.Hour)
	enc := base64.RawURLEncoding.EncodeToString
	none := enc([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." +
		enc(fmt.Appendf(nil, `{"iss":"souk","aud":["shop-api"],"sub":"%s","exp":99999999999}`, user)) + "."
	bad := map[string]struct{ header, code string }{
		"expired":        {"Bearer " + expired, "token_expired"},
		"alg none":       {"Bearer " + none, "invalid_token"},
		"forged":         {"Bearer " + good[:len(good)-10] + "AAAAAAAAAA", "invalid_token"},
		"garbage":        {"Bearer abc", "invalid_token"},
		"empty":          {"Bearer ", "invalid_token"},
		"another scheme": {"Basic YTpi", "invalid_token"},
	}
	for name, c := range bad {
		for _, to := range []struct{ method, path string }{
			{"GET", "/api/v1/orders"},
			{"POST", "/api/v1/orders"},
			{"POST", "/api/v1/products"},
			{"GET", "/api/v1/users/me"},
			{"GET", "/api/v1/transactions"},
		} {
			before := r.count()
			got := e.do(t, to.method, to.path, nil, "Authorization", c.header)
			got.Problem(t, 401, c.code)
			if got.Header.Get("WWW-Authenticate") == "" || r.count() != before {
				t.Errorf("%s at %s %s: WWW-Authenticate %q, %d requests got through", name, to.method, to.path, got.Header.Get("WWW-Authenticate"), r.count()-before)
			}
		}
		// Where nobody needs a token, a bad one is as good as none, and goes no further.
		for _, to := range []struct{ method, path string }{
			{"POST", "/api/v1/auth/login"},
			{"POST", "/api/v1/auth/refresh"},
			{"GET", "/api/v1/products"},
			{"HEAD", "/api/v1/categories"},
			{"POST", "/api/v1/webhooks/sandbox"},
			{"GET", "/.well-known/jwks.json"},
		} {
			e.do(t, to.method, to.path, nil, "Authorization", c.header).Into(t, 200, nil)
			if got := r.last(t).Header.Values("Authorization"); len(got) != 0 {
				t.Errorf("%s at %s %s: the service got %q", name, to.method, to.path, got)
			}
		}
	}
	e.do(t, "GET", "/api/v1/orders", nil, "Authorization", "Bearer "+good, "Authorization", "Bearer "+good).Problem(t, 401, "invalid_token")

	for _, path := range []string{"/api/v1/orders", "/api/v1/products"} {
		e.do(t, "GET", path, nil, "Authorization", "Bearer "+good).Into(t, 200, nil)
		if got := r.last(t).Header.Get("Authorization"); got != "Bearer "+good {
			t.Errorf("the service got %q, want the token", got)
		}
	}
	e.do(t, "GET", "/api/v1/orders", nil).Into(t, 200, nil) // whether one is needed is for the service to say
}

func TestServe_limitsEachClient(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{
		RateClient: gateway.Rate{Events: 1, Burst: 3}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, all(r))
	from := func(address string) func(path string) int {
		return func(path string) int { return e.do(t, "GET", path, nil, "X-Forwarded-For", address).Status }
	}
	a, b := from("203.0.113.1"), from("203.0.113.2")
	got := []int{a("/api/v1/products"), a("/docs"), a("/nothing"), a("/api/v1/products"), a("/nothing"), b("/api/v1/products")}
	if diff := cmp.Diff([]int{200, 200, 404, 429, 429, 200}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	answer := e.do(t, "GET", "/api/v1/products", nil, "X-Forwarded-For", "203.0.113.1")
	answer.Problem(t, 429, "rate_limited")
	if answer.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q, want 1", answer.Header.Get("Retry-After"))
	}
	// The /64 of an IPv6 customer is one client.
	six := 0
	for i := range 4 {
		if e.do(t, "GET", "/api/v1/products", nil, "X-Forwarded-For", fmt.Sprintf("2001:db8::%x", i)).Status == 429 {
			six++
		}
	}
	if six != 1 {
		t.Errorf("%d of 4 requests of one IPv6 network were refused, want 1", six)
	}
	if e.log.await(t, 429)["limit"] != "client" {
		t.Errorf("the log does not say which limit it was: %v", e.log.await(t, 429))
	}
}

func TestServe_limitsTriesAtPasswords(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{RateLogin: gateway.Rate{Events: 5, Burst: 2}}, all(r))
	for range 2 {
		e.do(t, "POST", "/api/v1/auth/login", nil).Into(t, 200, nil)
	}
	answer := e.do(t, "POST", "/api/v1/auth/login", nil)
	answer.Problem(t, 429, "rate_limited")
	if answer.Header.Get("Retry-After") != "12" {
		t.Errorf("Retry-After is %q, want the 12 s of five a minute", answer.Header.Get("Retry-After"))
	}
	e.do(t, "POST", "/api/v1/auth/refresh", nil).Into(t, 200, nil)
	e.do(t, "GET", "/api/v1/auth/login", nil).Into(t, 200, nil) // the service says 405
	if r.count() != 4 {
		t.Errorf("the service got %d requests, want 4", r.count())
	}
}

func TestServe_limitsEachUser(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{RateUser: gateway.Rate{Events: 1, Burst: 1}}, all(new(recorder)))
	ann, bob := e.token(t, uuid.New(), 0), e.token(t, uuid.New(), 0)
	var got []int
	for _, token := range []string{ann, bob, ann} {
		got = append(got, e.do(t, "GET", "/api/v1/orders", nil, "Authorization", "Bearer "+token).Status)
	}
	if diff := cmp.Diff([]int{200, 200, 429}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

func TestServe_writesOneEventPerRequest(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, all(new(recorder)))
	user := uuid.New()
	e.do(t, "GET", "/api/v1/orders/42?secret=1", nil, "Authorization", "Bearer "+e.token(t, user, 0), contract.RequestID, "mine-1")
	e.log.await(t, 200) // its event comes after its answer, and might come after the next one's
	e.do(t, "GET", "/nothing/42", nil, contract.RequestID, "not valid!")
	e.log.await(t, 404)
	events := e.log.requests(t)
	if len(events) != 2 {
		t.Fatalf("got %d events, want 2", len(events))
	}
	if ev := events[0]; ev["route"] != "/api/v1/orders" || ev["actor"] != user.String() || ev["client"] != "127.0.0.1" || ev["request_id"] != "mine-1" {
		t.Errorf("got %v", ev)
	}
	if ev := events[1]; ev["route"] != "none" || ev["code"] != "no_such_path" || ev["request_id"] == "not valid!" {
		t.Errorf("got %v", ev)
	}
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	if s := e.log.b.String(); strings.Contains(s, "secret") || strings.Contains(s, "Bearer") {
		t.Errorf("the log has what it must not have: %s", s)
	}
}

func TestConfig_isReadFromTheEnvironment(t *testing.T) {
	t.Parallel()
	read := func(vars map[string]string) (c gateway.Config, err error) {
		return c, env.ParseWithOptions(&c, env.Options{Environment: vars})
	}
	got, err := read(nil)
	want := gateway.Config{
		RateClient: gateway.Rate{Events: 100, Burst: 200}, RateUser: gateway.Rate{Events: 50, Burst: 100},
		RateLogin: gateway.Rate{Events: 5, Burst: 10}, Timeout: 10 * time.Second, MaxInflight: 1024,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("defaults: %v (-want +got):\n%s", err, diff)
	}
	got, err = read(map[string]string{
		"TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8", "CORS_ORIGINS": "https://a.example,http://localhost:3000", "RATE_CLIENT": "0", "RATE_LOGIN": "1/2",
	})
	if err != nil || len(got.TrustedProxies) != 2 || len(got.CORSOrigins) != 2 || got.RateClient != (gateway.Rate{}) || got.RateLogin != (gateway.Rate{Events: 1, Burst: 2}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, value := range map[string]string{
		"TRUSTED_PROXIES": "10.0.0.1", "RATE_CLIENT": "many", "RATE_USER": "5", "RATE_LOGIN": "-1/5", "CORS_ORIGINS": "*", "REQUEST_TIMEOUT": "10",
	} {
		if _, err := read(map[string]string{name: value}); err == nil {
			t.Errorf("%s=%s is accepted", name, value)
		}
	}
	for _, origin := range []string{"https://*.example", "https://a.example/", "ftp://a.example", "a.example", "null"} {
		if _, err := read(map[string]string{"CORS_ORIGINS": origin}); err == nil {
			t.Errorf("the origin %s is accepted", origin)
		}
	}
}
