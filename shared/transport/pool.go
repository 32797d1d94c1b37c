// Package transport carries HTTP/1.1 to one address, on the goroutine of whoever asks.
//
// net/http's own Transport has two goroutines for each connection, one that writes and one that reads, and hands every
// request to the first and every answer back from the second. Between services on one machine, where an exchange takes a
// tenth of a millisecond, these hand-overs are most of what the client costs. Here whoever calls writes, waits and reads,
// as database drivers do. What that needs besides:
//
//   - Nobody reads from a connection that lies idle, so nobody sees the other side close it: it is looked at, with one
//     system call, when it is taken (as github.com/go-sql-driver/mysql does).
//   - A context that ends interrupts by a deadline in the past.
//   - A body that streams, or is large, is sent by a goroutine of its own, because the answer may come before its end.
//
// The formats themselves are read and written by net/http. There is no HTTP/2, no proxy, no compression and no cookie.
package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Pool keeps connections to one address. It is an http.RoundTripper, may be used concurrently, and is not to be copied or
// changed after its first use.
type Pool struct {
	Addr string      // host:port
	TLS  *tls.Config // nil is plain HTTP

	DialTimeout      time.Duration // to connect; zero is no limit but the request's
	HandshakeTimeout time.Duration // to agree on TLS; the same
	MaxIdle          int           // connections that are kept; zero keeps none
	IdleTimeout      time.Duration // after which they are closed; zero never does
	MaxHeaderBytes   int64         // of an answer; zero is 1 MiB

	mu     sync.Mutex
	idle   []*line // the one used last at the end
	reaper *time.Timer
	shut   bool // what comes back is not kept
}

const usualHeaderBytes = 1 << 20

// RoundTrip sends a request and gives the answer, whose body must be read to its end for the connection to be used again,
// and must be closed. When the request's context ends, RoundTrip and the reading of the body end with its cause.
//
// A request is sent a second time only if a connection that had been idle fails before an answer begins, and either nothing
// was written or the request may be repeated: it is a GET, HEAD, OPTIONS or TRACE or has an Idempotency-Key, and its body, if
// any, a GetBody. An httptrace.ClientTrace is told of connections asked for and had, of 1xx answers, and of what
// http.Request.Write tells it. It is not told that another connection is asked for once something was written to the last:
// who has been asked for a connection, and was not told that it is had, knows that nothing was sent.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := check(req); err != nil {
		closeBody(req)
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	for wrote := false; ; {
		if trace != nil && trace.GetConn != nil && !wrote {
			trace.GetConn(p.Addr)
		}
		l, err := p.take(ctx)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: l.conn, Reused: l.used, WasIdle: l.used})
		}
		resp, err := l.exchange(ctx, req, trace)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		wrote = wrote || l.wrote.Load()
		if req = l.repeat(req); req == nil {
			return nil, err
		}
	}
}

// ended is why something failed, given that ctx may have ended it.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// take gives an idle connection that is still good, or a new one.
func (p *Pool) take(ctx context.Context) (*line, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for {
		p.mu.Lock()
		p.shut = false
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return p.dial(ctx)
		}
		l := p.idle[n-1]
		p.idle[n-1], p.idle = nil, p.idle[:n-1]
		p.mu.Unlock()
		if l.quiet() {
			return l, nil
		}
		_ = l.conn.Close()
	}
}

func (p *Pool) dial(ctx context.Context) (*line, error) {
	raw, err := (&net.Dialer{Timeout: p.DialTimeout}).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, ended(ctx, err)
	}
	conn := raw
	if p.TLS != nil {
		if conn, err = p.secure(ctx, raw); err != nil {
			_ = raw.Close()
			return nil, ended(ctx, err)
		}
	}
	return newLine(p, raw, conn)
}

func (p *Pool) secure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	conf := p.TLS
	if conf.ServerName == "" {
		conf = conf.Clone()
		conf.ServerName, _, _ = net.SplitHostPort(p.Addr)
	}
	if p.HandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.HandshakeTimeout)
		defer cancel()
	}
	conn := tls.Client(raw, conf)
	return conn, conn.HandshakeContext(ctx)
}

// put keeps l for the next request, or closes it.
func (p *Pool) put(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || len(p.idle) >= p.MaxIdle {
		_ = l.conn.Close()
		return
	}
	l.since = time.Now() // the timer knows no other clock
	p.idle = append(p.idle, l)
	if len(p.idle) == 1 && p.IdleTimeout > 0 {
		p.remind(p.IdleTimeout)
	}
}

func (p *Pool) remind(d time.Duration) {
	if p.reaper == nil {
		p.reaper = time.AfterFunc(d, p.reap)
	} else {
		p.reaper.Reset(d)
	}
}

// reap closes what has been idle for too long, which is what has been so for longest: the beginning.
func (p *Pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := time.Now(), 0
	for ; n < len(p.idle) && now.Sub(p.idle[n].since) >= p.IdleTimeout; n++ {
		_ = p.idle[n].conn.Close()
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
	clear(p.idle[len(p.idle):cap(p.idle)])
	if len(p.idle) > 0 {
		p.remind(p.IdleTimeout - now.Sub(p.idle[0].since))
	}
}

// CloseIdleConnections closes what is idle. What is in use is closed when it comes back, unless something else is sent
// before. http.Client's method of that name calls it.
func (p *Pool) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for _, l := range p.idle {
		_ = l.conn.Close()
	}
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
}

// check refuses what cannot be sent as it is. Request.Write would quietly send something else.
func check(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("the request has no URL")
	case !httpguts.ValidHeaderFieldName(cmp.Or(req.Method, http.MethodGet)): // a method is a token, as a name is
		return fmt.Errorf("the request's method is %q", req.Method)
	}
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, values := range header {
			if !httpguts.ValidHeaderFieldName(name) {
				return fmt.Errorf("the request has a header named %q", name)
			}
			for _, v := range values {
				if !httpguts.ValidHeaderFieldValue(v) { // which may be secret
					return fmt.Errorf("the value of the request's header %s has a character that it cannot", name)
				}
			}
		}
	}
	return nil
}
