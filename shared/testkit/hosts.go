package testkit

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// Hosts is a network of handlers by host name, standing in for the mesh in a test of one service: http://product/…
// reaches Hosts["product"]. A host that is not there refuses the connection. A handler that panics with
// http.ErrAbortHandler breaks it off after the request was read, as a process that dies does.
type Hosts map[string]http.Handler

// Client is an http.Client on this network.
func (h Hosts) Client() *http.Client { return &http.Client{Transport: h} }

// RoundTrip serves the request in the caller's goroutine.
func (h Hosts) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	handler, ok := h[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("dial %s: connection refused", r.URL.Host)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	} else if body, err := io.ReadAll(in.Body); err == nil {
		in.Body = io.NopCloser(bytes.NewReader(body))
	}
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:1"
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
				panic(v)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, in)
	return w.Result(), nil
}
