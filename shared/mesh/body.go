package mesh

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// payload is a request's body, kept so that more than one try can send it. A small body of known length is read into memory;
// reading it is not bounded by the call's deadline, but by whatever bounds the caller's own connection. Any other body
// streams: it can be sent once, though to another instance as long as nobody has begun to read it.
type payload struct {
	original io.ReadCloser                 // nil if there is no body
	copies   func() (io.ReadCloser, error) // a fresh body for each try; nil if it streams

	mu      sync.Mutex
	holder  *stream // of the try that may read the stream; nil if none may
	touched bool    // a stream was begun
	failed  error   // reading the stream failed: the caller's doing, not the callee's
	pending bool    // the stream is to be closed once the call is over
	over    bool
}

// open takes over the request's body. After an error it is closed.
func (p *payload) open(req *http.Request, limit int64) error {
	p.original, p.copies, p.pending = req.Body, req.GetBody, true
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		p.original = nil
	case req.GetBody == nil && req.ContentLength > 0 && req.ContentLength <= limit:
		content := make([]byte, req.ContentLength)
		_, err := io.ReadFull(req.Body, content)
		_ = req.Body.Close()
		p.original = nil
		if err != nil {
			return fmt.Errorf("read the request's body: %w", err)
		}
		p.copies = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	}
	return nil
}

// again tells whether another try could send the body.
func (p *payload) again() bool {
	if p.original == nil || p.copies != nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.touched
}

// reclaim takes a stream back from a try, for another; false if it was begun. A transport may go on sending after it has answered,
// or failed: from now on that try gets nothing of the body.
func (p *payload) reclaim() bool {
	if p.original == nil || p.copies != nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.touched {
		p.holder, p.pending = nil, true
	}
	return !p.touched
}

// attach gives a try its body. With copies, the pool too may send it again, which it does by itself only on a connection
// that turned out dead before anything was written, or for requests that are harmless to repeat.
func (p *payload) attach(out *http.Request) error {
	switch {
	case p.copies != nil:
		body, err := p.copies()
		out.Body, out.GetBody = body, p.copies
		return err
	case p.original != nil:
		s := &stream{p}
		p.mu.Lock()
		p.holder, p.pending = s, false
		p.mu.Unlock()
		out.Body, out.GetBody = s, nil
	default:
		out.Body, out.GetBody = nil, nil
	}
	return nil
}

// readError is why the caller's body could not be read; nil if it could.
func (p *payload) readError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// finish ends the use of the body by this call. A stream still being sent is closed by its sender.
func (p *payload) finish() {
	p.mu.Lock()
	p.over = true
	shut := p.original != nil && (p.pending || p.copies != nil)
	p.mu.Unlock()
	if shut {
		_ = p.original.Close()
	}
}

// stream is one try's hold on a body that can be read once.
type stream struct{ p *payload }

func (s *stream) Read(b []byte) (int, error) {
	s.p.mu.Lock()
	if s.p.holder != s {
		s.p.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	s.p.touched = true
	s.p.mu.Unlock()
	n, err := s.p.original.Read(b)
	if err != nil && err != io.EOF {
		s.p.mu.Lock()
		if s.p.holder == s { // a transport that gave up closes the body under its own reader
			s.p.failed = err
		}
		s.p.mu.Unlock()
	}
	return n, err
}

// Close closes the body, unless nobody has read of it: then another try may want it, or has it already.
func (s *stream) Close() error {
	s.p.mu.Lock()
	if s.p.holder != s {
		s.p.mu.Unlock()
		return nil
	}
	keep := !s.p.touched && !s.p.over
	s.p.holder, s.p.pending = nil, keep
	s.p.mu.Unlock()
	if keep {
		return nil
	}
	return s.p.original.Close()
}
