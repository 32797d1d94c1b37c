package mesh

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// trial is how a try ended. It has either a response or an error.
type trial struct {
	outcome
	resp       *http.Response
	err        error
	at         time.Time     // when
	took       time.Duration // until the headers, or the error
	sent       bool          // it may have reached the instance
	of         *try          // set for a hedge only
	refused    bool          // nobody listens there
	impostor   bool          // who listens there is not the service, and has been left out for it
	retryAfter time.Duration // the pause the callee asked for; zero if none
}

// try is one request to one instance, and the body of its response: it counts as in flight until that ends. All that it
// needs is in one piece, because a call is made so often that what it allocates is felt.
type try struct {
	call   *call
	at     *endpoint
	cancel context.CancelCauseFunc
	alarm  alarm
	phase  atomic.Int32
	answer io.ReadCloser // the response's own body
	over   atomic.Bool

	// Whether there was a connection. The pool may itself turn from a dead idle one to a new one, so what counts is the last
	// that it asked for.
	traced     traced
	asked, had atomic.Bool

	url    url.URL
	values [3]string // of the headers we add
}

// The phases of a try. It leaves the first one once: who takes it out of there decides.
const (
	waiting   int32 = iota // for the response's headers
	answering              // they came in time
	late                   // they did not
)

// newTry begins a try at e.
func (c *call) newTry(e *endpoint) *try {
	t := &c.first
	if t.call != nil {
		t = new(try)
	}
	t.call, t.at = c, e
	return t
}

// begin gives the try a context, which ends with it.
func (t *try) begin(ctx context.Context) context.Context {
	t.traced.Context, t.cancel = context.WithCancelCause(ctx)
	t.traced.begin(t.ask, t.got)
	return &t.traced
}

// run sends the request and waits at most limit for the response's headers. Reading the body is bounded by the call's
// deadline. The context is that of begin.
func (t *try) run(ctx context.Context, attempt int, began time.Time, limit time.Duration) trial {
	c, e := t.call, t.at
	c.svc.alarms.set(t, limit)
	e.inflight.Add(1)
	delivered := false
	defer func() {
		if !delivered {
			t.finish()
		}
	}()

	out := c.req.WithContext(ctx)
	if err := c.body.attach(out); err != nil {
		return trial{outcome: badRequest, err: err, at: began}
	}
	t.url = *c.req.URL
	t.url.Scheme, t.url.Host = e.scheme, e.Addr
	out.URL = &t.url
	if out.Host == "" {
		out.Host = c.svc.name
	}
	out.Header = t.header(attempt, limit)

	resp, err := e.transport.RoundTrip(out)
	now := c.mesh.deps.Now()
	end := trial{resp: resp, err: err, at: now, took: now.Sub(began), sent: t.had.Load()}
	if err == nil && !t.phase.CompareAndSwap(waiting, answering) { // the headers came as the time ended: the body could not be read
		_ = resp.Body.Close()
		end.resp, end.err = nil, errTryTimeout
	}
	if end.resp == nil {
		end.outcome = outcomeOfError(ctx, t.asked.Load(), t.had.Load(), end.took, limit)
		if end.outcome == timedOut {
			end.err = errTryTimeout
		}
		if bad := c.body.readError(); bad != nil && end.outcome == broken {
			end.outcome, end.err = badRequest, bad
		}
		end.refused, end.impostor = isRefused(end.err), isImpostor(end.err)
		return end
	}
	end.outcome = outcomeOfResponse(resp)
	if end.outcome == limited || resp.StatusCode == http.StatusServiceUnavailable {
		end.retryAfter = retryAfter(resp, now)
	}
	delivered = true
	resp.Request = c.req
	t.deliver(resp)
	return end
}

// header is the caller's and ours. The values are shared, not copied: nobody on the way changes one in place.
func (t *try) header(attempt int, limit time.Duration) http.Header {
	from := t.call.req.Header
	h := from
	// A first try may still be sending its header when the next begins, and one that is hedged when the other does.
	if !t.call.ownHeader || attempt > 1 || t.call.hedge || h == nil {
		h = make(http.Header, len(from)+len(t.values))
		for name, v := range from {
			h[name] = v[:len(v):len(v)]
		}
	}
	// The time the callee has is relative, so that clocks need not agree, and the try's rather than the call's: work that goes
	// on after we have turned to another instance is wasted.
	t.values = [...]string{strconv.FormatInt((limit - hopCost).Milliseconds(), 10), t.call.headerPriority(), strconv.Itoa(attempt)}
	h[HeaderTimeout] = t.values[0:1:1]
	if t.values[1] != "" {
		h[HeaderPriority] = t.values[1:2:2]
	}
	if attempt > 1 {
		h[HeaderAttempt] = t.values[2:3:3]
	}
	return h
}

// expire ends a try whose time is up, unless its headers came: its body has the time of the call. It tells how much is left.
func (t *try) expire() (left time.Duration) {
	if t.phase.CompareAndSwap(waiting, late) {
		t.cancel(errTryTimeout)
		return 0
	}
	if left = t.call.remaining(); left <= 0 {
		t.cancel(context.DeadlineExceeded)
	}
	return left
}

// finish ends the try, once.
func (t *try) finish() {
	if t.over.Swap(true) {
		return
	}
	t.call.svc.alarms.clear(t)
	t.cancel(context.Canceled)
	t.at.inflight.Add(-1)
}

func (t *try) ask(hostPort string) {
	t.asked.Store(true)
	t.had.Store(false)
	if outer := t.traced.outer; outer != nil && outer.GetConn != nil {
		outer.GetConn(hostPort)
	}
}

func (t *try) got(info httptrace.GotConnInfo) {
	t.had.Store(true)
	if outer := t.traced.outer; outer != nil && outer.GotConn != nil {
		outer.GotConn(info)
	}
}

// deliver puts the try in the place of the response's body. Without one the try is over.
func (t *try) deliver(resp *http.Response) {
	if resp.Body == nil || resp.Body == http.NoBody {
		t.finish()
		return
	}
	t.answer, resp.Body = resp.Body, t
	if w, ok := t.answer.(io.Writer); ok { // 101: the connection itself
		resp.Body = &upgraded{t, w}
	}
}

// Read is part of io.ReadCloser.
func (t *try) Read(p []byte) (int, error) {
	n, err := t.answer.Read(p)
	if err != nil {
		t.finish()
	}
	return n, err
}

// Close is part of io.ReadCloser.
func (t *try) Close() error {
	err := t.answer.Close()
	t.finish()
	return err
}

type upgraded struct {
	*try
	io.Writer
}
