package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"souk/deploy/local"
	"souk/shared/testkit"
)

// errBars says that a bar was missed; which one is in the table.
var errBars = errors.New("a bar was missed")

// row is one line of the matrix.
type row struct {
	name, does string
	run        func(context.Context, *trial) error
}

func rows() []row {
	return []row{
		{"kill", "kill -9 one of 3 under 300 GET/s, start it again", killOne},
		{"post", "kill -9 two of 3 in turn under 300 POST/s without a key", killUnderPost},
		{"fast500", "one of 3 answers 500 at once, 300 GET/s", failFast},
		{"hang", "one of 3 takes calls and never answers, then another is stopped (SIGSTOP), 300 GET/s", hangOne},
		{"slow", "one of 3, then two of 4 are 60 times slower, 300 GET/s", slowDown},
		{"innocent", "2000 answers of 4xx, 1000 calls given up by their caller", blameless},
		{"outage", "a service refuses two calls of five, then all of them, then is well again", wholeService},
		{"hops", "the last of three services in a row refuses, 300 GET/s at the first", threeHops},
		{"deadline", "calls through three services; clients that go away", deadlines},
		{"rolling", "every service of the shop and 3 nodes are restarted three times, one instance at a time, under POSTs", rolling},
		{"consul", "Consul is killed, stopped, replaced by an empty one, and left without a leader, 100 calls/s", loseConsul},
		{"cold", "the caller and one of 3 are killed and start while Consul is away", coldStart},
		{"odd", "probes that hang, a flapping node, one instance only, none at all, a hundred that join at once", oddities},
	}
}

// run runs the rows, all of them if none is selected, and prints the matrix.
func run(ctx context.Context, selected []string, seed uint64, out io.Writer) (err error) {
	all := rows()
	for _, name := range selected {
		if !slices.ContainsFunc(all, func(r row) bool { return r.name == name }) {
			return fmt.Errorf("there is no row %q", name)
		}
	}
	root, err := local.Root()
	if err != nil {
		return err
	}
	if _, err := local.Tool(ctx, root, "consul", os.Stderr); err != nil {
		return err
	}
	dir := filepath.Join(root, ".souk", "chaos-mesh")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	consul, err := testkit.StartConsul(ctx, testkit.ConsulConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consul.Stop(context.WithoutCancel(ctx))) }()

	fmt.Fprintf(out, "chaos-mesh: seed %d, logs in %s\n", seed, dir)
	fmt.Fprintf(out, "%-9s %7s %9s %9s %9s %9s %11s %6s\n", "row", "calls", "success", "p99 ms", "healthy", "recovery", "goroutines", "files")
	ran, passed := 0, 0
	for i, r := range all {
		if len(selected) > 0 && !slices.Contains(selected, r.name) {
			continue
		}
		ran++
		t := &trial{row: r, world: world{consul: consul.Addr, dir: dir, seed: seed + uint64(i)<<32}}
		if err := t.try(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.fail(err)
		}
		if t.print(out) {
			passed++
		}
		if err := t.record(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "chaos-mesh: rows=%d passed=%d\n", ran, passed)
	if passed < ran {
		return errBars
	}
	return nil
}

// trial is one run of a row, and what it found.
type trial struct {
	world
	row
	took     time.Duration
	healthy  samples // before the fault
	during   samples // while it lasted, and after
	recovery time.Duration
	checks   []check
	leaked   usage
}

type check struct {
	what string
	text string
	met  bool
}

func (t *trial) try(ctx context.Context) (err error) {
	begin := time.Now()
	defer func() {
		t.took = time.Since(begin)
		err = errors.Join(err, t.tearDown(context.WithoutCancel(ctx)))
	}()
	return t.row.run(ctx, t)
}

// atMost and atLeast hold something against its bar.
func (t *trial) atMost(what string, got, bar float64, unit string) {
	t.checks = append(t.checks, check{what, fmt.Sprintf("%s%s (at most %s%s)", number(got), unit, number(bar), unit), got <= bar})
}

func (t *trial) atLeast(what string, got, bar float64, unit string) {
	t.checks = append(t.checks, check{what, fmt.Sprintf("%s%s (at least %s%s)", number(got), unit, number(bar), unit), got >= bar})
}

func number(v float64) string { return fmt.Sprintf("%.5g", v) }

// fail notes that the row could not be carried through.
func (t *trial) fail(err error) {
	t.checks = append(t.checks, check{"carried through", err.Error(), false})
}

// print prints the row and what was held against its bars, and reports whether all of it was met.
func (t *trial) print(out io.Writer) bool {
	met := !slices.ContainsFunc(t.checks, func(c check) bool { return !c.met }) && len(t.checks) > 0
	verdict := "passed"
	if !met {
		verdict = "FAILED"
	}
	fmt.Fprintf(out, "%-9s %7d %8.3f%% %9.1f %9.1f %8.2fs %+11d %+6d   %s in %.0f s: %s\n", t.name, len(t.during), 100*t.during.success(),
		ms(t.during.p99()), ms(t.healthy.p99()), t.recovery.Seconds(), t.leaked.goroutines, t.leaked.files, verdict, t.took.Seconds(), t.does)
	for _, c := range t.checks {
		mark := "  "
		if !c.met {
			mark = "!!"
		}
		fmt.Fprintf(out, "       %s %s: %s\n", mark, c.what, c.text)
	}
	return met
}

// record leaves the calls of the row beside the logs, for whoever wants to know which were slow, or failed, and when.
func (t *trial) record() error {
	f, err := os.Create(filepath.Join(t.dir, t.name+".calls"))
	if err != nil {
		return err
	}
	defer f.Close()
	all := append(t.healthy[:len(t.healthy):len(t.healthy)], t.during...)
	if len(all) == 0 {
		return nil
	}
	begin := all.first().Began
	w := bufio.NewWriter(f)
	for _, c := range all {
		fmt.Fprintf(w, "%10.1f ms %9.1f ms %-12s %s\n", float64(c.Began-begin)/1000, ms(c.Took), c.Result, c.Instance)
	}
	return w.Flush()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
