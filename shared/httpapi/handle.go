package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/telemetry"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

const (
	maxKeyLen = 255 // of an Idempotency-Key, in bytes
	internal  = "/internal/"
)

// Handle registers op under its route. It panics, and so stops the service from starting, for a route that does not say
// who may call it, or says it in a word that no policy knows; whose path is internal while its permission is not (or the
// other way round); or which tells sensitive things without their class (or the other way round).
func Handle[In, Out any](s *Server, r contract.Route[In, Out], op func(context.Context, *In) (*Out, error)) {
	if r.Permission == "" {
		panic(fmt.Sprintf("httpapi: route %s declares no permission", r.ID))
	}
	if !policy.Known(r.Permission) {
		panic(fmt.Sprintf("httpapi: route %s declares a permission that no policy knows: %q", r.ID, r.Permission))
	}
	if (r.Permission == identity.ReadSensitiveData) != (r.Class > 0) {
		panic(fmt.Sprintf("httpapi: route %s: what is sensitive has a class, and nothing else", r.ID))
	}
	if strings.HasPrefix(r.Path, internal) != (r.Permission == identity.Internal) {
		panic(fmt.Sprintf("httpapi: route %s: only paths under %s are for other services", r.ID, internal))
	}
	huma.Register(s.operations(), s.operation(contract.Route[contract.None, contract.None](r)),
		func(ctx context.Context, in *In) (*Out, error) {
			out, err := op(ctx, in)
			if err != nil {
				return nil, problem(ctx, err)
			}
			return out, nil
		})
}

func (s *Server) operation(r contract.Route[contract.None, contract.None]) huma.Operation {
	s.templates[ginPath(r.Path)] = r.Path
	op := huma.Operation{
		OperationID: r.ID, Method: r.Method, Path: r.Path, DefaultStatus: r.Status,
		MaxBodyBytes: BodyLimit + 1, // limitBody is the limit; Huma's own would answer the same a byte earlier
		Metadata:     map[string]any{routeMetadata: r},
	}
	s.declared[r.Method+" "+ginPath(r.Path)] = true
	if r.Quiet {
		s.quiet[r.Path] = true
	}
	guard := s.authorize(policy.Resource{Kind: policy.Route, ID: r.ID, Class: r.Class}, r.Permission, r.Fresh || r.Permission.Fresh())
	op.Middlewares = huma.Middlewares{func(c huma.Context, next func(huma.Context)) {
		g := humagin.Unwrap(c)
		err := guard(g)
		if err == nil && r.Keyed {
			err = s.takeKey(g, r.ID)
		}
		if err != nil {
			writeProblem(g, err)
			return
		}
		next(c)
	}}
	return op
}

// ginPath is a route's path as gin knows it.
func ginPath(path string) string { return strings.NewReplacer("{", ":", "}", "").Replace(path) }

// Undeclared is an error if anything can be asked for that is no operation with a permission, nor a document of those.
func (s *Server) Undeclared() error {
	for _, r := range s.engine.Routes() {
		if name := r.Method + " " + r.Path; !s.declared[name] {
			return fmt.Errorf("%s declares no permission", name)
		}
	}
	return nil
}

// authorize finds out who is calling and whether they may ask for the route on. What a stranger may, anybody may: there no
// token is looked at. What is fresh is not done on the word of a token alone.
func (s *Server) authorize(on policy.Resource, perm identity.Permission, fresh bool) func(*gin.Context) error {
	if policy.Allowed(identity.Principal{}, perm, on) {
		return func(c *gin.Context) error { return policy.Check(c.Request.Context(), perm, on) }
	}
	return func(c *gin.Context) error {
		token, ok := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
		if !ok || s.cfg.Verifier == nil {
			return fault.New(fault.Unauthenticated, "", "sign in first: this needs an access token")
		}
		p, err := s.cfg.Verifier.Verify(token)
		if err != nil {
			return err
		}
		ctx := identity.With(c.Request.Context(), p)
		telemetry.Note(ctx, slog.String("actor", p.UserID.String()))
		c.Request = c.Request.WithContext(ctx)
		if !p.Within(perm) {
			return fault.New(fault.Forbidden, "insufficient_scope", "you have not let this program do that")
		}
		if err := policy.Check(ctx, perm, on); err != nil || !fresh {
			return err
		}
		return s.cfg.Verifier.Online(ctx, p)
	}
}

// takeKey reads the Idempotency-Key and puts the keyed request into the context. The key may be quoted, as a structured
// field string is, or bare.
func (s *Server) takeKey(c *gin.Context, route string) error {
	key := strings.Trim(strings.TrimSpace(c.GetHeader(contract.IdempotencyKey)), `"`)
	if key == "" {
		return fault.New(fault.Malformed, "idempotency_key_required", "this request needs an Idempotency-Key header, such as a new UUID")
	}
	if len(key) > maxKeyLen || strings.IndexFunc(key, func(r rune) bool { return r < '!' || r > '~' }) >= 0 {
		return fault.New(fault.Malformed, "idempotency_key_invalid", "an Idempotency-Key is at most %d visible ASCII characters", maxKeyLen)
	}
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return bodyFault(err)
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(body))

	ctx := c.Request.Context()
	who := "anonymous"
	if id := identity.From(ctx).UserID; id != uuid.Nil {
		who = id.String()
	}
	r := idempotency.NewRequest(who, route, key, []byte(c.Request.URL.Path), body).Sealed(s.answers)
	c.Request = c.Request.WithContext(idempotency.With(ctx, r))
	return nil
}

func bodyFault(err error) error {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "", "the body is larger than %d bytes", large.Limit)
	}
	return fault.New(fault.Malformed, "", "the body could not be read").Because(err)
}
