package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
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
	s.Around(g.receive)
	s.Fallback(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.serve(w, r); err != nil {
			httpapi.Problem(w, r, err)
		}
	}))
}

// serve answers r, or says why it is refused.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	from := connectionOf(ctx).client
	client := network(from)
	telemetry.Note(ctx, slog.String("client", from.String()))
	if err := refuseCrooked(r); err != nil {
		return err
	}
	if err := limit(w, r, "client", g.clients.take(client, g.deps.Now())); err != nil {
		return err
	}
	if err := g.refuseCrossOrigin(r); err != nil {
		return err
	}
	if page, ok := g.pages[r.URL.Path]; ok {
		httpapi.NameRoute(ctx, r.URL.Path)
		return servePage(page, w, r)
	}
	if r.URL.Path == opsStream {
		httpapi.NameRoute(ctx, opsStream)
		return g.look(w, r)
	}
	to, ok := find(r.URL.Path)
	if !ok {
		return fault.New(fault.NotFound, "no_such_path", "there is nothing at this path")
	}
	httpapi.NameRoute(ctx, to.path)
	if g.preflight(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	now := g.deps.Now()
	if err := g.pressure.enter(w, priorityOf(r), rankOf(r, from, now), now); err != nil { // before a signature is verified, which costs the most here
		return err
	}
	defer g.pressure.leave()
	if r.Method == http.MethodPost && r.URL.Path == loginPath {
		if err := limit(w, r, "login", g.logins.take(client, g.deps.Now())); err != nil {
			return err
		}
	}
	who, err := g.tokens.identify(r, to)
	if err != nil {
		return err
	}
	if who != uuid.Nil {
		telemetry.Note(ctx, slog.String("actor", who.String()))
		if err := limit(w, r, "user", g.users.take(who, g.deps.Now())); err != nil {
			return err
		}
	}
	began := g.deps.Now()
	g.forward(w, r, to)
	if now := g.deps.Now(); !to.once {
		g.pressure.learn(now, isLate(r, now.Sub(began), connectionOf(ctx).shed))
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

// limit refuses a request that has to wait.
func limit(w http.ResponseWriter, r *http.Request, what string, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	telemetry.Note(r.Context(), slog.String("limit", what))
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	w.Header().Set("Retry-After", seconds)
	return fault.New(fault.Exhausted, "rate_limited", "too many requests; come back in %s s", seconds)
}
