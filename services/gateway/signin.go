package gateway

import (
	"embed"
	"net/http"
)

const signInPath = "/sign-in"

//go:embed signin
var signInFiles embed.FS

// signInPages are where people sign in for something else than a program that they hand their password to: with another
// identity provider, or to let another program act for them. The policy is that of the page of operations: nothing but what
// is ours, no inline script, and nobody puts it into a frame to have people click on what they do not see.
func signInPages() map[string]http.Handler {
	pages := map[string]http.Handler{signInPath: embedded(signInFiles, "signin/index.html", opsPolicy)}
	for _, name := range []string{"page.css", "page.js"} {
		pages[signInPath+"/"+name] = embedded(signInFiles, "signin/"+name, opsPolicy)
	}
	return pages
}
