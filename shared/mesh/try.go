package mesh

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

// trial is how a try ended. It has either a response or an error.
type trial struct {
	outcome
	resp       *http.Response
	err        error
	took       time.Duration // until the headers, or the error
	refused    bool          // nobody listens there
	retryAfter time.Duration // the pause the callee asked for; zero if none
}

// try sends the request to one instance and waits at most limit for the response's headers. Reading the body is bounded by
// the call's deadline. The try counts as in flight until the body ends.
func (c *call) try(ctx context.Context, e *endpoint, attempt int, limit time.Duration) (t trial) {
	ctx, cancel := context.WithCancelCause(ctx)
	var headers atomic.Bool
	timer := time.AfterFunc(limit, func() {
		if headers.Load() {
			cancel(context.DeadlineExceeded)
		} else {
			cancel(errTryTimeout)
		}
	})
	e.inflight.Add(1)
	e.inflightGauge.Inc()
	finish := func() {
		timer.Stop()
		cancel(context.Canceled)
		e.inflight.Add(-1)
		e.inflightGauge.Dec()
	}
	delivered := false
	defer func() {
		if !delivered {
			finish()
		}
	}()

	conn := new(connection)
	conn.trace.GetConn, conn.trace.GotConn = conn.ask, conn.got
	out := c.req.WithContext(httptrace.WithClientTrace(ctx, &conn.trace))
	if err := c.body.attach(out); err != nil {
		return trial{outcome: badRequest, err: err}
	}
	url := *c.req.URL
	url.Host = e.Addr
	out.URL = &url
	if out.Host == "" {
		out.Host = c.svc.name
	}
	out.Header = c.req.Header.Clone()
	if out.Header == nil {
		out.Header = make(http.Header, 2)
	}
	out.Header.Set(HeaderAttempt, strconv.Itoa(attempt))
	tell(out.Header, limit)

	began := c.mesh.deps.Now()
	resp, err := e.transport.RoundTrip(out)
	now := c.mesh.deps.Now()
	t = trial{resp: resp, err: err, took: now.Sub(began)}
	if err == nil && !timer.Stop() { // the headers came as the time ended: the body could not be read
		_ = resp.Body.Close()
		t.resp, t.err = nil, errTryTimeout
	}
	c.sent = c.sent || conn.had.Load()
	if t.resp == nil {
		t.outcome = outcomeOfError(ctx, conn.asked.Load(), conn.had.Load(), t.took, limit)
		if t.outcome == timedOut {
			t.err = errTryTimeout
		}
		if bad := c.body.readError(); bad != nil && t.outcome == broken {
			t.outcome, t.err = badRequest, bad
		}
		t.refused = isRefused(t.err)
		return t
	}
	t.outcome = outcomeOfResponse(t.resp)
	if t.outcome == limited || t.resp.StatusCode == http.StatusServiceUnavailable {
		t.retryAfter = retryAfter(t.resp, now)
	}
	delivered = true
	headers.Store(true)
	timer.Reset(c.deadline.Sub(now))
	t.resp.Request = c.req
	onBodyEnd(t.resp, finish)
	return t
}

// connection notes whether a try had one. net/http may itself turn from a dead idle connection to a new one, so what counts
// is the last that it asked for.
type connection struct {
	trace      httptrace.ClientTrace
	asked, had atomic.Bool
}

func (c *connection) ask(string)                { c.asked.Store(true); c.had.Store(false) }
func (c *connection) got(httptrace.GotConnInfo) { c.had.Store(true) }
