// Package httpapi is the HTTP server of every service: a gin engine with safe settings, Huma on it for typed operations,
// validation, problem JSON and OpenAPI, and around every operation the same things in the same order: request id and
// log event, deadline, size of the body, who is calling, whether they may, and the idempotency key.
//
// An operation is a method func(ctx, *In) (*Out, error); Handle registers it under its contract.Route as it stands.
package httpapi

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/seal"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// BodyLimit is the largest request body that is read, in bytes.
const BodyLimit = 1 << 20

// MaxTime is the longest a request may take, whatever its caller allows.
const MaxTime = 10 * time.Second

// Config is what a Server needs; all fields are required but Verifier and Inherit.
type Config struct {
	Service  string
	Version  string
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Verifier *identity.Verifier // nil refuses every token
	// Inherit makes the context of a request one whose calls are what the request is by its headers: mesh.Inherit. nil makes
	// them calls like any other.
	Inherit func(context.Context, http.Header) context.Context
}

// Server serves the operations registered on it with Handle, before it starts serving.
type Server struct {
	cfg    Config
	engine *gin.Engine
	api    huma.API // nil until there is an operation
	seen   *metrics
	room   room
	around func(http.Handler) http.Handler
	// answers is where answers to keyed requests are kept; nil keeps them in the clear.
	answers *seal.Column[[]byte]
	peers   func(*http.Request, string) error
	// templates are the paths of operations as callers know them, by gin's: /v1/orders/{id} is /v1/orders/:id to gin. Metrics
	// and spans name a route as its callers' do.
	templates map[string]string
	declared  map[string]bool // by method and gin's path: what has a permission, or tells of what has
	quiet     map[string]bool // those whose successes are no news
}

// New makes a server with no operations. From the first one on it serves its OpenAPI document at /openapi.json.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, engine: newEngine(), seen: newMetrics(cfg.Metrics), templates: map[string]string{}, declared: map[string]bool{}, quiet: map[string]bool{}}
	cfg.Metrics.MustRegister(policy.Metrics()...)
	s.Admit(inflightLimit)
	s.engine.Use(s.observe, s.recover, s.known, s.admit, s.inherit, readable, s.limitTime, limitBody)
	s.engine.NoRoute(s.refuse(fault.New(fault.NotFound, "no_such_path", "there is nothing at this path")))
	s.engine.NoMethod(s.refuse(fault.New(fault.Method, "method_not_allowed", "this path does not take that method")))
	return s
}

// operations is where operations are registered.
func (s *Server) operations() huma.API {
	if s.api != nil {
		return s.api
	}
	humaErrors()
	conf := huma.DefaultConfig(s.cfg.Service, s.cfg.Version)
	conf.DocsPath, conf.SchemasPath, conf.CreateHooks = "", "", nil // documentation is the gateway's; no $schema in bodies
	conf.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	s.describe(conf.OpenAPI)
	s.api = humagin.New(s.engine, conf)
	for _, r := range s.engine.Routes() { // the document itself
		s.declared[r.Method+" "+r.Path] = true
	}
	return s.api
}

// Handler is the server as net/http sees it.
func (s *Server) Handler() http.Handler {
	if s.around != nil {
		return s.around(s.engine)
	}
	return s.engine
}

// Around puts outer around the whole server, even before a request gets its name and its log event. It is for the edge,
// where headers that are believed further in must be removed first. Call it at most once, before Handler.
func (s *Server) Around(outer func(http.Handler) http.Handler) { s.around = outer }

// AskPeers has may say, before anything else is done for a request, whether the service at the other end of its connection
// may call that route, by its template; the template is empty where there is nothing. Call it before serving. Without it
// everybody may.
func (s *Server) AskPeers(may func(r *http.Request, template string) error) { s.peers = may }

// Templates are the paths of the operations.
func (s *Server) Templates() []string { return slices.Sorted(maps.Values(s.templates)) }

// known refuses callers that may not call.
func (s *Server) known(c *gin.Context) {
	if s.peers == nil {
		return
	}
	if err := s.peers(c.Request, cmp.Or(s.templates[c.FullPath()], c.FullPath())); err != nil {
		writeProblem(c, err)
	}
}

// Fallback makes h answer what no operation does, in place of the 404 problem. NameRoute says what it was.
func (s *Server) Fallback(h http.Handler) {
	s.engine.NoRoute(func(c *gin.Context) {
		c.Status(http.StatusOK) // gin has put 404 there
		h.ServeHTTP(c.Writer, c.Request)
		c.Writer.WriteHeaderNow() // or gin would add its own text to a 404 without a body
	})
}

// SealAnswers keeps the answers to keyed requests sealed. Call it before serving.
func (s *Server) SealAnswers(in *seal.Column[[]byte]) { s.answers = in }

// Verifier is who verifies the tokens; nil if nobody does.
func (s *Server) Verifier() *identity.Verifier { return s.cfg.Verifier }

// VerifyWith says who verifies the tokens from now on. Call it before serving.
func (s *Server) VerifyWith(v *identity.Verifier) { s.cfg.Verifier = v }

// newEngine is gin without its defaults: it would answer 404 for a wrong method, believe any X-Forwarded-For, redirect
// a POST to add a slash, and take %2f in a path for a separator.
func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.UseRawPath = true
	e.ContextWithFallback = true
	if err := e.SetTrustedProxies(nil); err != nil {
		panic(err) // cannot fail for nil
	}
	return e
}

// schemaName is the name of t in the OpenAPI document, led by its package, or by that of what it is a page of: the gateway
// merges the documents of all services, and two services may both have a Brief, and a page of it.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	pkg := t.PkgPath()
	if _, of, generic := strings.Cut(t.Name(), "["); generic {
		pkg, _, _ = strings.Cut(of, ".") // Page[souk/shared/contract/order.Brief]
	}
	pkg = pkg[strings.LastIndexByte(pkg, '/')+1:]
	switch pkg {
	case "", "contract", "money", "fault":
		return name
	default:
		return strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
}
