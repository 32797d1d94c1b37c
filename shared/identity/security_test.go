package identity_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// SECURITY.md names tests and attacks: each is there, and every row says something.
func TestSecurity_namesWhatThereIs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	text, root := string(b), filepath.Join("..", "..")
	sources := func(pattern string) string {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(paths) == 0 {
			t.Errorf("there is nothing at %s", pattern)
		}
		var all strings.Builder
		for _, path := range paths {
			b, err := os.ReadFile(path) //nolint:gosec // a source of ours
			if err != nil {
				t.Error(err)
			}
			all.Write(b)
		}
		return all.String()
	}

	tests := regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(text, -1)
	for _, m := range tests {
		if !strings.Contains(sources(m[1]+"/*_test.go"), "func "+m[2]+"(t *testing.T)") {
			t.Errorf("%s has no test %s", m[1], m[2])
		}
	}
	attacks := regexp.MustCompile("`abuse: ([^`]+)`").FindAllStringSubmatch(text, -1)
	abuse := sources("deploy/abuse/*.go")
	for _, m := range attacks {
		if name, path, _ := strings.Cut(m[1], ": /"); !strings.Contains(abuse, `"`+name) || !strings.Contains(abuse, path) {
			t.Errorf("make abuse has no attack %q", m[1])
		}
	}
	if len(tests) < 50 || len(attacks) < 30 {
		t.Errorf("%d tests and %d attacks are named, which is hardly all", len(tests), len(attacks))
	}

	seen := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([0-9]+\.[0-9.\-]+) \| ([12]) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(text, -1) {
		if seen[row[1]] || row[3] == "" || row[4] == "" {
			t.Errorf("row %s is there twice, or says nothing", row[1])
		}
		seen[row[1]] = true
	}
	for _, chapter := range []string{"6.", "7.", "8.", "9.", "10.", "11.", "12.", "13.", "14.", "15.", "16."} {
		n := 0
		for row := range seen {
			if strings.HasPrefix(row, chapter) {
				n++
			}
		}
		if n < 7 {
			t.Errorf("chapter %s has %d rows", chapter, n)
		}
	}
}
