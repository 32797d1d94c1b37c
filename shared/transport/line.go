package transport

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// line is a connection, in use by one request at a time.
type line struct {
	pool    *Pool
	raw     net.Conn        // below TLS
	conn    net.Conn        // what is spoken on
	control syscall.RawConn // of raw
	look    func(uintptr) bool
	silent  bool // what look saw

	r     *bufio.Reader
	w     *bufio.Writer
	since time.Time // when it was put among the idle
	used  bool      // not for the first time

	// Of the request:
	stop    func() bool // the context from interrupting
	sending chan error  // how the sending of the body ends; nil if it has ended
	source  *source     // the body that is being sent
	wrote   atomic.Bool // something
	cut     atomic.Bool // the connection failed to write
	heard   bool        // something
	unread  error       // why it could not be sent, though the connection could: its body could not be read
	left    int64       // bytes that may still be read
}

// buffered is the largest body that is sent before the answer is looked for. Servers read as much of a body after they have
// answered (net/http does up to 256 KiB), so that they never wait for us while we wait for them.
const buffered = 64 << 10

// most1xx is how many of those answers there may be before the one.
const most1xx = 5

var errTooMany1xx = errors.New("too many 1xx answers")

func newLine(p *Pool, raw, conn net.Conn) (*line, error) {
	l := &line{pool: p, raw: raw, conn: conn}
	var err error
	if l.control, err = raw.(*net.TCPConn).SyscallConn(); err != nil { //nolint:forcetypeassert // it was dialled as such
		_ = conn.Close()
		return nil, err
	}
	l.look = l.peek
	l.r, l.w = bufio.NewReader(l), bufio.NewWriter(l)
	return l, nil
}

// quiet tells whether an idle connection is as it was left: the other side has neither closed it nor said anything.
func (l *line) quiet() bool {
	l.silent = false
	if l.control.Read(l.look) != nil || !l.silent {
		return false
	}
	if l.conn == l.raw {
		return true
	}
	// TLS reads ahead: what came together with the end of the last answer is not below it any more.
	_ = l.raw.SetReadDeadline(past)
	_, err := l.conn.Read(make([]byte, 1))
	_ = l.raw.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

var past = time.Unix(1, 0) //nolint:gochecknoglobals // never changes

// Read reads from the connection, for r.
func (l *line) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongHeader
	}
	n, err := l.conn.Read(b[:min(int64(len(b)), l.left)])
	l.heard = l.heard || n > 0
	l.left -= int64(n)
	return n, err
}

var errLongHeader = errors.New("the answer's header is too long")

// Write writes to the connection, for w.
func (l *line) Write(b []byte) (int, error) {
	first := !l.wrote.Swap(true) // before it is: whoever is told that nothing was written sends it again
	n, err := l.conn.Write(b)
	if n == 0 && first {
		l.wrote.Store(false)
	}
	if err != nil {
		l.cut.Store(true)
	}
	return n, err
}

// exchange sends req and reads the answer's header. After an error the connection is closed.
func (l *line) exchange(ctx context.Context, req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	l.heard, l.unread, l.left = false, nil, l.pool.MaxHeaderBytes
	if l.left <= 0 {
		l.left = usualHeaderBytes
	}
	l.wrote.Store(false)
	l.cut.Store(false)
	l.stop = context.AfterFunc(ctx, l.interrupt)
	if err := l.send(req); err != nil {
		if !l.cut.Load() {
			l.unread = err
		}
		l.end(false)
		return nil, err
	}
	resp, err := l.receive(req, trace)
	if err != nil {
		l.end(false)
		return nil, cmp.Or(l.unread, err)
	}
	l.left = math.MaxInt64
	l.deliver(ctx, req, resp)
	return resp, nil
}

func (l *line) interrupt() { _ = l.raw.SetDeadline(past) }

// send sends req; a body that may take its time goes on being sent.
func (l *line) send(req *http.Request) error {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil && 0 < req.ContentLength && req.ContentLength <= buffered {
		err := l.write(req)
		if l.wrote.Load() && l.cut.Load() {
			return nil // it may have answered before it hung up
		}
		return err
	}
	ended := make(chan error, 1)
	out, body := *req, &source{ReadCloser: req.Body}
	l.sending, l.source, out.Body = ended, body, body
	go func() {
		err := l.write(&out)
		if failed := body.failed.Load(); failed != nil {
			err = *failed
		}
		ended <- err
		if err != nil && !l.cut.Load() { // the body could not be read, and the other side waits for the rest
			_ = l.conn.Close()
		}
	}()
	return nil
}

