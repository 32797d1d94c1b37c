package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"souk/deploy/local"
)

// Mutant is a bug in the protocol, planted to see the campaign catch it. It exists in the processes of one campaign only:
// the compiler is given other sources (go build -overlay), and those in the working copy stay as they are.
type Mutant struct {
	Name  string
	file  string // in the working copy
	right string // stands in it once
	wrong string // stands there instead
}

// Mutants are three mistakes that two-phase commit is there to prevent.
func Mutants() []*Mutant {
	return []*Mutant{
		{
			Name: "decide-before-all-votes",
			file: "services/coordinator/machine.go",
			right: `	if slices.ContainsFunc(m.branches, func(b branch) bool { return b.vote != yes }) {
		return nil
	}`,
			wrong: `	if !slices.ContainsFunc(m.branches, func(b branch) bool { return b.vote == yes }) {
		return nil
	}`,
		},
		{
			Name: "forget-the-tombstone",
			file: "shared/twopc/participant.go",
			right: `		first, err := insert(tx.DB, row{GID: d.GID, Branch: d.Branch, State: Aborted, FinishedAt: now(p)})
		if err != nil || first {
			return Aborted, err
		}`,
			wrong: `		if _, err := find(tx.DB, d.GID, d.Branch); errors.Is(err, gorm.ErrRecordNotFound) {
			return Aborted, nil
		}`,
		},
		{
			Name: "commit-before-it-is-on-disk",
			file: "services/coordinator/driver.go",
			right: `	crash.At(before)
	r, err := s.decide(ctx, d, lazily)
`,
			wrong: `	crash.At(before)
	r, err := ruling{truth: verdict{d.GID, d.Outcome, d.Reason, d.Digest}}, error(nil)
	if d.Outcome == coordinator.Committed {
		time.AfterFunc(50*time.Millisecond, func() { _, _ = s.decide(context.WithoutCancel(ctx), d, lazily) })
	} else {
		r, err = s.decide(ctx, d, lazily)
	}
`,
		},
	}
}

// plant writes the wrong source and the overlay into dir, and gives the overlay.
func (m *Mutant) plant(dir string) (string, error) {
	root, err := local.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, filepath.FromSlash(m.file))
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text, err := m.mutate(string(source))
	if err != nil {
		return "", err
	}
	instead := filepath.Join(dir, m.Name+".go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: instead}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(instead, []byte(text), 0o600); err != nil {
		return "", err
	}
	file := filepath.Join(dir, m.Name+".json")
	return file, os.WriteFile(file, overlay, 0o600)
}

func (m *Mutant) mutate(source string) (string, error) {
	if strings.Count(source, m.right) != 1 {
		return "", fmt.Errorf("the mutant %s is not at home in %s any more: find where it belongs now", m.Name, m.file)
	}
	return strings.Replace(source, m.right, m.wrong, 1), nil
}
