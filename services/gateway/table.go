package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// publicPrefix is what is cut from the front of a public path on its way in: /api/v1/orders is the order service's
// /v1/orders.
const publicPrefix = "/api"

// route says which service answers for a public path and all below it.
type route struct {
	path    string // whole segments: /api/v1/orders is not the beginning of /api/v1/ordersets
	service string
	open    openness
	once    bool // never sent a second time, whatever headers say
	own     bool // it has credentials of its own in Authorization, which are not for us
}

// table is everything that can be reached from outside.
//
//nolint:gochecknoglobals // never changes
var table = []route{
	// A refresh token that is used twice ends its session, so nobody on the way may repeat such a request.
	{path: "/api/v1/auth", service: "user", open: toAll, once: true},
	{path: "/api/v1/users", service: "user"},
	{path: "/api/v1/oauth", service: "user"},
	// OAuth 2.0's own: clients show their secrets in Authorization, and codes and refresh tokens are good once.
	{path: "/oauth", service: "user", open: toAll, once: true, own: true},
	{path: "/.well-known/openid-configuration", service: "user", open: toReads},
	{path: "/.well-known/jwks.json", service: "user", open: toReads},
	{path: "/api/v1/products", service: "product", open: toReads},
	{path: "/api/v1/categories", service: "product", open: toReads},
	{path: "/api/v1/orders", service: "order"},
	{path: "/api/v1/wishlists", service: "order"},
	{path: "/api/v1/wallets", service: "payment"},
	{path: "/api/v1/top-ups", service: "payment"},
	{path: "/api/v1/payments", service: "payment"},
	{path: "/api/v1/refund-requests", service: "payment"},
	{path: "/api/v1/transfers", service: "payment"},
	{path: "/api/v1/webhooks", service: "payment", open: toAll},
	{path: "/api/v1/ledger", service: "payment"},
	{path: "/api/v1/transactions", service: "coordinator"},
}

// Services is every service that the gateway calls.
func Services() []string {
	seen := map[string]bool{}
	for _, r := range table {
		seen[r.service] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// loginPath is where passwords are tried: it has a limit of its own.
const loginPath = "/api/v1/auth/login"

// openness says which requests need no valid token here. It does not open anything: the services decide who may do what.
//
// A token that is not valid is refused at once, before any service is bothered, except where nobody needs one. There the
// request goes on without it. Clients send the token they have with every request; when it has expired it must not keep
// them from the login or the refresh that would replace it, nor from the catalogue that anybody may see. And because it
// is removed, no service ever sees it.
type openness int

const (
	toNone openness = iota
	toReads
	toAll
)

func (o openness) to(method string) bool {
	return o == toAll || o == toReads && isRead(method)
}

func isRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// find is the route of a public path.
func find(path string) (route, bool) {
	for _, r := range table {
		if rest, ok := strings.CutPrefix(path, r.path); ok && (rest == "" || rest[0] == '/') {
			return r, true
		}
	}
	return route{}, false
}

// inner is the path as the service knows it.
func inner(path string) string { return strings.TrimPrefix(path, publicPrefix) }

// public is the path by which a service's path is reached from outside; false if it is not.
func public(service, path string) (string, bool) {
	for _, p := range []string{publicPrefix + path, path} {
		if r, ok := find(p); ok && r.service == service && inner(p) == path {
			return p, true
		}
	}
	return "", false
}

// services are the names in the table, each once, in its order.
func services() []string {
	var names []string
	seen := map[string]bool{}
	for _, r := range table {
		if !seen[r.service] {
			seen[r.service] = true
			names = append(names, r.service)
		}
	}
	return names
}
