package chaos

import (
	"os/exec"
	"path"
	"testing"
	"time"

	"souk/deploy/local"

	"github.com/google/go-cmp/cmp"
)

// A seed that fails must do the same again.
func TestSchedule_isDecidedByTheSeed(t *testing.T) {
	t.Parallel()
	script := func(seed uint64) (all []string) {
		s := newSchedule(seed, time.Minute)
		for _, st := range s.steps {
			all = append(all, st.String())
		}
		for _, c := range casts {
			for _, name := range c.names() {
				for nth := range 20 {
					all = append(all, s.start(name, nth).env("file")...)
				}
			}
		}
		return all
	}
	if diff := cmp.Diff(script(7), script(7)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(script(7), script(8)) {
		t.Error("two seeds make the same schedule")
	}
}

// Every kind of deed is done within half a minute, whatever the seed.
func TestSchedule_leavesNothingOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		seen := map[deed]bool{}
		for _, st := range newSchedule(seed, 30*time.Second).steps {
			seen[st.do] = true
		}
		for _, d := range []deed{kill, massacre, spare, hang, power, registry} {
			if !seen[d] {
				t.Errorf("seed %d has no %s", seed, d)
			}
		}
	}
}

// Every point of the protocol is one that some process is armed with.
func TestSchedule_armsEveryPoint(t *testing.T) {
	t.Parallel()
	for _, c := range casts {
		seen := map[string]bool{}
		for seed := range uint64(1000) {
			seen[newSchedule(seed, time.Second).start(c.names()[0], 0).point] = true
		}
		for _, p := range pointsOf(c.service) {
			if !seen[p] {
				t.Errorf("%s is never armed with %s", c.service, p)
			}
		}
	}
}

// Who changes what a mutant changes is told so here, and not by a campaign that finds nothing to plant.
func TestMutants_areAtHome(t *testing.T) {
	t.Parallel()
	root, err := local.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Mutants() {
		overlay, err := m.plant(t.TempDir())
		if err != nil {
			t.Error(err)
			continue
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./"+path.Dir(m.file))
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v:\n%s", m.Name, err, out)
		}
	}
}
