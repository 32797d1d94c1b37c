package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// document is a Markdown file.
type document struct {
	path    string // from the root
	scripts []script
	links   []string
}

// script is the commands of one block, or one command in the text.
type script struct {
	commands []string
	notRun   string // why, if the document says so
}

var (
	fence  = regexp.MustCompile("^\\s*```\\s*(\\w*)")
	span   = regexp.MustCompile("`([^`]+)`")
	inline = regexp.MustCompile(`^(make|docker|kubectl|kind|go|git|npm|curl) [^\s]|^\.souk/bin/|^deploy/[\w/.-]+\.sh\b`)
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notRun = regexp.MustCompile(`^\s*<!-- not run: (.+?) -->`)
)

// documentsIn are all Markdown files under dir: the README first, then the others by path.
func documentsIn(dir string) ([]document, error) {
	var documents []document
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".souk" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(tree, path)
		if err == nil {
			documents = append(documents, parse(path, string(text)))
		}
		return err
	})
	slices.SortStableFunc(documents, func(a, b document) int {
		if d := strings.Count(a.path, "/") - strings.Count(b.path, "/"); d != 0 {
			return d
		}
		return strings.Compare(b.path, a.path) // README before CONTRIBUTING
	})
	return documents, err
}

// parse finds the commands of a document, in their order, and its links.
func parse(path, text string) document {
	d := document{path: path}
	var block *script
	var why, language string
	inBlock := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := notRun.FindStringSubmatch(line); m != nil {
			why = m[1]
			continue
		}
		if m := fence.FindStringSubmatch(line); m != nil {
			if inBlock && block != nil {
				d.add(*block)
			}
			inBlock, block, language = !inBlock, nil, m[1]
			if inBlock && (language == "sh" || language == "bash" || language == "shell" || language == "console") {
				block = &script{notRun: why}
			}
			why = ""
			continue
		}
		switch {
		case block != nil:
			block.line(line)
		case !inBlock:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				if inline.MatchString(m[1]) {
					d.add(script{commands: []string{m[1]}, notRun: why})
				}
			}
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				d.links = append(d.links, m[1])
			}
		}
	}
	return d
}

func (d *document) add(s script) {
	if len(s.commands) > 0 {
		d.scripts = append(d.scripts, s)
	}
}

// line adds a line of a block: a command, or the rest of the one before, which an open bracket, a quote or a backslash
// leaves unfinished.
func (s *script) line(line string) {
	line = strings.TrimSpace(line)
	line = strings.TrimPrefix(line, "$ ")
	if n := len(s.commands); n > 0 && unfinished(s.commands[n-1]) {
		s.commands[n-1] += "\n" + line
		return
	}
	if line != "" && !strings.HasPrefix(line, "#") {
		s.commands = append(s.commands, line)
	}
}

func unfinished(command string) bool {
	if before, comment, _ := strings.Cut(command, " #"); !strings.Contains(comment, "\n") {
		command = before
	}
	return strings.HasSuffix(command, "\\") || strings.Count(command, "{") > strings.Count(command, "}") || strings.Count(command, "'")%2 != 0
}

// deadLinks are the links to files that are not there.
func (d *document) deadLinks(root string) []string {
	var dead []string
	for _, l := range d.links {
		path, _, _ := strings.Cut(l, "#")
		if path == "" || strings.Contains(path, ":") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, filepath.Dir(d.path), path)); err != nil {
			dead = append(dead, l)
		}
	}
	return dead
}
