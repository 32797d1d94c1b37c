package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/mesh"
	"souk/shared/telemetry"
)

// readTry is how long one try of a read may take. It must be more than a service spends on reads of its own (two tries of
// a second each, at another service), or our second try would only double their work; and twice it fits into a request.
const readTry = 3 * time.Second

// statusGone is in the log for a client that left before its answer; nginx made the number known. Nobody receives it.
const statusGone = 499

func (g *Gateway) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:      g.deps.Mesh,
		Rewrite:        rewrite,
		ModifyResponse: cleanAnswer,
		ErrorHandler:   unanswered,
		BufferPool:     new(buffers),
		// It has nothing to say that the request's own log event does not.
		ErrorLog: slog.NewLogLogger(g.deps.Log.Handler(), slog.LevelDebug),
	}
}

// forward lets to's service answer r.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, to route) {
	ctx := r.Context()
	if g.cfg.Timeout < httpapi.MaxTime { // which bounds every request already
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.cfg.Timeout)
		defer cancel()
	}
	if isRead(r.Method) {
		ctx = mesh.WithTryTimeout(ctx, readTry)
	} else {
		// All the time there is. The mesh keeps half of it back for a second try where an Idempotency-Key allows one.
		ctx = mesh.WithTryTimeout(ctx, g.cfg.Timeout)
	}
	if to.once {
		ctx = mesh.WithoutRetry(ctx)
	}
	if p := priorityOf(r); p != mesh.Normal {
		ctx = mesh.WithPriority(ctx, p)
	}
	ctx = mesh.WithOwnHeader(ctx) // the proxy makes a request of its own
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
	if f, ok := w.(http.Flusher); ok && w.Header().Get("Content-Length") != "" {
		f.Flush() // the client need not wait until the request is counted and logged
	}
}

// rewrite makes the request that a service gets. Headers for one hop only, those named in Connection too, are gone by now,
// so that nobody can have one of ours removed by naming it there.
func rewrite(p *httputil.ProxyRequest) {
	ctx, in, out := p.In.Context(), p.In, p.Out
	to := connectionOf(ctx).to
	out.URL.Scheme, out.URL.Host, out.Host = "http", to.service, ""
	// The path is encoded anew from what we understood of it.
	out.URL.Path, out.URL.RawPath = inner(in.URL.Path), ""
	out.Trailer = nil
	out.Pattern = inner(to.path) // for the mesh's metrics

	// From an untrusted peer none of these has come this far.
	out.Header[forwardedFor] = in.Header[forwardedFor]
	p.SetXForwarded()
	for _, name := range []string{forwardedHost, forwardedProto} {
		if v := in.Header.Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	if strings.HasPrefix(in.URL.Path, publicPrefix+"/") {
		out.Header.Set(httpapi.ForwardedPrefix, in.Header.Get(httpapi.ForwardedPrefix)+publicPrefix)
	}
	out.Header.Set(contract.RequestID, contract.RequestIDFrom(ctx))
	out.Header.Set(contract.ClientAddress, connectionOf(ctx).client.String())
}

// cleanAnswer removes what is not for outsiders, and what we say ourselves.
func cleanAnswer(r *http.Response) error {
	if r.Header.Get(mesh.HeaderShed) != "" && r.Request != nil {
		connectionOf(r.Request.Context()).shed = true
	}
	for name := range r.Header {
		switch name {
		case "Server", "X-Powered-By", "Via", contract.RequestID:
			delete(r.Header, name)
		case "Content-Security-Policy": // a page of a service knows best what it loads
			if c := connectionOf(r.Request.Context()); c.header != nil {
				c.header.Del(name)
			}
		default:
			if ownHeader(name) {
				delete(r.Header, name)
			}
			for _, prefix := range []string{"X-Mesh-", "X-Internal-", "Access-Control-"} {
				if strings.HasPrefix(name, prefix) {
					delete(r.Header, name)
				}
			}
		}
	}
	keepPrivate(r)
	return nil
}

// unanswered answers for a service that did not.
func unanswered(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	switch {
	case connectionOf(ctx).late():
		httpapi.Problem(w, r, fault.New(fault.Malformed, "slow_body", "the body did not come in time").Because(err))
	case errors.Is(ctx.Err(), context.Canceled):
		telemetry.Note(ctx, slog.Bool("aborted", true))
		w.WriteHeader(statusGone)
	default:
		httpapi.Problem(w, r, asFault(err))
	}
}

// asFault says what a call without an answer means to a client.
func asFault(err error) error {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "", "the body is larger than %d bytes", large.Limit)
	}
	call, ok := errors.AsType[*mesh.Error](err)
	if !ok {
		return err
	}
	switch call.Kind {
	case mesh.KindRequest:
		return fault.New(fault.Malformed, "", "the request could not be read").Because(err)
	case mesh.KindDeadline, mesh.KindTimeout:
		return fault.New(fault.Deadline, "", "%s did not answer in time", call.Callee).Because(err)
	case mesh.KindBroken:
		// It may have been executed: only a client that sent an Idempotency-Key may simply repeat it.
		return fault.New(fault.Upstream, "", "%s gave no answer that makes sense", call.Callee).Because(err)
	default: // nothing was sent
		return fault.New(fault.Unavailable, "", "%s is not available", call.Callee).Because(err)
	}
}

// buffers lends the memory through which bodies are copied.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get is called by the proxy.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return new([bufferSize]byte)[:]
}

// Put is called by the proxy with what Get gave.
func (b *buffers) Put(s []byte) { b.pool.Put((*[bufferSize]byte)(s)) }
