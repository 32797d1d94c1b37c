package gateway

import (
	"net/http"

	"souk/shared/fault"
)

// everyAnswer is what browsers are told of whatever we answer: what it is, who may show or load it, and that its address is
// nobody's business. The policy is that of data; pages have one of their own.
//
//nolint:gochecknoglobals // never changes
var everyAnswer = []struct {
	name   string
	values [1]string
}{
	{"X-Content-Type-Options", [1]string{"nosniff"}},
	{"X-Frame-Options", [1]string{"DENY"}},
	{"Content-Security-Policy", [1]string{"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}},
	{"Referrer-Policy", [1]string{"no-referrer"}},
	{"Cross-Origin-Opener-Policy", [1]string{"same-origin"}},
	{"Cross-Origin-Resource-Policy", [1]string{"same-origin"}},
	{"Permissions-Policy", [1]string{"camera=(), geolocation=(), microphone=(), payment=(), usb=()"}},
}

// sayOnEveryAnswer puts it into the headers of an answer. The values are shared by all of them: nobody changes one in place.
func sayOnEveryAnswer(h http.Header, secure bool) {
	for i := range everyAnswer {
		h[everyAnswer[i].name] = everyAnswer[i].values[:1:1]
	}
	if secure {
		h.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains") // two years
	}
}

// ownHeader tells whether a header of an answer is ours to set.
func ownHeader(name string) bool {
	switch name {
	case "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy", "Strict-Transport-Security",
		"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy":
		return true
	}
	return false
}

// isSecure tells whether the client's connection is encrypted: a trusted proxy says so, since what an outsider says of it is
// gone by now.
func isSecure(r *http.Request) bool { return r.TLS != nil || r.Header.Get(forwardedProto) == "https" }

// crossOrigin refuses what a page of another origin has a browser change here, by the headers that no page can forge
// (Sec-Fetch-Site, Origin). What reads is let through, and so is whoever is no browser.
func newCrossOrigin(trusted []Origin) *http.CrossOriginProtection {
	c := http.NewCrossOriginProtection()
	for _, o := range trusted {
		if err := c.AddTrustedOrigin(string(o)); err != nil {
			panic(err) // Origin has been read from text that is one
		}
	}
	return c
}

func (g *Gateway) refuseCrossOrigin(r *http.Request) error {
	if err := g.origins.Check(r); err != nil {
		return fault.New(fault.Forbidden, "cross_origin", "a page of another origin may not do this").Because(err)
	}
	return nil
}

// keepPrivate keeps an answer to somebody who has signed in out of every cache, unless the service has its own word on it.
func keepPrivate(r *http.Response) {
	if r.Request != nil && r.Request.Header.Get("Authorization") != "" && r.Header.Get("Cache-Control") == "" {
		r.Header.Set("Cache-Control", "private, no-cache")
	}
}
