package coordinator

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/twopc"

	"pgregory.net/rapid"
)

// Each file of testdata is a conversation with the machine: "event -> actions" per line, after a line "branches N".
func TestMachine_transcripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(file) //nolint:gosec // a file of testdata
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var m *machine
			for line, lines := 1, bufio.NewScanner(f); lines.Scan(); line++ {
				text := strings.TrimSpace(lines.Text())
				switch n, isSize := strings.CutPrefix(text, "branches "); {
				case text == "" || strings.HasPrefix(text, "#"):
				case isSize:
					size, err := strconv.Atoi(n)
					if err != nil {
						t.Fatal(err)
					}
					m = newMachine(size)
				default:
					said, want, _ := strings.Cut(text, "->")
					if got := written(m.step(read(t, said))); got != strings.TrimSpace(want) {
						t.Errorf("%s:%d: %s\ngot  %s\nwant %s", file, line, said, got, want)
					}
				}
			}
		})
	}
}

func read(t *testing.T, line string) event {
	t.Helper()
	words := strings.Fields(line)
	kinds := map[string]eventKind{
		"begun": begun, "yes": votedYes, "done": votedDone, "no": votedNo, "lost": voteLost, "time-up": timeUp, "registered": registered,
		"register-lost": registerLost, "finished": finished, "finish-lost": finishLost,
	}
	kind, ok := kinds[words[0]]
	if !ok {
		t.Fatalf("no event %q", words[0])
	}
	e := event{kind: kind}
	for _, w := range words[1:] {
		if n, err := strconv.Atoi(w); err == nil {
			e.branch = n
		} else if kind == registered {
			e.state = coordinator.State(w)
		} else if kind == finished {
			e.done = twopc.BranchState(w)
		} else {
			e.reason = fault.New(fault.Conflict, w, "%s", w).Problem()
		}
	}
	return e
}

func written(actions []action) string {
	names := []string{"prepare", "prepare-one", "decide", "remember", "answer", "finish", "complete", "leave"}
	out := make([]string, len(actions))
	for i, a := range actions {
		s := names[a.kind]
		switch a.kind {
		case prepare:
			s += fmt.Sprint(" ", a.branch)
		case finish:
			s += fmt.Sprint(" ", a.branch, " ", a.state)
		case decide, remember, answer:
			s += fmt.Sprint(" ", a.state)
		}
		if a.reason != nil {
			s += " (" + a.reason.Code + ")"
		}
		if a.lazily {
			s += " lazily"
		}
		if a.kind == decide {
			s += fmt.Sprint(" tell ", a.tell)
		}
		if a.heuristic {
			s += " heuristic"
		}
		out[i] = s
	}
	return strings.Join(out, ", ")
}

// Whatever comes in whatever order: a commit is decided only after all have voted yes, decided at most once, answered at
// most once, and never told before the register has said so.
func TestMachine_neverCommitsWithoutEverybodysYes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(t, "branches")
		m := newMachine(n)
		said := make([]bool, n)
		decides, answers := 0, 0
		var register coordinator.State
		m.step(event{kind: begun})
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			e := event{
				kind:   rapid.SampledFrom([]eventKind{votedYes, votedYes, votedYes, votedNo, voteLost, timeUp, registered, registerLost, finished, finishLost}).Draw(t, "kind"),
				branch: rapid.IntRange(0, n-1).Draw(t, "branch"), reason: fault.New(fault.Conflict, "x", "x").Problem(),
				done: rapid.SampledFrom([]twopc.BranchState{twopc.Committed, twopc.Aborted, twopc.Refused, ""}).Draw(t, "done"),
			}
			if e.kind == registered {
				if register == "" {
					continue // it speaks only when asked
				}
				e.state = register
			}
			said[e.branch] = said[e.branch] || e.kind == votedYes
			for _, a := range m.step(e) {
				switch a.kind {
				case decide:
					decides++
					if a.state == coordinator.Committed && slices.Contains(said, false) {
						t.Fatal("commit decided without everybody's yes")
					}
					register = rapid.SampledFrom([]coordinator.State{a.state, coordinator.Aborted}).Draw(t, "register") // another may have been first
				case answer:
					answers++
					if a.state != coordinator.Pending && a.state != register {
						t.Fatalf("answered %s, the register says %q", a.state, register)
					}
				case finish:
					if a.state != register {
						t.Fatalf("told %s, the register says %q", a.state, register)
					}
				}
			}
		}
		if decides > 1 || answers > 1 {
			t.Fatalf("decided %d times, answered %d times", decides, answers)
		}
	})
}
