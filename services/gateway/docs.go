package gateway

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"souk/shared/fault"

	"github.com/swaggest/swgui/v5/static"
)

const (
	documentPath = "/api/openapi.json"
	docsPath     = "/docs"
)

// docsPolicy lets the page of documentation load what is ours and nothing else. Swagger UI sets styles from its script.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed docs
var ownFiles embed.FS

// ownPages are what the gateway answers by itself. The page of documentation is Swagger UI, of which only the files are
// taken: the page around them is ours, without the inline script that a content security policy had to allow.
func (g *Gateway) ownPages() map[string]http.Handler {
	pages := map[string]http.Handler{
		"/":                             g.index(),
		documentPath:                    g.document,
		docsPath:                        embedded(ownFiles, "docs/index.html", docsPolicy),
		docsPath + "/":                  embedded(ownFiles, "docs/index.html", docsPolicy),
		docsPath + "/start.js":          embedded(ownFiles, "docs/start.js", docsPolicy),
		docsPath + "/docs.css":          embedded(ownFiles, "docs/docs.css", docsPolicy),
		docsPath + "/swagger-ui.css":    embedded(static.FS, "swagger-ui.css.gz", docsPolicy),
		docsPath + "/swagger-ui.js":     embedded(static.FS, "swagger-ui-bundle.js.gz", docsPolicy),
		docsPath + "/favicon-32x32.png": embedded(static.FS, "favicon-32x32.png", docsPolicy),
	}
	maps.Copy(pages, opsPages())
	maps.Copy(pages, signInPages())
	return pages
}

// servePage answers with one of our own pages, which can only be read.
func servePage(page http.Handler, w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return fault.New(fault.Method, "method_not_allowed", "this path does not take that method")
	}
	page.ServeHTTP(w, r)
	return nil
}

// index says what is here.
func (g *Gateway) index() http.Handler {
	body, err := json.Marshal(map[string]string{"name": "Souk", "version": g.deps.Version, "docs": docsPath, "openapi": documentPath})
	if err != nil {
		panic(err) // strings
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

// embedded serves one file out of the binary, of which no copy is made. It panics if there is none. A file that is stored
// compressed is sent so to whoever takes it.
func embedded(files embed.FS, name, policy string) http.Handler {
	info, err := fs.Stat(files, name)
	if err != nil {
		panic(err) // built in
	}
	plain, packed := strings.CutSuffix(name, ".gz")
	kind := map[string]string{
		".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png",
		".svg": "image/svg+xml",
	}[path.Ext(plain)]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "public, max-age=300")
		f, err := files.Open(name)
		if err != nil {
			panic(err) // it was there
		}
		defer f.Close()
		content := f.(io.ReadSeeker) // so embed promises
		if packed {
			h.Add("Vary", "Accept-Encoding")
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.Set("Content-Encoding", "gzip")
				h.Set("Content-Length", strconv.FormatInt(info.Size(), 10)) // ServeContent leaves it out of encoded content
			} else {
				content = unpack(f)
			}
		}
		http.ServeContent(w, r, "", time.Time{}, content)
	})
}

// unpack is for the few clients that take no gzip.
func unpack(packed io.Reader) io.ReadSeeker {
	z, err := gzip.NewReader(packed)
	if err != nil {
		panic(err) // built in
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return bytes.NewReader(plain)
}
