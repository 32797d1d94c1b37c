package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// direct is a transport to one address that does everything on the goroutine of whoever calls. The one of net/http has two
// more for each connection, and hands every request and answer over to them: with a crowd on the shop's own machine that is
// taken from the shop. An answer has patience, whatever the context.
type direct struct {
	addr string

	mu   sync.Mutex
	idle []*line
}

// line is a connection.
type line struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

const patience = 30 * time.Second // for one answer

// RoundTrip is part of http.RoundTripper.
func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	l, err := d.take(r.Context())
	if err != nil {
		return nil, err
	}
	resp, err := l.ask(r)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	resp.Body = &answer{resp.Body, d, l, resp.Close}
	return resp, nil
}

// take gives an idle line, or a new one.
func (d *direct) take(ctx context.Context) (*line, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.idle); n > 0 {
		l := d.idle[n-1]
		d.idle = d.idle[:n-1]
		return l, nil
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	return &line{conn, bufio.NewReader(conn), bufio.NewWriter(conn)}, nil
}

func (l *line) ask(r *http.Request) (*http.Response, error) {
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := r.Write(l.w); err != nil {
		return nil, err
	}
	if err := l.w.Flush(); err != nil {
		return nil, err
	}
	return http.ReadResponse(l.r, r)
}

// answer is a body; its line is free again when it is closed.
type answer struct {
	io.ReadCloser
	from *direct
	line *line
	last bool // the gateway closes the line
}

// Close is part of io.Closer. It may be called more than once.
func (a *answer) Close() error {
	if a.line == nil {
		return nil
	}
	l := a.line
	a.line = nil
	if err := a.ReadCloser.Close(); err != nil || a.last { // it reads what is left
		return l.Close()
	}
	a.from.mu.Lock()
	defer a.from.mu.Unlock()
	a.from.idle = append(a.from.idle, l)
	return nil
}
