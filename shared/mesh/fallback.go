package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// HeaderFallback is in a response that its callee did not give: "cache; age=37" (seconds) or "default".
const HeaderFallback = "X-Mesh-Fallback"

const (
	stalest        = 5 * time.Minute
	rememberBytes  = 64 << 10 // of one answer
	rememberedMost = 256      // answers, of one callee
)

// Fallback is what stands in for the answer to a read that failed: by an error or a 5xx, an open breaker or no instances.
// Its sources are in memory, so that it cannot fail as the callee did. The zero value stands in for nothing.
type Fallback struct {
	// Stale is how old the last good answer to the same request with the same token may be; at most five minutes. It is kept
	// if its body, of up to 64 KiB, was read to the end.
	Stale time.Duration
	// Default is answered otherwise, as JSON; nil is none.
	Default any
}

// WithFallback gives a GET something to fall back on; other methods have nothing, because what a write has done cannot be
// made up. The response says so in its X-Mesh-Fallback header, and is counted as a fallback, never as a success: the
// service breaker has seen how the call ended. As a default has the type of one answer, ctx is for one call.
func WithFallback(ctx context.Context, f Fallback) context.Context {
	return with(ctx, func(o *options) { o.fallback = &f })
}

// fallBack replaces how the call ended by its fallback, if it needs one and has one. It comes after the service breaker,
// and not before it as the retries do: an open breaker is when it is needed most.
func (c *call) fallBack(t trial) trial {
	if c.fallback == nil || methodLabel(c.req.Method) != http.MethodGet {
		return t
	}
	key := c.answerKey()
	switch t.outcome {
	case answered:
		if c.fallback.Stale > 0 {
			c.svc.answers.record(key, t.resp, c.mesh.deps.Now)
		}
		return t
	case clientError, limited, canceled, badRequest, closed:
		return t
	}
	resp := c.svc.answers.find(key, c.mesh.deps.Now(), min(c.fallback.Stale, stalest)) //nolint:bodyclose // its caller closes it
	if resp == nil && c.fallback.Default != nil {
		resp = defaultAnswer(c.fallback.Default) //nolint:bodyclose // its caller closes it
	}
	if resp == nil {
		return t
	}
	t.discard()
	resp.Request = c.req
	return trial{outcome: fellBack, resp: resp, at: t.at}
}

// answerKey tells requests apart that may have different answers.
func (c *call) answerKey() string {
	h := c.req.Header
	return strings.Join([]string{c.req.URL.RequestURI(), h.Get("Authorization"), h.Get("Cookie"), h.Get("Accept"), h.Get("Accept-Language")}, "\n")
}

func defaultAnswer(v any) *http.Response {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // as good as none; a test of the call would show it
	}
	return stand(http.Header{"Content-Type": {"application/json"}, HeaderFallback: {"default"}}, b)
}

// stand makes a response of what is in memory.
func stand(h http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// answers are the last good ones of a callee, for calls that may fall back on them. The zero value is empty.
type answers struct {
	mu    sync.Mutex
	known map[string]remembered
}

type remembered struct {
	at     time.Time
	header http.Header
	body   []byte
}

// record keeps the response once its body has been read to the end.
func (a *answers) record(key string, resp *http.Response, now func() time.Time) {
	if resp.StatusCode != http.StatusOK || resp.ContentLength > rememberBytes || strings.Contains(resp.Header.Get("Cache-Control"), "no-store") {
		return
	}
	header := resp.Header.Clone()
	resp.Body = &recorder{ReadCloser: resp.Body, keep: func(body []byte) {
		a.keep(key, remembered{at: now(), header: header, body: body})
	}}
}

func (a *answers) keep(key string, r remembered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[string]remembered)
	}
	if _, known := a.known[key]; !known && len(a.known) >= rememberedMost {
		for other := range a.known { // any: what is asked for often is soon back
			delete(a.known, other)
			break
		}
	}
	a.known[key] = r
}

// find makes a response of an answer that is not older than most; nil if there is none.
func (a *answers) find(key string, now time.Time, most time.Duration) *http.Response {
	a.mu.Lock()
	r, known := a.known[key]
	a.mu.Unlock()
	age := now.Sub(r.at)
	if !known || age > most {
		return nil
	}
	h := r.header.Clone()
	h.Set(HeaderFallback, fmt.Sprintf("cache; age=%d", int(age.Seconds())))
	return stand(h, r.body)
}

// recorder is a body that is kept while it is read.
type recorder struct {
	io.ReadCloser
	seen []byte
	keep func([]byte) // nil when there is too much of it, or it is kept already
}

// Read is part of io.ReadCloser.
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.keep == nil {
		return n, err
	}
	if r.seen = append(r.seen, p[:n]...); len(r.seen) > rememberBytes {
		r.seen, r.keep = nil, nil
	} else if err == io.EOF {
		r.keep(r.seen)
		r.keep = nil
	}
	return n, err
}
