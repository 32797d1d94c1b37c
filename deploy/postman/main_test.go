package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"souk/deploy/local"
)

// What is committed is what would be written: a changed document, recipe or journey is not forgotten.
func TestFiles_areWrittenFromTheirSources(t *testing.T) {
	t.Parallel()
	root, err := local.Root()
	if err != nil {
		t.Fatal(err)
	}
	made, err := files(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range made {
		got, err := os.ReadFile(filepath.Join(root, "deploy", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not as it should be: run make openapi (%v)", name, err)
		}
	}
}

// A request without a test would pass whatever comes.
func TestCollection_testsEveryRequest(t *testing.T) {
	t.Parallel()
	root, err := local.Root()
	if err != nil {
		t.Fatal(err)
	}
	made, err := files(root)
	if err != nil {
		t.Fatal(err)
	}
	var c collection
	if err := json.Unmarshal(made["postman/"+collectionFile], &c); err != nil {
		t.Fatal(err)
	}
	requests := 0
	var walk func(items []item)
	walk = func(items []item) {
		for _, i := range items {
			walk(i.Items)
			if i.Request == nil {
				continue
			}
			requests++
			if len(i.Event) != 1 || strings.Count(strings.Join(i.Event[0].Script.Exec, "\n"), "pm.test(") < 2 {
				t.Errorf("%s has fewer than two tests", i.Name)
			}
		}
	}
	walk(c.Items)
	if requests < 100 {
		t.Errorf("%d requests", requests)
	}
}
