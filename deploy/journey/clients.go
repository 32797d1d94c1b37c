package journey

import (
	"fmt"
	"strings"
)

// IntelliJ is the journey in the syntax of the HTTP client of JetBrains' IDEs, which does not know answers by name: a script
// after a request keeps what later ones need, and checks the answer.
func (f *File) IntelliJ() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n# Written by `make openapi` from deploy/http/%s.http: change that.\n", f.Intro, f.Name)
	for _, r := range f.Requests {
		fmt.Fprintf(&b, "\n### %s\n%s %s\n", r.Title, r.Method, intelliJ(r.URL))
		for _, h := range r.Headers {
			fmt.Fprintf(&b, "%s: %s\n", h.Name, intelliJ(h.Value))
		}
		if r.Body != "" {
			fmt.Fprintf(&b, "\n%s\n", intelliJ(r.Body))
		}
		fmt.Fprintf(&b, "\n> {%%\n  client.test(\"answers %d\", () => client.assert(response.status === %d, \"status \" + response.status));\n", r.Status, r.Status)
		for _, path := range f.Uses(r.Name) {
			fmt.Fprintf(&b, "  client.global.set(%q, response.body%s);\n", kept(r.Name, path), path[1:])
		}
		b.WriteString("%}\n")
	}
	return b.String()
}

// intelliJ takes our variables for theirs.
func intelliJ(s string) string {
	return Resolve(s, func(name, path string) string {
		word, _, _ := strings.Cut(name, " ")
		switch {
		case path != "":
			return "{{" + kept(name, path) + "}}"
		case word == "$guid":
			return "{{$uuid}}"
		default:
			return "{{" + word + "}}"
		}
	})
}

// kept is the name under which a client keeps what the answer called name has at path.
func kept(name, path string) string {
	return name + strings.NewReplacer("$", "", ".", "_", "[", "_", "]", "").Replace(path)
}
