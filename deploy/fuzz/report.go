package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// tally is what came of all requests.
type tally struct {
	asked             map[string]bool // whether each operation of the document was: "GET /api/v1/orders"
	requests          int             // answered
	broken, offSchema int             // with 500 and above; otherwise than documented
}

// finished is the event in Schemathesis' report that tells of requests and their answers. A request's answer is judged by
// several checks.
type finished struct {
	ScenarioFinished *struct {
		Recorder struct {
			Cases map[string]struct {
				Value struct{ Method, Path string }
			}
			Interactions map[string]struct {
				Response *struct {
					StatusCode int `json:"status_code"`
				}
			}
			Checks map[string][]struct{ Name, Status string }
		}
	}
}

// read adds what a report tells.
func (t *tally) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var e finished
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if e.ScenarioFinished != nil {
			t.add(&e)
		}
	}
}

func (t *tally) add(e *finished) {
	r := &e.ScenarioFinished.Recorder
	for id, i := range r.Interactions {
		if i.Response == nil {
			t.offSchema++ // no answer at all
			continue
		}
		t.requests++
		op := r.Cases[id].Value
		// A method that the path does not take is asked, too, to see it refused.
		if name := operationName(op.Method, op.Path); t.known(name) {
			t.asked[name] = true
		}
		if i.Response.StatusCode >= http.StatusInternalServerError {
			t.broken++
			continue
		}
		for _, c := range r.Checks[id] {
			if c.Status != "success" {
				t.offSchema++
				break
			}
		}
	}
}

func operationName(method, path string) string { return strings.ToUpper(method) + " " + path }

func (t *tally) known(operation string) bool {
	_, known := t.asked[operation]
	return known
}

// operations is how many were asked.
func (t *tally) operations() int {
	n := 0
	for _, asked := range t.asked {
		if asked {
			n++
		}
	}
	return n
}

// expect says that the operations of an OpenAPI document are to be asked.
func (t *tally) expect(document string) error {
	b, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("read %s: %w", document, err)
	}
	for path, item := range doc.Paths {
		for method := range item {
			t.asked[operationName(method, path)] = false
		}
	}
	return nil
}
