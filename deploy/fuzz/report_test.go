package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTally_countsWhatIsWrong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.ndjson")
	const report = `{"EngineStarted":{}}
{"ScenarioFinished":{"recorder":{"cases":{"a":{"value":{"method":"GET","path":"/x"}},"b":{"value":{"method":"GET","path":"/x"}},"c":{"value":{"method":"TRACE","path":"/x"}},"d":{"value":{"method":"GET","path":"/x"}}},
"interactions":{"a":{"response":{"status_code":200}},"b":{"response":{"status_code":503}},"c":{"response":{"status_code":418}},"d":{"response":null}},
"checks":{"a":[{"name":"x","status":"success"}],"b":[{"name":"x","status":"failure"}],"c":[{"name":"x","status":"failure"},{"name":"y","status":"failure"}]}}}}
`
	if err := os.WriteFile(path, []byte(removeNewlines(report)), 0o600); err != nil {
		t.Fatal(err)
	}
	found := tally{asked: map[string]bool{"GET /x": false, "GET /y": false}}
	if err := found.read(path); err != nil {
		t.Fatal(err)
	}
	if found.requests != 3 || found.broken != 1 || found.offSchema != 2 || found.operations() != 1 || len(found.asked) != 2 {
		t.Errorf("got %+v", found)
	}
}

// removeNewlines makes an event of each line that begins one.
func removeNewlines(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == '\n' && i+1 < len(s) && s[i+1] == '"' {
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}
