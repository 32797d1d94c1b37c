package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"souk/deploy/journey"
)

// The parts of a Postman collection, version 2.1, that are used here.
type (
	collection struct {
		Info     info     `json:"info"`
		Items    []item   `json:"item"`
		Variable []keyVal `json:"variable"`
	}
	info struct {
		ID          string `json:"_postman_id"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Schema      string `json:"schema"`
	}
	// item is a folder or a request.
	item struct {
		Name        string   `json:"name"`
		Description string   `json:"description,omitempty"`
		Items       []item   `json:"item,omitempty"`
		Event       []event  `json:"event,omitempty"`
		Request     *request `json:"request,omitempty"`
	}
	event struct {
		Listen string `json:"listen"`
		Script script `json:"script"`
	}
	script struct {
		Type string   `json:"type"`
		Exec []string `json:"exec"`
	}
	request struct {
		Method      string   `json:"method"`
		Auth        *auth    `json:"auth,omitempty"`
		Header      []keyVal `json:"header"`
		Body        *body    `json:"body,omitempty"`
		URL         string   `json:"url"`
		Description string   `json:"description,omitempty"`
	}
	auth struct {
		Type   string   `json:"type"`
		Bearer []keyVal `json:"bearer,omitempty"`
	}
	keyVal struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	body struct {
		Mode string `json:"mode"`
		Raw  string `json:"raw"`
	}
)

// build makes the collection of the public OpenAPI document and the journeys.
func build(doc *document, journeys []journey.File) ([]byte, error) {
	c := collection{
		Info: info{
			ID: "5c9d7a54-5f0e-4a53-9a4d-7d5b1f2f6a10", Name: "Souk",
			Description: "Every operation of the shop, by resource, and journeys through it. Choose an environment and run the whole collection: " +
				"requests hand on what they made, so they are sent from top to bottom. Written by `make openapi`; change " +
				"deploy/postman/recipe.go or deploy/http instead.",
			Schema: "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
		},
		Variable: []keyVal{
			{"base", "http://127.0.0.1:8080"},
			{"admin_email", "admin@souk.example"},
			{"admin_password", "open-sesame-1001"},
		},
	}
	resources, err := doc.folders(recipes())
	if err != nil {
		return nil, err
	}
	c.Items = []item{
		{Name: "Resources", Description: "Every operation of the OpenAPI document.", Items: resources},
		{Name: "Journeys", Description: "As in deploy/http.", Items: journeyFolders(journeys)},
	}
	return marshal(c)
}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

func journeyFolders(files []journey.File) []item {
	var folders []item
	for _, f := range files {
		prefix := strings.ReplaceAll(f.Name, "-", "_") + "_"
		folder := item{Name: strings.ToUpper(f.Name[:1]) + strings.ReplaceAll(f.Name[1:], "-", " "), Description: f.Intro}
		fill := func(s string) string {
			return journey.Resolve(s, func(name, path string) string {
				if path != "" {
					return "{{" + variable(prefix, name, path) + "}}"
				}
				word, _, _ := strings.Cut(name, " ")
				return "{{" + word + "}}"
			})
		}
		for _, r := range f.Requests {
			t := test{status: r.Status, save: map[string]string{}, again: strings.HasSuffix(r.URL, "/auth/login")}
			for _, path := range f.Uses(r.Name) {
				t.save[variable(prefix, r.Name, path)] = path
			}
			for _, v := range r.Expect {
				t.expect = append(t.expect, keyVal{v.Path, fill(v.Want)})
			}
			q := &request{Method: r.Method, URL: fill(r.URL), Header: []keyVal{}, Auth: &auth{Type: "noauth"}}
			for _, h := range r.Headers {
				if token, ok := strings.CutPrefix(h.Value, "Bearer "); ok && h.Name == "Authorization" {
					q.Auth = bearer(fill(token))
					continue
				}
				q.Header = append(q.Header, keyVal{h.Name, fill(h.Value)})
			}
			if r.Body != "" {
				q.Body = &body{Mode: "raw", Raw: fill(r.Body)}
			}
			folder.Items = append(folder.Items, item{Name: r.Title, Event: t.events(), Request: q})
		}
		folders = append(folders, folder)
	}
	return folders
}

// variable is the name of the collection's variable that holds what an answer has at path.
func variable(prefix, name, path string) string {
	return prefix + name + strings.NewReplacer("$", "", ".", "_", "[", "_", "]", "").Replace(path)
}

func bearer(token string) *auth {
	return &auth{Type: "bearer", Bearer: []keyVal{{"token", token}}}
}

// test is what a request checks of its answer.
type test struct {
	status int      // 0: any of documented
	any    []int    // documented statuses below 500
	schema any      // of the answer's body; nil where it is not known, or there is none
	expect []keyVal // path → text
	save   map[string]string
	again  bool // a limit on it is no failure: wait and come back
}

// events is the test as Postman runs it.
func (t *test) events() []event {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	text := func(s string) string {
		b, err := marshal(s)
		if err != nil {
			panic(err) // a string
		}
		return strings.TrimSpace(string(b))
	}
	indent := ""
	if t.again {
		add("if (pm.response.code === 429) { // signing in is limited")
		add("  setTimeout(() => pm.execution.setNextRequest(pm.info.requestId), 1000 * Number(pm.response.headers.get('Retry-After')));")
		add("} else {")
		indent = "  "
	}
	check := func(name, code string) { add("%spm.test(%s, () => { %s });", indent, text(name), code) }
	if t.status != 0 {
		check("answers "+strconv.Itoa(t.status), fmt.Sprintf("pm.response.to.have.status(%d);", t.status))
	} else {
		list, err := json.Marshal(t.any)
		if err != nil {
			panic(err) // numbers
		}
		check("answers as documented", fmt.Sprintf("pm.expect(pm.response.code).to.be.oneOf(%s);", list))
	}
	switch {
	case t.status == 204:
		check("has no body", "pm.expect(pm.response.text()).to.equal('');")
	case t.status >= 400:
		check("is a problem", "pm.expect(pm.response.headers.get('Content-Type')).to.equal('application/problem+json'); "+
			"const p = pm.response.json(); pm.expect(p.status).to.equal(pm.response.code); pm.expect(p.code).to.be.a('string'); pm.expect(p.request_id).to.be.a('string');")
	default:
		check("is JSON", "pm.expect(pm.response.headers.get('Content-Type')).to.match(/json/);")
	}
	if t.schema != nil {
		var schema bytes.Buffer
		e := json.NewEncoder(&schema)
		e.SetEscapeHTML(false)
		if err := e.Encode(t.schema); err != nil {
			panic(err) // it came from JSON
		}
		check("has the documented shape", fmt.Sprintf("pm.response.to.have.jsonSchema(%s, {unknownFormats: 'ignore'});", strings.TrimSpace(schema.String())))
	}
	for _, v := range t.expect {
		check(v.Key+" is "+v.Value, fmt.Sprintf("pm.expect(String(pm.response.json()%s)).to.equal(pm.variables.replaceIn(%s));", v.Key[1:], text(v.Value)))
	}
	for _, name := range slices.Sorted(maps.Keys(t.save)) {
		add("%spm.collectionVariables.set(%s, pm.response.json()%s);", indent, text(name), t.save[name][1:])
	}
	if t.again {
		add("}")
	}
	return []event{{Listen: "test", Script: script{Type: "text/javascript", Exec: lines}}}
}
