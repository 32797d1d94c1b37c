package peer

import (
	_ "embed" // the table
	"fmt"
	"slices"
	"strings"
)

//go:embed calls.table
var shop string

// internal is the beginning of the routes that are not for the gateway to call.
const internal = "/internal/"

// Table says who may call what. It never changes, so it may be used concurrently. The zero value allows nothing.
type Table struct{ lines []line }

type line struct {
	caller, callee string // the caller * is everybody
	routes         []string
}

// Calls is the shop's table, with further lines of the same form: a service that is not the shop's, such as a benchmark's,
// brings its own.
func Calls(further string) (Table, error) {
	var t Table
	for text := range strings.Lines(shop + "\n" + further) {
		text, _, _ = strings.Cut(text, "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) < 3 || slices.ContainsFunc(words[2:], func(w string) bool { return w != "public" && w[0] != '/' }) {
			return Table{}, fmt.Errorf("the call table has a line that is not caller, called and routes: %q", text)
		}
		t.lines = append(t.lines, line{words[0], words[1], words[2:]})
	}
	return t, nil
}

func (l line) of(caller, callee string) bool {
	return l.callee == callee && (l.caller == caller || l.caller == "*")
}

// Knows tells whether caller may call callee at all.
func (t Table) Knows(caller, callee string) bool {
	return slices.ContainsFunc(t.lines, func(l line) bool { return l.of(caller, callee) })
}

// May tells whether caller may call that route of callee, by its template.
func (t Table) May(caller, callee, route string) bool {
	return slices.ContainsFunc(t.lines, func(l line) bool {
		return l.of(caller, callee) && slices.ContainsFunc(l.routes, func(allowed string) bool { return covers(allowed, route) })
	})
}

// Unused gives those of a service's internal routes that nobody may call.
func (t Table) Unused(callee string, routes []string) (unused []string) {
	for _, route := range routes {
		if strings.HasPrefix(route, internal) && !slices.ContainsFunc(t.lines, func(l line) bool { return t.May(l.caller, callee, route) }) {
			unused = append(unused, route)
		}
	}
	return unused
}

func covers(allowed, route string) bool {
	if allowed == "public" {
		return !strings.HasPrefix(route, internal)
	}
	if above, all := strings.CutSuffix(allowed, "*"); all {
		return strings.HasPrefix(route, above)
	}
	return allowed == route
}
