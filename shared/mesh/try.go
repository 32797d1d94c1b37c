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
// ctx alone. The try counts as in flight until the body ends.
func (c *call) try(ctx context.Context, e *endpoint, attempt int, limit time.Duration) (t trial) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errTryTimeout) })
	end := e.begin()
	finish := func() { end(); cancel(context.Canceled) }
	delivered := false
	defer func() {
		timer.Stop()
		if !delivered {
			finish()
		}
	}()

	// net/http may itself turn from a dead idle connection to a new one, so what counts is the last that it asked for.
	var asked, connected atomic.Bool
	out := c.req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true); connected.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
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
	c.sent = c.sent || connected.Load()
	if t.resp == nil {
		t.outcome = outcomeOfError(ctx, asked.Load(), connected.Load(), t.took, limit)
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
	onBodyEnd(t.resp, finish)
	return t
}
