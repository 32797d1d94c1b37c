package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	documentLife  = 30 * time.Second // a service's document is asked for again after it
	documentRetry = 2 * time.Second  // or after this, if it could not be had
	documentTime  = 2 * time.Second  // for asking all the services, at once
	documentLimit = 4 << 20          // bytes, of one service's document
)

// document is the OpenAPI document of the whole shop, made of those of the services. It is made when somebody asks for it:
// a gateway that nobody reads the documentation of asks nobody.
type document struct {
	client  *http.Client
	log     *slog.Logger
	now     func() time.Time
	version string

	mu     sync.Mutex
	copies map[string]*copied // by service
	merged []byte
	etag   string
}

// copied is the last good document of a service.
type copied struct {
	body  []byte    // nil if it was never seen
	stale time.Time // from then on it is asked for again
}

// Document is the public OpenAPI document, indented, of a shop whose services have these documents, by name. Returns an
// error unless there is one of every service that the gateway calls, and no other.
func Document(version string, documents map[string][]byte) ([]byte, error) {
	var sources []source
	for _, service := range services() {
		body := documents[service]
		if _, err := parse(body); err != nil {
			return nil, fmt.Errorf("the document of %s: %w", service, err)
		}
		sources = append(sources, source{service, body})
	}
	if len(documents) != len(sources) {
		return nil, fmt.Errorf("documents of %d services, want %d", len(documents), len(sources))
	}
	var out bytes.Buffer
	if err := json.Indent(&out, merge(version, sources), "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

func newDocument(deps Deps) *document {
	return &document{
		client: &http.Client{Transport: deps.Mesh}, log: deps.Log, now: deps.Now, version: deps.Version,
		copies: map[string]*copied{},
	}
}

// ServeHTTP answers with the document of the services that have been seen.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, etag := d.current(r.Context())
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache") // ask again, with the ETag
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// current is the document as of now. Those who come while it is being made wait for it, two seconds at most.
func (d *document) current(ctx context.Context) (body []byte, etag string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refresh(ctx) || d.merged == nil {
		sources := make([]source, 0, len(d.copies))
		for _, service := range services() {
			if c := d.copies[service]; c != nil && c.body != nil {
				sources = append(sources, source{service, c.body})
			}
		}
		d.merged = merge(d.version, sources)
		sum := sha256.Sum256(d.merged)
		d.etag = `"` + hex.EncodeToString(sum[:8]) + `"`
	}
	return d.merged, d.etag
}

// refresh asks the services whose documents are stale, and reports whether anything changed.
func (d *document) refresh(ctx context.Context) (changed bool) {
	// Whoever asked first may leave: the others who wait still want it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), documentTime)
	defer cancel()
	var asked sync.WaitGroup
	got := make([][]byte, len(services()))
	for i, service := range services() {
		c := d.copies[service]
		if c == nil {
			c = new(copied)
			d.copies[service] = c
		}
		if d.now().Before(c.stale) {
			continue
		}
		c.stale = d.now().Add(documentRetry)
		asked.Go(func() {
			body, err := d.fetch(ctx, service)
			if err != nil {
				d.log.DebugContext(ctx, "fetch an OpenAPI document", "from", service, "error", err)
				return
			}
			got[i] = body
			c.stale = d.now().Add(documentLife)
		})
	}
	asked.Wait()
	for i, service := range services() {
		if c := d.copies[service]; got[i] != nil && !bytes.Equal(got[i], c.body) {
			c.body, changed = got[i], true
		}
	}
	return changed
}

func (d *document) fetch(ctx context.Context, service string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+"/openapi.json", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, documentLimit+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > documentLimit:
		return nil, errors.New("too large")
	}
	_, err = parse(body)
	return body, err
}
