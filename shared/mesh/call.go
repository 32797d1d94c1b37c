package mesh

import (
	"fmt"
	"net/http"
	"time"
)

// call is one logical call: what the caller asked for, whatever number of tries it takes.
type call struct {
	mesh *Mesh
	svc  *service
	req  *http.Request // the caller's, never modified
	body payload
	options
	class      Class
	repeatable bool // executing it twice is harmless
	began      time.Time
	deadline   time.Time // of the whole call, body included

	tried []*endpoint
	room  [2]*endpoint // tried's, usually
	first try          // the only one, usually
	sent  bool         // a try may have reached an instance

	wasHedged bool // two tries were made at once
	probe     bool // the breaker is half open
	suspect   bool // the instance tried last had failed the time before
}

// newCall reads what is asked. Its error is an *Error.
func (m *Mesh) newCall(req *http.Request, began time.Time) (*call, error) {
	name := req.URL.Hostname()
	if req.URL.Scheme != "http" || name == "" || req.URL.Port() != "" {
		return nil, &Error{Kind: KindRequest, Callee: name, cause: fmt.Errorf("want http://service/path, got %q", req.URL.Redacted())}
	}
	c := &call{mesh: m, svc: m.service(name), req: req, options: optionsOf(req.Context()), began: began}
	c.tried = c.room[:0]
	c.deadline = c.deadlineFrom(began)
	c.class = classOf(req, c.options)
	c.repeatable = isRead(req.Method) || c.idempotent || req.Header.Get("Idempotency-Key") != ""
	return c, nil
}

// run takes the call through its layers. The trial it returns has a response, whose body ends the call, or an error.
func (c *call) run() (t trial) {
	if c.mesh.closed.Load() {
		if c.req.Body != nil {
			_ = c.req.Body.Close()
		}
		return trial{outcome: closed}
	}
	if err := c.body.open(c.req, c.mesh.cfg.BodyBufferBytes); err != nil {
		return trial{outcome: badRequest, err: err}
	}
	defer c.body.finish()

	breaker := c.svc.breakers[c.class]
	done, probe, err := breaker.allow()
	if err != nil {
		return trial{outcome: open, err: err}
	}
	c.probe = probe
	ruling := excluded // should a try panic, the breaker learns nothing but is told that it ended
	defer func() { breaker.end(done, ruling) }()
	t = c.tryUntilDone(c.req.Context())
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

// headerPriority is what the callee is told: nothing of a normal call.
func (c *call) headerPriority() string {
	switch {
	case c.priority == Normal || c.priority == "" && c.class != ClassCritical:
		return ""
	case c.priority == "":
		return string(Critical)
	}
	return string(c.priority)
}

// remaining is the time left for the call.
func (c *call) remaining() time.Duration { return c.deadline.Sub(c.mesh.deps.Now()) }
