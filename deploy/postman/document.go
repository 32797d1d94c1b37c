package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// document is the public OpenAPI document, as far as the collection needs it.
type document struct {
	Paths      map[string]map[string]*operation
	Components struct {
		Schemas   map[string]any
		Responses map[string]response
	}
}

type operation struct {
	OperationID string
	Summary     string
	Description string
	Parameters  []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct{ Content map[string]media }
	Responses   map[string]response
	Security    []any

	method, path string
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]media
}

type media struct {
	Schema  any
	Example json.RawMessage
}

func readDocument(path string) (*document, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc := new(document)
	if err := json.Unmarshal(b, doc); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			op.method, op.path = strings.ToUpper(method), path
		}
	}
	return doc, nil
}

// folders has a request for every recipe, by resource, and one for each operation that has none. The last recipe of a
// resource that comes back after others, such as archiving what orders needed, stands in a folder of its own.
func (d *document) folders(all []recipe) ([]item, error) {
	byID := map[string]*operation{}
	for _, item := range d.Paths {
		for _, op := range item {
			byID[op.OperationID] = op
		}
	}
	missing := maps.Clone(byID)
	for _, r := range all {
		if byID[r.operation] == nil {
			return nil, fmt.Errorf("a recipe is for %s, which is no operation", r.operation)
		}
		delete(missing, r.operation)
	}
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		by := ""
		if len(missing[id].Security) > 0 {
			by = "admin"
		}
		all = append(all, recipe{operation: id, by: by, status: -1})
	}
	var folders []item
	for _, r := range all {
		op := byID[r.operation]
		made, err := d.request(op, &r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.operation, err)
		}
		name := resource(op.path)
		if n := len(folders); n == 0 || folders[n-1].Name != name {
			if slices.ContainsFunc(folders, func(f item) bool { return f.Name == name }) {
				name += ", afterwards"
			}
			if n == 0 || folders[n-1].Name != name {
				folders = append(folders, item{Name: name})
			}
		}
		folders[len(folders)-1].Items = append(folders[len(folders)-1].Items, made)
	}
	return folders, nil
}

// resource is what a path is about: its first segment after the version.
func resource(path string) string {
	rest, ok := strings.CutPrefix(path, "/api/v1/")
	if !ok {
		return "auth" // the keys of the tokens
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func (d *document) request(op *operation, r *recipe) (item, error) {
	title := r.title
	if title == "" {
		title = op.Summary
	}
	path := op.path
	for _, p := range op.Parameters {
		if p.In == "path" {
			value, ok := r.path[p.Name]
			if !ok {
				value = "{{$guid}}"
			}
			path = strings.ReplaceAll(path, "{"+p.Name+"}", value)
		}
	}
	q := &request{Method: op.method, URL: "{{base}}" + path, Header: []keyVal{}, Auth: &auth{Type: "noauth"}, Description: op.Description}
	if r.query != "" {
		q.URL += "?" + r.query
	}
	if r.by != "" {
		q.Auth = bearer("{{" + r.by + "_token}}")
	}
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		q.Header = append(q.Header, keyVal{name, r.header[name]})
	}
	for _, p := range op.Parameters {
		if p.Name == "Idempotency-Key" {
			q.Header = append(q.Header, keyVal{p.Name, "{{$guid}}"})
		}
	}
	if op.RequestBody != nil {
		raw := r.body
		if m, ok := op.RequestBody.Content["application/json"]; ok {
			q.Header = append(q.Header, keyVal{"Content-Type", "application/json"})
			if raw == "" {
				raw = string(m.Example)
			}
		}
		if raw == "" {
			return item{}, fmt.Errorf("it takes a body, and neither the recipe nor the document has an example")
		}
		q.Body = &body{Mode: "raw", Raw: raw}
	}
	t, err := d.test(op, r)
	if err != nil {
		return item{}, err
	}
	return item{Name: title, Event: t.events(), Request: q}, nil
}

// test is what the document and the recipe say of the answer.
func (d *document) test(op *operation, r *recipe) (*test, error) {
	t := &test{status: r.status, save: r.save, again: r.sign}
	for text := range op.Responses {
		status, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("it documents the status %q", text)
		}
		switch {
		case status < 300 && r.status == 0 && (t.status == 0 || status < t.status) && status != 202:
			t.status = status
		case r.status < 0 && status < 500:
			t.any = append(t.any, status)
		}
	}
	slices.Sort(t.any)
	for _, path := range slices.Sorted(maps.Keys(r.expect)) {
		t.expect = append(t.expect, keyVal{path, r.expect[path]})
	}
	if r.status < 0 {
		t.status = 0
		return t, nil
	}
	answer, ok := op.Responses[strconv.Itoa(t.status)]
	if !ok {
		return nil, fmt.Errorf("it does not document %d", t.status)
	}
	if name, ok := strings.CutPrefix(answer.Ref, "#/components/responses/"); ok {
		answer = d.Components.Responses[name]
	}
	for _, m := range answer.Content {
		t.schema = d.resolve(m.Schema)
	}
	return t, nil
}

// resolve is a schema with what it refers to in place of the references, and without what is for people.
func (d *document) resolve(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			return d.resolve(d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")])
		}
		out := map[string]any{}
		for key, x := range v {
			_, text := x.(string)
			_, list := x.([]any)
			if key == "description" && text || key == "examples" && list || key == "patternDescription" && text {
				continue
			}
			out[key] = d.resolve(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = d.resolve(x)
		}
		return out
	default:
		return v
	}
}
