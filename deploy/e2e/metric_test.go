package e2e

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// metric sums the series of an instance's metric whose labels contain all of the given pairs; 0 when the instance does
// not answer.
func metric(t *testing.T, instance, name string, labels ...string) (sum float64) {
	t.Helper()
	for _, in := range shop.Instances("") {
		if in.Name != instance {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+in.Admin+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		sum += series(resp.Body, name, labels)
	}
	return sum
}

func series(metrics io.Reader, name string, labels []string) (sum float64) {
	for lines := bufio.NewScanner(metrics); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name+"{")
		if !ok || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return sum
}
