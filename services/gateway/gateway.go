package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"time"

	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/telemetry"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// urlLimit is the longest URL that is taken, in bytes.
const urlLimit = 8 << 10

// Deps are the gateway's surroundings. All but Metrics are needed.
type Deps struct {
	Mesh     http.RoundTripper // calls services by name
	Verifier *identity.Verifier
	Consul   Surveyor
	Log      *slog.Logger
	Now      func() time.Time
	Version  string                // of the shop, in its document
	Metrics  prometheus.Registerer // nil has none
}

// Gateway is the edge. It may be used concurrently.
type Gateway struct {
	cfg      Config
	deps     Deps
	clients  *limiter[netip.Prefix]
	logins   *limiter[netip.Prefix]
	users    *limiter[uuid.UUID]
	tokens   *tokens
	proxy    *httputil.ReverseProxy
	document *document
	lookout  *lookout
	pressure *pressure
	origins  *http.CrossOriginProtection
	pages    map[string]http.Handler // our own, by path
}

// New makes a gateway. It panics without one of its Deps.
func New(cfg Config, deps Deps) *Gateway {
	if deps.Mesh == nil || deps.Verifier == nil || deps.Consul == nil || deps.Log == nil || deps.Now == nil {
		panic("gateway: New needs all Deps")
	}
	cfg.Timeout = cmp.Or(min(cfg.Timeout, httpapi.MaxTime), httpapi.MaxTime)
	g := &Gateway{
		cfg: cfg, deps: deps,
		clients:  newLimiter[netip.Prefix](cfg.RateClient, time.Second),
		logins:   newLimiter[netip.Prefix](cfg.RateLogin, time.Minute),
		users:    newLimiter[uuid.UUID](cfg.RateUser, time.Second),
		tokens:   newTokens(deps.Verifier, exchanger(deps.Mesh), deps.Now),
		document: newDocument(deps),
		lookout:  newLookout(deps.Consul, deps.Now),
		pressure: newPressure(deps.Metrics),
		origins:  newCrossOrigin(cfg.CORSOrigins),
	}
	g.proxy = g.newProxy()
	g.pages = g.ownPages()
	return g
}

// exchanger swaps another's program's token at the user service.
func exchanger(mesh http.RoundTripper) func(context.Context, string) (string, error) {
	client := &http.Client{Transport: mesh}
	return func(ctx context.Context, token string) (string, error) {
		in := new(user.ExchangeInput)
		in.Body.Token = token
		out, err := user.ExchangeToken.Call(ctx, client, in)
		if err != nil {
			return "", err
		}
		return out.Body.AccessToken, nil
	}
}

// Mount puts the gateway on s, which has no operations.
func (g *Gateway) Mount(s *httpapi.Server) {
	if g.cfg.MaxInflight > 0 {
		s.Admit(g.cfg.MaxInflight)
	}
	s.Around(func(next http.Handler) http.Handler { return g.receive(g.door(s, next)) })
	s.Fallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { telemetry.Note(r.Context(), connectionOf(r.Context()).noted()...) }()
		if err := g.serve(w, r); err != nil {
			httpapi.Problem(w, r, err)
		}
	}))
}

// door lets a request in, or refuses it, before anything is done for it that costs something.
func (g *Gateway) door(s *httpapi.Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connectionOf(r.Context())
		if err := g.admit(w, r, c); err != nil {
			s.Refuse(w, r, c.route, err, c.noted()...)
			return
		}
		if c.entered {
			defer g.pressure.leave()
		}
		next.ServeHTTP(w, r)
	})
}

// admit finds out who answers r, which is not refused.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, c *connection) error {
	now := g.deps.Now()
	if err := refuseCrooked(r); err != nil {
		return err
	}
	if err := c.limit(w, "client", g.clients.take(network(c.client), now)); err != nil {
		return err
	}
	if err := g.refuseCrossOrigin(r); err != nil {
		return err
	}
	if page, ok := g.pages[r.URL.Path]; ok {
		c.route, c.page = r.URL.Path, page
		return nil
	}
	if r.URL.Path == opsStream {
		c.route = opsStream
		return nil
	}
	to, ok := find(r.URL.Path)
	if !ok {
		return fault.New(fault.NotFound, "no_such_path", "there is nothing at this path")
	}
	c.route, c.to = to.path, to
	if g.preflight(r) {
		return nil
	}
	if err := g.pressure.enter(w, priorityOf(r), rankOf(r, c.client, now), now); err != nil { // before a signature is verified, which costs the most here
		return err
	}
	c.entered = true
	return nil
}

// serve answers r, or says why it is refused.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c := connectionOf(ctx)
	httpapi.NameRoute(ctx, c.route)
	switch {
	case c.page != nil:
		return servePage(c.page, w, r)
	case c.route == opsStream:
		return g.look(w, r)
	case g.preflight(r):
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.Method == http.MethodPost && r.URL.Path == loginPath {
		if err := c.limit(w, "login", g.logins.take(network(c.client), g.deps.Now())); err != nil {
			return err
		}
	}
	who, err := g.tokens.identify(r, c.to)
	if err != nil {
		return err
	}
	if who != uuid.Nil {
		c.actor = who
		if err := c.limit(w, "user", g.users.take(who, g.deps.Now())); err != nil {
			return err
		}
	}
	began := g.deps.Now()
	g.forward(w, r, c.to)
	if now := g.deps.Now(); !c.to.once {
		g.pressure.learn(now, isLate(r, now.Sub(began), c.shed))
	}
	return nil
}

// refuseCrooked refuses URLs that the gateway and a service behind it could read differently, which is how paths that are
// not in the table are smuggled through one that is.
func refuseCrooked(r *http.Request) error {
	if len(r.RequestURI) > urlLimit {
		return fault.New(fault.LongURL, "", "the URL is longer than %d bytes", urlLimit)
	}
	raw, path := strings.ToLower(r.URL.EscapedPath()), r.URL.Path
	crooked := strings.Contains(raw, "%2f") ||
		strings.ContainsAny(path, `\;%`) || // a % that is left after decoding is one encoded twice
		strings.Contains(path, "//") || strings.Contains(path, "..") || strings.Contains(path+"/", "/./") ||
		strings.IndexFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0
	if crooked {
		return fault.New(fault.Malformed, "invalid_path", `a path has no "..", "//", "\", ";" or encoded "/" in it`)
	}
	return nil
}
