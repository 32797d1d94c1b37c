package mesh

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// call is one logical call: what the caller asked for, whatever number of tries it takes.
type call struct {
	mesh *Mesh
	svc  *service
	req  *http.Request // the caller's, never modified
	body *payload
	options
	class      Class
	repeatable bool // executing it twice is harmless
	began      time.Time

	tried []*endpoint
	sent  bool // a try may have reached an instance
}

// newCall reads what is asked. Its error is an *Error.
func (m *Mesh) newCall(req *http.Request, began time.Time) (*call, error) {
	name := req.URL.Hostname()
	if req.URL.Scheme != "http" || name == "" || req.URL.Port() != "" {
		return nil, &Error{Kind: KindRequest, Callee: name, cause: fmt.Errorf("want http://service/path, got %q", req.URL.Redacted())}
	}
	c := &call{mesh: m, svc: m.service(name), req: req, options: optionsOf(req.Context()), began: began}
	c.class = classOf(req, c.options)
	c.repeatable = isRead(req.Method) || c.idempotent || req.Header.Get("Idempotency-Key") != ""
	return c, nil
}

// run takes the call through its layers. The trial it returns has a response, whose body ends the call, or an error.
func (c *call) run() (t trial) {
	if c.mesh.closed.Load() {
		c.body = &payload{original: c.req.Body}
		c.body.finish()
		return trial{outcome: closed}
	}
	var err error
	if c.body, err = newPayload(c.req, c.mesh.cfg.BodyBufferBytes); err != nil {
		return trial{outcome: badRequest, err: err}
	}
	defer c.body.finish()

	ctx, cancel := c.withDeadline(c.req.Context())
	defer func() {
		if t.resp == nil {
			cancel()
		} else {
			t.resp.Request = c.req
			onBodyEnd(t.resp, cancel)
		}
	}()

	breaker := c.svc.breakers[c.class]
	done, err := breaker.allow()
	if err != nil {
		return trial{outcome: open, err: err}
	}
	ruling := excluded // should a try panic, the breaker learns nothing but is told that it ended
	defer func() { done(ruling) }()
	t = c.tryUntilDone(ctx)
	ruling = rulings[t.outcome].service
	return t
}

// failure is the error of a call that ended without a response.
func (c *call) failure(t trial) *Error {
	e := &Error{
		Kind:      rulings[t.outcome].kind,
		Callee:    c.svc.name,
		Attempts:  len(c.tried),
		Retryable: t.outcome != badRequest && (c.repeatable || !c.sent),
		cause:     t.err,
	}
	if len(c.tried) > 0 {
		e.Instance = c.tried[len(c.tried)-1].ID
	}
	return e
}

// remaining is the time left in ctx, which has a deadline.
func (c *call) remaining(ctx context.Context) time.Duration {
	at, _ := ctx.Deadline()
	return at.Sub(c.mesh.deps.Now())
}
