package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"regexp"
	"strings"
	"testing"

	"souk/services/gateway"
)

func TestDocs_loadNothingFromOutside(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	page := e.do(t, "GET", "/docs", nil)
	page.Into(t, 200, nil)
	if outside := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]`).FindAllString(string(page.Body), -1); len(outside) != 0 {
		t.Errorf("the page names %v", outside)
	}
	if strings.Contains(string(page.Body), "<script>") || strings.Contains(string(page.Body), "<style") {
		t.Error("the page has a script or style of its own, which the policy forbids")
	}
	links := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(string(page.Body), -1)
	if len(links) < 5 {
		t.Fatalf("the page refers to %v", links)
	}
	external := regexp.MustCompile(`@import|url\(\s*["']?(?:https?:)?//`)
	for _, link := range links {
		got := e.do(t, "GET", link[1], nil)
		got.Into(t, 200, nil)
		if len(got.Body) == 0 || got.Header.Get("Content-Type") == "" {
			t.Errorf("%s: %d bytes of %q", link[1], len(got.Body), got.Header.Get("Content-Type"))
		}
		if strings.HasSuffix(link[1], ".css") && external.Match(got.Body) {
			t.Errorf("%s loads something from outside", link[1])
		}
		if link[1] == "/api/openapi.json" {
			continue
		}
		policy := got.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "http") || strings.Contains(policy, "*") || strings.Contains(policy, "unsafe-eval") {
			t.Errorf("%s: policy %q", link[1], policy)
		}
	}
	start := string(e.do(t, "GET", "/docs/start.js", nil).Body)
	if !strings.Contains(start, "validatorUrl: null") || !strings.Contains(start, "'/api/openapi.json'") || strings.Contains(start, "//v") {
		t.Errorf("start.js is %s", start)
	}
}

func TestDocs_sendCompressedFilesAsTheyAre(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	plain := e.do(t, "GET", "/docs/swagger-ui.js", nil)
	packed := e.do(t, "GET", "/docs/swagger-ui.js", nil, "Accept-Encoding", "gzip")
	if packed.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("got encodings %q and %q", packed.Header.Get("Content-Encoding"), plain.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(bytes.NewReader(packed.Body))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(unpacked, plain.Body) {
		t.Errorf("the compressed file is another one: %v", err)
	}
}

func TestIndex_namesWhatIsHere(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	var index struct{ Docs, OpenAPI string }
	e.do(t, "GET", "/", nil).Into(t, 200, &index)
	for _, path := range []string{index.Docs, index.Docs + "/", index.OpenAPI} {
		e.do(t, "GET", path, nil).Into(t, 200, nil)
	}
	if head := e.do(t, "HEAD", "/docs", nil); head.Status != 200 || len(head.Body) != 0 {
		t.Errorf("HEAD gave %d and %d bytes", head.Status, len(head.Body))
	}
}
