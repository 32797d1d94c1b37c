package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"souk/services/gateway"
)

func TestServe_refusesWhatAnotherOriginsPageChanges(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{CORSOrigins: []gateway.Origin{"https://shop.example"}}, all(new(recorder)))
	for name, c := range map[string]struct {
		method string
		header []string
		status int
	}{
		"no browser":                      {"POST", nil, 200},
		"our own page":                    {"POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		"a person's own doing":            {"POST", []string{"Sec-Fetch-Site", "none"}, 200},
		"a page that is listed":           {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://shop.example"}, 200},
		"another site's page":             {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		"a sibling domain's page":         {"POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://blog.shop.example"}, 403},
		"an old browser on another site":  {"DELETE", []string{"Origin", "https://evil.example"}, 403},
		"a page in a sandbox":             {"PUT", []string{"Origin", "null"}, 403},
		"a prefix of a listed origin":     {"POST", []string{"Origin", "https://shop.example.evil.example"}, 403},
		"a listed origin without its TLS": {"POST", []string{"Origin", "http://shop.example"}, 403},
		"another site's page that reads":  {"GET", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 200},
	} {
		a := e.do(t, c.method, "/api/v1/orders", nil, c.header...)
		if a.Status != c.status {
			t.Errorf("%s: got %d %s, want %d", name, a.Status, a.Body, c.status)
		}
		if c.status == 403 && !strings.Contains(string(a.Body), "cross_origin") {
			t.Errorf("%s: got %s", name, a.Body)
		}
	}
}

func TestReceive_tellsBrowsersToBeCareful(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{"order": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/page") {
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
		}
		w.Header().Set("X-Frame-Options", "ALLOWALL")
		w.WriteHeader(http.StatusOK)
	})}})
	for path, policy := range map[string]string{
		"/api/v1/orders": "default-src 'none'", "/nothing": "default-src 'none'", "/": "default-src 'none'", "/api/v1/orders/../x": "default-src 'none'",
		"/docs": "default-src 'none'; script-src 'self'", "/ops": "default-src 'none'; script-src 'self'", "/api/v1/orders/page": "default-src 'self'",
	} {
		h := e.do(t, "GET", path, nil).Header
		if v := h.Values("Content-Security-Policy"); len(v) != 1 || !strings.HasPrefix(v[0], policy) {
			t.Errorf("%s: Content-Security-Policy is %q, want one that begins with %q", path, v, policy)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if v := h.Values(name); len(v) != 1 || v[0] != want {
				t.Errorf("%s: %s is %q, want %q", path, name, v, want)
			}
		}
		if v := h.Get("Strict-Transport-Security"); v != "" {
			t.Errorf("%s: without TLS, Strict-Transport-Security is %q", path, v)
		}
	}
}
