package main

import (
	"bytes"
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
