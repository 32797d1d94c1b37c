package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// brokenDepth bounds the search in the broken variants, so that the trace it finds is short enough to read. A search
// that is cut short proves nothing about a good protocol, but an error that it finds is an error.
const brokenDepth = 85

// Model checks the model of two-phase commit in deploy/model with spin: as it is, and broken in two ways that must be
// found. It closes with "model: states=… errors=… broken_variants_caught=2", where the states are those of the model as
// it is. Returns ErrTold unless that one is right and both others are caught.
func Model(ctx context.Context, cfg Config) (err error) {
	var good checked
	caught := 0
	if err := cfg.complete(); err != nil {
		return err
	}
	broken := []string{"NO_REGISTER", "NO_FENCE"}
	defer func() {
		if err != nil {
			fmt.Fprintln(cfg.Log, err)
			good.errors = max(good.errors, 1) // what could not be checked is not known to be right
		}
		if err != nil || good.errors > 0 || caught < len(broken) {
			err = ErrTold
		}
		fmt.Fprintf(cfg.Log, "model: states=%d errors=%d broken_variants_caught=%d\n", good.states, good.errors, caught)
	}()

	if err := Spin(ctx, cfg.Log); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "souk-model-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m := model{source: filepath.Join(cfg.Root, "deploy", "model", "twopc.pml"), dir: dir, log: cfg.Log}

	good, err = m.check(ctx, "LIVENESS", "-a", "-N", "ends", "-m10000")
	if err == nil && good.errors == 0 && !good.whole {
		err = errors.New("the search was cut short")
	}
	if err != nil {
		return fmt.Errorf("check the model: %w", err)
	}
	if good.errors > 0 {
		return m.tell(ctx, "LIVENESS")
	}
	for _, variant := range broken {
		c, err := m.check(ctx, variant, "-m"+strconv.Itoa(brokenDepth))
		if err != nil {
			return fmt.Errorf("check the model with %s: %w", variant, err)
		}
		if c.violated == 0 {
			fmt.Fprintf(cfg.Log, "%s was not caught\n", variant)
			continue
		}
		caught++
		if err := m.tell(ctx, variant); err != nil {
			return err
		}
	}
	return nil
}

// model is a Promela source and the folder in which it is checked.
type model struct {
	source, dir string
	log         io.Writer
}

// check searches every state of a variant, which is named by the macro that makes it.
func (m model) check(ctx context.Context, variant string, flags ...string) (checked, error) {
	begin := time.Now()
	if _, err := m.run(ctx, "spin", "-a", "-D"+variant, m.source); err != nil {
		return checked{}, err
	}
	// 4 GB are ten times what it takes. The search runs beside other work, hence nice.
	compile := []string{"-w", "-DMEMLIM=4000", "-o", "pan", "pan.c", "-O2", "-DNOFAIR"}
	if variant != "LIVENESS" {
		compile = append(compile[:len(compile)-2], "-DSAFETY") // found in no time
	}
	if _, err := m.run(ctx, "gcc", compile...); err != nil {
		return checked{}, err
	}
	out, err := m.run(ctx, "./pan", flags...)
	if err != nil {
		return checked{}, err
	}
	c, err := parsePan(out)
	fmt.Fprintf(m.log, "%-12s %d states, %d errors, %s\n", variant, c.states, c.errors, since(begin))
	return c, err
}

// tell prints the steps that lead to the error that check has found in a variant.
func (m model) tell(ctx context.Context, variant string) error {
	trail := filepath.Join(m.dir, filepath.Base(m.source)+".trail")
	out, err := m.run(ctx, "spin", "-k", trail, "-T", "-D"+variant, m.source)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "spin:") || strings.HasPrefix(line, "#processes") {
			break
		}
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(m.log, "    "+line)
		}
	}
	return nil
}

// run gives what a program prints. Spin and its checkers end with a status of their own making, which says little; a
// compiler's counts.
func (m model) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nice", append([]string{program}, args...)...)
	cmd.Dir = m.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended && ctx.Err() == nil && program != "gcc" {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", program, errors.Join(err, ctx.Err()), out.String())
	}
	return out.String(), nil
}

// checked is what a search has found.
type checked struct {
	states   int
	errors   int
	violated int  // of the errors, assertions
	whole    bool // every state was seen
}

var (
	panStates = regexp.MustCompile(`(?m)^ *([0-9]+) states, stored`)
	panErrors = regexp.MustCompile(`(?m)^State-vector .*, errors: ([0-9]+)$`)
)

// parsePan reads the report of a checker made by spin.
func parsePan(report string) (checked, error) {
	states, errs := panStates.FindStringSubmatch(report), panErrors.FindStringSubmatch(report)
	if states == nil || errs == nil {
		return checked{}, fmt.Errorf("the checker did not report:\n%s", report)
	}
	var c checked
	var err1, err2 error
	c.states, err1 = strconv.Atoi(states[1])
	c.errors, err2 = strconv.Atoi(errs[1])
	c.violated = strings.Count(report, "assertion violated ")
	c.whole = !strings.Contains(report, "Search not completed") && !strings.Contains(report, "max search depth too small")
	return c, errors.Join(err1, err2)
}
