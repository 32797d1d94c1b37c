//go:build !crashpoints

package crash

import "net/http"

// Transport is rt in an ordinary build.
func Transport(rt http.RoundTripper) http.RoundTripper { return rt }

// Handler is h in an ordinary build.
func Handler(h http.Handler) http.Handler { return h }
