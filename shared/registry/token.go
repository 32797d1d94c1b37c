package registry

import (
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

// tokenFile adds the ACL token in a file to each request. Tokens are renewed: when Consul refuses one, the file is read
// again, and whoever was refused comes back by itself. A file that is not there yet is waited for in the same way.
type tokenFile struct {
	path  string
	next  http.RoundTripper
	log   *slog.Logger
	token atomic.Pointer[string] // nil until the file was read
}

// RoundTrip is part of http.RoundTripper.
func (f *tokenFile) RoundTrip(req *http.Request) (*http.Response, error) {
	used := f.load()
	if used != nil {
		req = req.Clone(req.Context())
		req.Header.Set("X-Consul-Token", *used)
	}
	resp, err := f.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusForbidden && f.token.Load() == used {
		f.read()
	}
	return resp, err
}

func (f *tokenFile) load() *string {
	if used := f.token.Load(); used != nil {
		return used
	}
	return f.read()
}

// get is the token; empty while there is none.
func (f *tokenFile) get() string {
	if token := f.load(); token != nil {
		return *token
	}
	return ""
}

func (f *tokenFile) read() *string {
	b, err := os.ReadFile(f.path)
	if err != nil {
		f.log.Warn("cannot read the Consul token", "error", err)
		return f.token.Load()
	}
	token := strings.TrimSpace(string(b))
	if old := f.token.Swap(&token); old != nil && *old != token {
		f.log.Info("the Consul token was renewed")
	}
	return &token
}
