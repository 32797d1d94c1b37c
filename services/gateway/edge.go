package gateway

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/httpapi"

	"github.com/google/uuid"
	"github.com/rs/cors"
)

// The headers about where a request came from.
const (
	forwardedFor   = "X-Forwarded-For"
	forwardedHost  = "X-Forwarded-Host"
	forwardedProto = "X-Forwarded-Proto"
)

// slowest is how long an answer may take to be sent. It ends a client that reads a byte now and then.
const slowest = httpapi.MaxTime + 5*time.Second

// receive is what happens to a request before anything looks at it.
func (g *Gateway) receive(next http.Handler) http.Handler {
	next = g.cors(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &connection{header: w.Header()}
		// The server's own request must keep its body: by it net/http knows, after a refusal, that some is still to come.
		r = r.WithContext(context.WithValue(r.Context(), connectionKey{}, c))
		c.timeIt(w, r, g.cfg.Timeout)
		peer := addrOf(r.RemoteAddr)
		c.client = peer
		if g.trusted(peer) {
			c.client = g.client(peer, r.Header.Values(forwardedFor))
		} else {
			removeClaims(r.Header)
		}
		r.Header.Del("Upgrade") // to a WebSocket or to HTTP/2: neither is offered here
		sayOnEveryAnswer(w.Header(), isSecure(r))
		next.ServeHTTP(w, r)
	})
}

// connection is what is known of a request and of the one who sends it.
type connection struct {
	client    netip.Addr
	route     string       // what it is called in the log and the metrics; empty until that is known
	page      http.Handler // the page of ours that it asks for, if it does
	to        route        // the service that answers it, if one does
	entered   bool         // and has room for it
	bodyUntil time.Time    // when its body has to be here; zero if there is none
	bodyEnded atomic.Bool  // the body is here
	header    http.Header  // of the answer
	shed      bool         // the service that was asked had too much to do
	actor     uuid.UUID    // whose token it carries
	limited   string       // the limit that it is over
}

// noted is what the log is told of it.
func (c *connection) noted() []slog.Attr {
	noted := []slog.Attr{slog.String("client", c.client.String())}
	if c.actor != uuid.Nil {
		noted = append(noted, slog.String("actor", c.actor.String()))
	}
	if c.limited != "" {
		noted = append(noted, slog.String("limit", c.limited))
	}
	return noted
}

// limit refuses a request that has to wait.
func (c *connection) limit(w http.ResponseWriter, what string, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	c.limited = what
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	w.Header().Set("Retry-After", seconds)
	return fault.New(fault.Exhausted, "rate_limited", "too many requests; come back in %s s", seconds)
}

type connectionKey struct{}

// connectionOf is the connection of ctx.
func connectionOf(ctx context.Context) *connection {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{}
}

// timeIt gives the client a time in which its body has to come and the answer has to go: contexts bound only what we do
// ourselves. The body gets nine tenths of the request's time; somebody has to do something with it. The next request on the
// connection starts anew. A writer that is no connection, as in some tests, knows no deadlines.
func (c *connection) timeIt(w http.ResponseWriter, r *http.Request, whole time.Duration) {
	control, now := http.NewResponseController(w), time.Now() // the connection knows no other clock
	_ = control.SetWriteDeadline(now.Add(slowest))
	// Without a body, net/http is reading already, to learn when the client leaves; a deadline would look like that.
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	c.bodyUntil = now.Add(whole * 9 / 10)
	_ = control.SetReadDeadline(c.bodyUntil)
	r.Body = &timedBody{r.Body, c}
}

// late tells whether the body did not come in time. net/http cancels the request when that happens, as if the client had
// left.
func (c *connection) late() bool {
	return !c.bodyUntil.IsZero() && !c.bodyEnded.Load() && !time.Now().Before(c.bodyUntil)
}

// timedBody notes its end.
type timedBody struct {
	io.ReadCloser
	c *connection
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.c.bodyEnded.Store(true)
	}
	return n, err
}

// removeClaims removes what only we may say.
func removeClaims(h http.Header) {
	for name := range h {
		switch name {
		case "Forwarded", "X-Real-Ip", "Via", httpapi.RequestTimeout:
			delete(h, name)
		default:
			if slices.ContainsFunc(ours, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
				delete(h, name)
			}
		}
	}
}

// ours are the beginnings of the headers that are not for outsiders, as net/http writes them.
//
//nolint:gochecknoglobals // never changes
var ours = []string{"X-Forwarded-", "X-User-", "X-Role", "X-Internal-", "X-Mesh-"}

func (g *Gateway) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(g.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client is the last address in X-Forwarded-For that is not a trusted proxy's: whatever is left of it, anybody may have
// written. peer is where the connection comes from, a trusted proxy.
func (g *Gateway) client(peer netip.Addr, lines []string) netip.Addr {
	client := peer
	for _, hop := range slices.Backward(strings.Split(strings.Join(lines, ","), ",")) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break // the last one that we could read is the best we know
		}
		if client = a.Unmap().WithZone(""); !g.trusted(client) {
			break
		}
	}
	return client
}

// addrOf is the address of a host:port; the zero Addr if it has none.
func addrOf(hostport string) netip.Addr {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap().WithZone("")
}

// cors lets pages of the configured origins call us. Refusals too carry its headers, or a page could not read them.
func (g *Gateway) cors(next http.Handler) http.Handler {
	if len(g.cfg.CORSOrigins) == 0 { // the library takes an empty list for everybody
		return next
	}
	origins := make([]string, len(g.cfg.CORSOrigins))
	for i, o := range g.cfg.CORSOrigins {
		origins[i] = string(o)
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", contract.IdempotencyKey, "If-Match", "If-None-Match", contract.RequestID},
		ExposedHeaders: []string{"ETag", "Location", contract.RequestID, "Retry-After"},
		// Tokens travel in a header, so pages need no cookies of ours.
		AllowCredentials:   false,
		MaxAge:             600, // seconds
		OptionsPassthrough: true,
	}).Handler(next)
}

// preflight tells whether r only asks for permission, which cors has answered in the headers by now.
func (g *Gateway) preflight(r *http.Request) bool {
	return len(g.cfg.CORSOrigins) > 0 && r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}
