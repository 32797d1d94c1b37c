package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// source is the OpenAPI document of one service.
type source struct {
	service string
	body    []byte // parse accepts it
}

// object is a JSON object.
type object = map[string]any

// parse reads an OpenAPI 3.1 document, numbers to the last digit.
func parse(body []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc object
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		return nil, fmt.Errorf("an OpenAPI document of version %q, want 3.1", v)
	}
	return doc, nil
}

// merge makes one OpenAPI 3.1 document of several: the paths as they are outside, and only those that can be reached;
// the components that these refer to. Two services may have the same component; where they have different ones of the
// same name, the later service's is led by the service's name. The same documents in the same order give the same bytes.
func merge(version string, sources []source) []byte {
	m := merger{paths: object{}, components: object{}, ids: map[string]bool{}}
	tags := []any{} // a list, even of none
	for _, s := range sources {
		doc, err := parse(s.body)
		if err != nil {
			continue // it was parsed when it came
		}
		m.add(s.service, doc)
		tags = append(tags, object{"name": s.service, "description": "Answered by the " + s.service + " service."})
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Souk", "version": version,
			"description": "An online shop that is never wrong about money or goods. Errors are problem details (RFC 9457); " +
				"every POST that creates or moves something takes an Idempotency-Key.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"contact": object{"name": "Souk"},
		},
		"servers":    []any{object{"url": "/"}},
		"tags":       tags,
		"security":   []any{}, // an operation that needs a token says so itself
		"paths":      m.paths,
		"components": m.reachable(),
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // it came from JSON
	}
	return b
}

type merger struct {
	paths      object
	components object // kind → name → component
	ids        map[string]bool
}

func (m *merger) add(service string, doc object) {
	components, _ := doc["components"].(object)
	renamed := m.conflicts(service, components)
	doc, _ = rename(doc, renamed).(object)

	components, _ = doc["components"].(object)
	for kind, named := range components {
		all := child(m.components, kind)
		for name, c := range asObject(named) {
			if to, ok := renamed[reference(kind, name)]; ok {
				name = to[strings.LastIndexByte(to, '/')+1:]
			}
			all[name] = c
		}
	}
	for path, item := range asObject(doc["paths"]) {
		outside, ok := public(service, path)
		if !ok {
			continue
		}
		for _, op := range asObject(item) {
			m.addOperation(service, asObject(op), renamed)
		}
		m.paths[outside] = item
	}
}

// addOperation makes op one of many services': tagged with its own, and with an operationId that no other has.
func (m *merger) addOperation(service string, op object, renamed map[string]string) {
	if op == nil {
		return // a path item has more than operations
	}
	if id, ok := op["operationId"].(string); ok {
		if m.ids[id] {
			id = service + "-" + id
			op["operationId"] = id
		}
		m.ids[id] = true
	}
	if _, ok := op["responses"]; ok {
		op["tags"] = []any{service}
	}
	requirements, _ := op["security"].([]any)
	for _, r := range requirements {
		schemes := asObject(r)
		for _, name := range slices.Collect(maps.Keys(schemes)) {
			if to, ok := renamed[reference("securitySchemes", name)]; ok {
				schemes[to[strings.LastIndexByte(to, '/')+1:]] = schemes[name]
				delete(schemes, name)
			}
		}
	}
}

// conflicts finds the components of a service that differ from one of the same name that is there already, and gives each
// a new reference. A component that refers to a renamed one differs by that, so it goes on until nothing is added.
func (m *merger) conflicts(service string, components object) map[string]string {
	renamed := map[string]string{}
	for again := true; again; {
		again = false
		for kind, named := range components {
			all := asObject(m.components[kind])
			for name, c := range asObject(named) {
				ref := reference(kind, name)
				other, taken := all[name]
				if _, done := renamed[ref]; done || !taken || reflect.DeepEqual(other, rename(c, renamed)) {
					continue
				}
				renamed[ref] = reference(kind, freeName(all, asObject(named), service, name))
				again = true
			}
		}
	}
	return renamed
}

// reachable is the components that the paths refer to, and those refer to, with all security schemes. The others belong to
// operations that are not for outsiders.
func (m *merger) reachable() object {
	kept := object{}
	var follow func(v any)
	follow = func(v any) {
		switch v := v.(type) {
		case object:
			for _, x := range v {
				follow(x)
			}
		case []any:
			for _, x := range v {
				follow(x)
			}
		case string:
			rest, ok := strings.CutPrefix(v, componentsRef)
			kind, name, _ := strings.Cut(rest, "/")
			c, there := asObject(m.components[kind])[name]
			if !ok || !there {
				return
			}
			if _, done := asObject(kept[kind])[name]; !done {
				child(kept, kind)[name] = c
				follow(c)
			}
		}
	}
	follow(m.paths)
	if schemes, ok := m.components["securitySchemes"]; ok {
		kept["securitySchemes"] = schemes
	}
	return kept
}

// freeName is name led by the service's, and by that again should it be taken.
func freeName(taken, own object, service, name string) string {
	lead := strings.ToUpper(service[:1]) + service[1:]
	for {
		name = lead + name
		_, a := taken[name]
		_, b := own[name]
		if !a && !b {
			return name
		}
	}
}

const componentsRef = "#/components/"

func reference(kind, name string) string { return componentsRef + kind + "/" + name }

// rename is a copy of v in which references to what was renamed follow it.
func rename(v any, renamed map[string]string) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for key, x := range v {
			out[key] = rename(x, renamed)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = rename(x, renamed)
		}
		return out
	case string: // of $ref, or of a discriminator's mapping
		if to, ok := renamed[v]; ok {
			return to
		}
		return v
	default:
		return v
	}
}

func asObject(v any) object {
	o, _ := v.(object)
	return o
}

// child is the object under key, made if it is not there.
func child(o object, key string) object {
	c := asObject(o[key])
	if c == nil {
		c = object{}
		o[key] = c
	}
	return c
}
