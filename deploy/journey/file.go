// Package journey reads the .http files of deploy/http, runs them against a shop, and writes them for other clients.
//
// The files are in the syntax of Visual Studio Code's REST Client: requests are parted by ###, a request with # @name gives
// its answer to later ones as {{name.response.body.$.path}}, and {{$guid}}, {{$timestamp}} and {{$randomInt 0 1000}} are
// made anew each time. A comment "# expect 201" names the status of the answer and "# expect $.path = text" a value in it,
// so that they can be checked. Nothing is ours but that, and clients skip it as a comment.
package journey

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// File is one journey.
type File struct {
	Name     string // of the file, without .http: buy-and-refund
	Intro    string // the comment it begins with
	Requests []Request
}

// Request is one request of a journey, its variables still in it.
type Request struct {
	Title   string
	Name    string // by which later requests refer to its answer; may be empty
	Method  string
	URL     string
	Headers []Header
	Body    string
	Status  int // of the answer
	Expect  []Value
}

// Header is a line of a request's head.
type Header struct{ Name, Value string }

// Value is what the answer has at Path, such as $.items[0].id, as text.
type Value struct{ Path, Want string }

// base is the address that the files' variable shop begins with.
const base = "http://127.0.0.1:8080"

var (
	variable    = regexp.MustCompile(`{{([^{}]+)}}`)
	requestLine = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (\S+)$`)
	fileVar     = regexp.MustCompile(`^@(\w+) = (.*)$`)
	reference   = regexp.MustCompile(`^(\w+)\.response\.body\.(\$\.[\w.\[\]]+)$`)
)

// ReadAll reads every .http file in dir, in the order of their names.
func ReadAll(dir string) ([]File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.http"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("there are no .http files in %s", dir)
	}
	var files []File
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := Parse(strings.TrimSuffix(filepath.Base(path), ".http"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Parse reads a journey. The file's own variable shop is resolved to {{base}}/api/v1; a name that no earlier request has, or
// a request that says nothing of its answer, is an error.
func Parse(name, text string) (File, error) {
	f := File{Name: name}
	head, rest, _ := strings.Cut(text, "\n### ")
	vars := map[string]string{}
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if m := fileVar.FindStringSubmatch(line); m != nil {
			vars[m[1]] = strings.Replace(m[2], base, "{{base}}", 1)
		} else if comment, ok := strings.CutPrefix(line, "# "); ok {
			f.Intro = strings.TrimSpace(f.Intro + " " + comment)
		}
	}
	known := map[string]bool{}
	for part := range strings.SplitSeq(rest, "\n### ") {
		r, err := parseRequest(part, vars, known)
		if err != nil {
			return f, fmt.Errorf("%q: %w", r.Title, err)
		}
		known[r.Name] = true
		f.Requests = append(f.Requests, r)
	}
	return f, nil
}

func parseRequest(text string, vars map[string]string, known map[string]bool) (Request, error) {
	for name, value := range vars {
		text = strings.ReplaceAll(text, "{{"+name+"}}", value)
	}
	head, body, _ := strings.Cut(strings.TrimSpace(text), "\n\n")
	var r Request
	for i, line := range strings.Split(head, "\n") {
		comment, isComment := strings.CutPrefix(line, "# ")
		name, value, isHeader := strings.Cut(line, ": ")
		switch {
		case i == 0:
			r.Title = strings.TrimSpace(line)
		case isComment:
			if err := r.comment(comment); err != nil {
				return r, err
			}
		case r.Method == "":
			m := requestLine.FindStringSubmatch(line)
			if m == nil {
				return r, fmt.Errorf("%q is no request", line)
			}
			r.Method, r.URL = m[1], m[2]
		case isHeader:
			r.Headers = append(r.Headers, Header{name, value})
		default:
			return r, fmt.Errorf("%q is no header", line)
		}
	}
	r.Body = strings.TrimSpace(body)
	if r.Status == 0 || r.Method == "" {
		return r, errors.New("it has no request, or does not say what it expects")
	}
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		ref := reference.FindStringSubmatch(m[1])
		if m[1] != "base" && !strings.HasPrefix(m[1], "$") && (ref == nil || !known[ref[1]]) {
			return r, fmt.Errorf("nothing before it gives {{%s}}", m[1])
		}
	}
	return r, nil
}

func (r *Request) comment(text string) error {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "@name":
		r.Name = rest
	case "expect":
		path, want, isValue := strings.Cut(rest, " = ")
		if isValue {
			r.Expect = append(r.Expect, Value{path, want})
			return nil
		}
		var err error
		r.Status, err = strconv.Atoi(rest)
		return err
	}
	return nil
}

// Resolve replaces every variable of s by what resolve gives for it: for a name, or for an answer's name and a path in it.
func Resolve(s string, resolve func(name, path string) string) string {
	return variable.ReplaceAllStringFunc(s, func(v string) string {
		v = strings.Trim(v, "{}")
		if m := reference.FindStringSubmatch(v); m != nil {
			return resolve(m[1], m[2])
		}
		return resolve(v, "")
	})
}

// Uses gives the paths of the answer of the request called name that f uses, each once, in their order.
func (f *File) Uses(name string) []string {
	var paths []string
	seen := map[string]bool{}
	for _, r := range f.Requests {
		text := r.URL + r.Body
		for _, h := range r.Headers {
			text += h.Value
		}
		for _, v := range r.Expect {
			text += v.Want
		}
		Resolve(text, func(n, path string) string {
			if n == name && path != "" && !seen[path] {
				seen[path] = true
				paths = append(paths, path)
			}
			return ""
		})
	}
	return paths
}
