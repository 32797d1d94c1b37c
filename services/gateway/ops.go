package gateway

import (
	"context"
	"embed"
	"net/http"
	"strings"
	"time"

	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/identity/policy"
)

const (
	opsPath   = "/ops"
	opsStream = opsPath + "/stream"
	// opsCheck is how often the token of somebody who looks is looked at again.
	opsCheck = 3 * time.Second
)

// opsPolicy lets the page load what is ours and talk to us, and nothing else: no inline script or style, and nothing that
// turns text into markup. Its form is sent by its script; the browser itself may send it nowhere.
const opsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed ops
var opsFiles embed.FS

// opsPages are the page that shows how everything is. It holds nothing that not everybody may see: what it shows comes
// from the stream, for which one has to sign in.
func opsPages() map[string]http.Handler {
	pages := map[string]http.Handler{opsPath + "/": embedded(opsFiles, "ops/index.html", opsPolicy)}
	pages[opsPath] = pages[opsPath+"/"]
	for _, name := range []string{"ops.css", "main.js", "session.js", "model.js", "view.js", "chart.js", "icon.svg"} {
		pages[opsPath+"/"+name] = embedded(opsFiles, "ops/"+name, opsPolicy)
	}
	return pages
}

// mayLook finds out whether r comes from somebody who may see how everything is.
func (g *Gateway) mayLook(r *http.Request) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return fault.New(fault.Unauthenticated, "", "sign in first: this needs an access token")
	}
	p, err := g.deps.Verifier.Verify(token)
	if err != nil {
		return err
	}
	return policy.Check(identity.With(r.Context(), p), identity.ViewOperations, policy.Resource{Kind: policy.Route, ID: "watch-operations"})
}

// look answers with what there is to see, every second, until the client leaves, its token ends or we do.
func (g *Gateway) look(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		return fault.New(fault.Method, "method_not_allowed", "this path does not take that method")
	}
	if err := g.mayLook(r); err != nil {
		return err
	}
	v, err := g.lookout.join()
	if err != nil {
		return err
	}
	defer g.lookout.leave(v)
	// The request's time is for an answer, and this is none; a client that leaves is noticed by writing to it.
	httpapi.NameStream(r.Context(), opsStream)
	r = r.WithContext(context.WithoutCancel(r.Context()))
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx in front of us would keep events to itself
	control := http.NewResponseController(w)
	send := func(text []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(slowest / 3)) // a writer that knows no deadlines is one of a test
		_, err := w.Write(text)
		return err == nil && control.Flush() == nil
	}
	if !send([]byte(": welcome\n\n")) {
		return nil
	}
	checked := time.Now()
	for text := range v.events {
		if time.Since(checked) > opsCheck {
			if g.mayLook(r) != nil {
				send([]byte("event: bye\ndata: token\n\n"))
				return nil
			}
			checked = time.Now()
		}
		if !send(text) {
			return nil
		}
	}
	send([]byte("event: bye\ndata: again\n\n"))
	return nil
}

// Run shows how everything is to those who ask, until ctx ends; then it sends them away, so that nobody has to wait for them.
func (g *Gateway) Run(ctx context.Context) error { return g.lookout.run(ctx) }
