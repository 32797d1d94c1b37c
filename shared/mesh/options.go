package mesh

import (
	"context"
	"net/http"
	"time"
)

// Class groups the calls that share a breaker and a time limit.
type Class int

// The classes. A call that names none is a read or a write by its method.
const (
	byMethod      Class = iota
	ClassRead           // changes nothing; 1 s per try
	ClassWrite          // 3 s per try
	ClassCritical       // must get through if at all possible, like the end of a two-phase commit; 5 s per try
)

// String is the class's name in metrics.
func (c Class) String() string { return [...]string{"by_method", "read", "write", "critical"}[c] }

// Priority says what a callee with too much to do gives up first.
type Priority string

// The priorities. A call that names none is normal, unless its class is ClassCritical.
const (
	Sheddable Priority = "sheddable" // nobody waits for it
	Normal    Priority = "normal"
	Critical  Priority = "critical" // ends something begun
)

// priorityOf is what the headers of a request say of it: Normal if they say nothing that is known.
func priorityOf(h http.Header) Priority {
	switch p := Priority(h.Get(HeaderPriority)); p {
	case Sheddable, Critical:
		return p
	}
	return Normal
}

// options is what a caller says about one call, in its context.
type options struct {
	tryTimeout time.Duration
	class      Class
	idempotent bool
	noRetry    bool
	priority   Priority // empty is by class
	fallback   *Fallback
	hedge      bool
	ownHeader  bool
}

type optionsKey struct{}

func optionsOf(ctx context.Context) options {
	o, _ := ctx.Value(optionsKey{}).(options)
	return o
}

func with(ctx context.Context, change func(*options)) context.Context {
	o := optionsOf(ctx)
	change(&o)
	return context.WithValue(ctx, optionsKey{}, o)
}

// WithTryTimeout allows each try of the call d until its response headers, instead of its class's limit, and stretches the
// call's own limit to fit. A shorter deadline of ctx still wins.
func WithTryTimeout(ctx context.Context, d time.Duration) context.Context {
	return with(ctx, func(o *options) { o.tryTimeout = d })
}

// WithClass puts the call into a class other than its method's.
func WithClass(ctx context.Context, class Class) context.Context {
	return with(ctx, func(o *options) { o.class = class })
}

// WithIdempotent declares that executing the call twice is the same as once, so that it may be repeated. It is meant for
// PUT and DELETE; a POST carries an Idempotency-Key instead.
func WithIdempotent(ctx context.Context) context.Context {
	return with(ctx, func(o *options) { o.idempotent = true })
}

// WithoutRetry keeps the calls made with ctx from being repeated once they were sent. A server uses it for the work of a
// request that is itself a second try, as Inherit does: tries multiply along a path.
func WithoutRetry(ctx context.Context) context.Context {
	return with(ctx, func(o *options) { o.noRetry = true })
}

// WithPriority says how important the calls made with ctx are to their callees.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return with(ctx, func(o *options) { o.priority = p })
}

// WithOwnHeader gives the mesh the header of the one request that is made with ctx, for which it was made and which nobody uses
// any more: what the mesh adds goes into it, and not into a copy. A reverse proxy has such requests.
func WithOwnHeader(ctx context.Context) context.Context {
	return with(ctx, func(o *options) { o.ownHeader = true })
}

// Inherit makes the calls for a request what the request is, by its headers: the calls for a second try are not tried
// twice themselves, and have the request's priority. A server gives it the context and the headers of each request.
func Inherit(ctx context.Context, h http.Header) context.Context {
	p, attempt := priorityOf(h), h.Get(HeaderAttempt)
	again := attempt != "" && attempt != "0" && attempt != "1"
	if p == Normal && !again { // nearly always
		return ctx
	}
	return with(ctx, func(o *options) {
		o.noRetry = o.noRetry || again
		if p != Normal {
			o.priority = p
		}
	})
}

// classOf is the class of a request: as declared, or by its method.
func classOf(req *http.Request, o options) Class {
	switch {
	case o.class != byMethod:
		return o.class
	case isRead(req.Method):
		return ClassRead
	}
	return ClassWrite
}

func isRead(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions: // "" is GET to net/http
		return true
	}
	return false
}
