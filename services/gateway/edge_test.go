package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"souk/services/gateway"
	"souk/shared/contract"
	"souk/shared/fault"
)

// claims are headers by which an outsider could pass for somebody.
var claims = []string{
	"X-User-Id", "1", "X-User-Roles", "admin", "X-Roles", "admin", "X-Internal-Call", "1", "X-Mesh-Attempt", "7", "X-Mesh-Priority", "critical",
	"X-Request-Timeout-Ms", "3", "Forwarded", "for=1.2.3.4", "X-Real-Ip", "1.2.3.4", "Via", "1.1 evil",
	"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Client-Cert", "x",
}

func TestReceive_believesNothingFromOutside(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	// Naming a header in Connection is how one tries to have it removed after it was set.
	sent := append(slices.Clone(claims), "Connection", "X-Forwarded-For, X-Forwarded-Prefix, X-Request-Id", "Connection", "X-Secret-Hop", "X-Secret-Hop", "1",
		"Keep-Alive", "5", "Te", "trailers", "Proxy-Authorization", "Basic YTpi", "X-Mine", "kept", "X-Request-Id", "mine-1", "If-Match", `"3"`, "Idempotency-Key", "k",
		"X-Internal-Client", "192.0.2.66")
	e.do(t, "GET", "/api/v1/orders", nil, sent...).Into(t, 200, nil)
	got := r.last(t).Header
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": strings.TrimPrefix(e.url, "http://"), "X-Forwarded-Prefix": "/api",
		"X-Request-Id": "mine-1", "X-Internal-Client": "127.0.0.1", "X-Mesh-Priority": "sheddable", "X-Mine": "kept", "If-Match": `"3"`, "Idempotency-Key": "k",
	} {
		if v := got.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	for _, name := range []string{
		"X-User-Id", "X-User-Roles", "X-Roles", "X-Internal-Call", "X-Mesh-Attempt", "Forwarded", "X-Real-Ip", "Via", "X-Forwarded-Client-Cert",
		"Connection", "X-Secret-Hop", "Keep-Alive", "Proxy-Authorization", "Upgrade",
	} {
		if v := got.Values(name); len(v) != 0 {
			t.Errorf("%s: %q got through", name, v)
		}
	}
	if ms := got.Get("X-Request-Timeout-Ms"); ms == "3" || ms == "" {
		t.Errorf("the service was given %q ms", ms)
	}
	// The problem names the path as it was asked, whatever prefix was claimed.
	if body := string(e.do(t, "GET", "/nothing", nil, claims...).Body); !strings.Contains(body, `"instance":"/nothing"`) {
		t.Errorf("got %s", body)
	}
	// What does not look like a request id is replaced.
	e.do(t, "GET", "/api/v1/orders", nil, "X-Request-Id", "a b<script>").Into(t, 200, nil)
	if id := r.last(t).Header.Get("X-Request-Id"); len(id) != 36 {
		t.Errorf("the service got request id %q, want a new one", id)
	}
}

func TestReceive_believesTrustedProxies(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	}}, all(r))
	e.do(t, "GET", "/api/v1/orders", nil, "X-Forwarded-For", "6.6.6.6, 203.0.113.7", "X-Forwarded-For", "10.0.0.3",
		"X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix", "/shop").Into(t, 200, nil)
	got := r.last(t).Header
	for name, want := range map[string]string{
		"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 10.0.0.3, 127.0.0.1", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https",
		"X-Forwarded-Prefix": "/shop/api",
	} {
		if v := got.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	e.log.await(t, 200)
	if c := e.log.requests(t)[0]["client"]; c != "203.0.113.7" {
		t.Errorf("the client is %v, want the last address that is no trusted proxy's", c)
	}
}

func TestReceive_findsTheClientBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	for forwarded, want := range map[string]string{
		"203.0.113.7":                    "203.0.113.7",
		"6.6.6.6, 203.0.113.7":           "203.0.113.7",
		"6.6.6.6, 203.0.113.7, 10.0.0.1": "203.0.113.7",
		"10.0.0.2, 10.0.0.1":             "10.0.0.2",
		"garbage, 10.0.0.1":              "10.0.0.1",
		"203.0.113.7, garbage":           "127.0.0.1",
		"::ffff:203.0.113.7":             "203.0.113.7",
		"":                               "127.0.0.1",
	} {
		e := setup(t, gateway.Config{TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
		}}, all(new(recorder)))
		e.do(t, "GET", "/api/v1/orders", nil, "X-Forwarded-For", forwarded).Into(t, 200, nil)
		if got := e.log.await(t, 200)["client"]; got != want {
			t.Errorf("X-Forwarded-For %q: client %v, want %s", forwarded, got, want)
		}
	}
}

func TestReceive_offersNoUpgrade(t *testing.T) {
	t.Parallel()
	r := new(recorder)
	e := setup(t, gateway.Config{}, all(r))
	for _, protocol := range []string{"websocket", "h2c"} {
		e.do(t, "GET", "/api/v1/orders", nil, "Connection", "Upgrade", "Upgrade", protocol).Into(t, 200, nil)
		if h := r.last(t).Header; h.Get("Upgrade") != "" || h.Get("Connection") != "" {
			t.Errorf("the service was asked to upgrade: %v", h)
		}
	}
}