// source is a request's body, and why it could not be read. Request.Write reads some with a goroutine of its own.
type source struct {
	io.ReadCloser
	failed atomic.Pointer[error]
	closed atomic.Bool
}

// Read is part of io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		s.failed.Store(&err)
	}
	return n, err
}

// Close is part of io.Closer. It closes the body once, whoever gives it up.
func (s *source) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.ReadCloser.Close()
}

func (l *line) write(req *http.Request) error {
	err := req.Write(l.w)
	if err == nil {
		err = l.w.Flush()
	}
	return err
}

// receive reads the answer's header.
func (l *line) receive(req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	for range most1xx {
		resp, err := http.ReadResponse(l.r, req)
		if err != nil || resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
		if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, errTooMany1xx
}

// deliver makes the answer's body give the connection back when it ends.
func (l *line) deliver(ctx context.Context, req *http.Request, resp *http.Response) {
	keep := !resp.Close && !req.Close
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols: // from now on it is the caller's
		l.stop()
		resp.Body = &upgraded{l.r, l.conn}
	case resp.Body == http.NoBody:
		l.end(keep)
	default:
		resp.Body = &body{ReadCloser: resp.Body, line: l, ctx: ctx, keep: keep}
	}
}

// end ends the use of the connection by a request, and keeps it for the next if it is still good.
func (l *line) end(keep bool) {
	keep = l.stop() && keep && l.r.Buffered() == 0
	body := l.source
	if l.sending != nil {
		keep = l.sent(keep) && keep
		l.sending, l.source = nil, nil
	}
	if !keep || l.cut.Load() {
		_ = l.conn.Close()
		// Who sends the body may wait for more of it, for ever; closing it may take as long. Not before the connection is closed,
		// or the other side could take a part of it for the whole.
		if body != nil && !body.closed.Load() {
			go func() { _ = body.Close() }()
		}
		return
	}
	l.used = true
	l.pool.put(l)
}

// sent tells whether all of the body was sent. If the connection is to be kept it waits for that: the answer can be here before the
// goroutine that sent the last of the body has said so. net/http waits as long.
func (l *line) sent(wait bool) bool {
	const patience = 50 * time.Millisecond
	var err error
	select {
	case err = <-l.sending:
	default:
		if !wait {
			return false
		}
		select {
		case err = <-l.sending:
		case <-time.After(patience):
			return false
		}
	}
	if !l.cut.Load() {
		l.unread = err
	}
	return err == nil
}

// repeat is req to be sent once more, after it failed; nil if that must not be.
func (l *line) repeat(req *http.Request) *http.Request {
	if !l.used || l.heard || l.unread != nil {
		return nil
	}
	if l.wrote.Load() && !harmless(req) {
		return nil
	}
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again := *req
	again.Body = body
	return &again
}

func harmless(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

// body is an answer's.
type body struct {
	io.ReadCloser
	line *line
	ctx  context.Context //nolint:containedctx // the request's, which bounds the reading
	keep bool
	over atomic.Bool // the line is somebody else's
	last error       // of Read
}

// Read is part of io.ReadCloser.
func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.last != nil:
		return 0, b.last
	case b.over.Load():
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	b.last = err
	if err != io.EOF {
		b.last = ended(b.ctx, err)
	}
	if !b.over.Swap(true) {
		b.line.end(err == io.EOF && b.keep)
	}
	return n, b.last
}

// Close is part of io.ReadCloser. What is left is not read: the connection is closed. It may be called while Read waits.
func (b *body) Close() error {
	if !b.over.Swap(true) {
		b.line.end(false)
	}
	return nil
}

// upgraded is the connection itself.
type upgraded struct {
	r *bufio.Reader
	net.Conn
}

// Read is part of io.Reader.
func (u *upgraded) Read(p []byte) (int, error) { return u.r.Read(p) }
