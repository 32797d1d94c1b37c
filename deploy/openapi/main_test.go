package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"souk/deploy/local"
)

func TestDocuments_areWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	root, err := local.Root()
	if err != nil {
		t.Fatal(err)
	}
	documents, err := generate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range documents {
		got, err := os.ReadFile(filepath.Join(root, "deploy", "openapi", name+".json"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s.json is not what the code says: run make openapi (%v)", name, err)
		}
	}
}

// What the gateway itself answers can meet any request.
func TestPublicDocument_tellsWhatTheGatewayRefuses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("souk.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]any `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			for _, status := range []string{"400", "414", "429", "503", "504"} {
				if _, told := op.Responses[status]; !told {
					t.Errorf("%s %s does not tell of a %s", method, path, status)
				}
			}
		}
	}
	if operations == 0 {
		t.Error("the document has no operations")
	}
}