func TestForward_cleansAnswers(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, all(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, name := range []string{"Server", "X-Powered-By", "Via", "X-Mesh-Shed", "X-Internal-Thing", "Access-Control-Allow-Origin"} {
			h.Set(name, "x")
		}
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Etag", `"3"`)
		h.Set("Location", "/api/v1/orders/1")
		w.WriteHeader(http.StatusCreated)
	})))
	got := e.do(t, "POST", "/api/v1/orders", nil, "X-Request-Id", "mine-1")
	if got.Status != 201 {
		t.Fatalf("got status %d, want 201", got.Status)
	}
	for _, name := range []string{"Server", "X-Powered-By", "Via", "X-Mesh-Shed", "X-Internal-Thing", "Access-Control-Allow-Origin", "X-Hop"} {
		if v := got.Header.Values(name); len(v) != 0 {
			t.Errorf("%s: %q got out", name, v)
		}
	}
	for name, want := range map[string]string{"X-Request-Id": "mine-1", "X-Content-Type-Options": "nosniff", "Etag": `"3"`, "Location": "/api/v1/orders/1"} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
}

func TestCORS_isForTheListedOriginsOnly(t *testing.T) {
	t.Parallel()
	const page = "https://shop.example"
	r := new(recorder)
	e := setup(t, gateway.Config{CORSOrigins: []gateway.Origin{page}}, all(r))
	ask := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,idempotency-key,if-match"}

	preflight := e.do(t, "OPTIONS", "/api/v1/orders", nil, append(ask, "Origin", page)...)
	preflight.Into(t, 204, nil)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "POST",
		"Access-Control-Allow-Headers": "authorization,idempotency-key,if-match", "Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": "",
	} {
		if got := preflight.Header.Get(name); got != want {
			t.Errorf("preflight: %s is %q, want %q", name, got, want)
		}
	}
	if r.count() != 0 {
		t.Error("a preflight reached a service")
	}
	stranger := e.do(t, "OPTIONS", "/api/v1/orders", nil, append(ask, "Origin", "https://evil.example")...)
	if got := stranger.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a stranger is allowed %q", got)
	}
	actual := e.do(t, "GET", "/api/v1/orders", nil, "Origin", page)
	if got := actual.Header.Get("Access-Control-Allow-Origin"); got != page {
		t.Errorf("the origin is not allowed: %v", actual.Header)
	}
	if got := strings.ToLower(actual.Header.Get("Access-Control-Expose-Headers")); got != "etag, location, x-request-id, retry-after" {
		t.Errorf("exposed are %q", got)
	}
	// A page must be able to read refusals too, also those from before the routing.
	for _, refusal := range []struct {
		status int
		do     func() http.Header
	}{
		{404, func() http.Header { return e.do(t, "GET", "/nothing", nil, "Origin", page).Header }},
		{413, func() http.Header {
			return e.do(t, "POST", "/api/v1/orders", strings.NewReader(strings.Repeat("a", 2<<20)), "Origin", page).Header
		}},
	} {
		if got := refusal.do().Get("Access-Control-Allow-Origin"); got != page {
			t.Errorf("a page cannot read the %d", refusal.status)
		}
	}

	closed := setup(t, gateway.Config{}, all(new(recorder)))
	if got := closed.do(t, "GET", "/api/v1/orders", nil, "Origin", page).Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("without any origin configured %q is allowed", got)
	}
}

// A refusal in a crush has all that any other has, and what is wrong with a request in itself is still said first.
func TestDoor_refusesWhole(t *testing.T) {
	t.Parallel()
	const page = "https://shop.example"
	r := new(recorder)
	e := setup(t, gateway.Config{CORSOrigins: []gateway.Origin{page}}, all(r))
	e.gateway.Shut()
	got := e.do(t, "GET", "/api/v1/products/7?q=secret", nil, "Origin", page, contract.RequestID, "mine-1")
	got.Problem(t, 503, "overloaded")
	for name, want := range map[string]string{
		"Retry-After": "1", contract.RequestID: "mine-1", "Access-Control-Allow-Origin": page, "X-Content-Type-Options": "nosniff",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	var problem fault.Problem
	if err := json.Unmarshal(got.Body, &problem); err != nil || problem.Instance != "/api/v1/products/7" || problem.RequestID != "mine-1" {
		t.Errorf("got %s, %v", got.Body, err)
	}
	event := e.log.await(t, 503)
	if event["route"] != "/api/v1/products" || event["request_id"] != "mine-1" || event["client"] != "127.0.0.1" || event["code"] != "overloaded" || event["level"] != "INFO" {
		t.Errorf("logged %v", event)
	}
	if n := e.counted(t, "mesh_server_requests_total", map[string]string{"route": "/api/v1/products", "status": "503"}); n != 1 {
		t.Errorf("counted %v refusals", n)
	}
	if id := e.do(t, "GET", "/api/v1/products", nil, contract.RequestID, "not valid!").Header.Get(contract.RequestID); len(id) != 36 {
		t.Errorf("the request id is %q, want a new one", id)
	}
	e.do(t, "POST", "/api/v1/orders", strings.NewReader(`{"lines":[]}`)).Problem(t, 503, "overloaded")

	e.do(t, "GET", "/api/v1/products/../orders", nil).Problem(t, 400, "invalid_path")
	e.do(t, "GET", "/internal/v1/transactions", nil).Problem(t, 404, "no_such_path")
	e.do(t, "POST", "/api/v1/orders", nil, "Sec-Fetch-Site", "cross-site").Problem(t, 403, "cross_origin")
	e.do(t, "OPTIONS", "/api/v1/orders", nil, "Origin", page, "Access-Control-Request-Method", "POST").Into(t, 204, nil)
	e.do(t, "GET", "/ops", nil).Into(t, 200, nil)
	e.do(t, "GET", "/ops/stream", nil).Problem(t, 401, "unauthenticated")
	if r.count() != 0 {
		t.Errorf("services were asked %d times", r.count())
	}
	e.do(t, "POST", "/api/v1/orders/1/pay", nil).Into(t, 200, nil)
}
