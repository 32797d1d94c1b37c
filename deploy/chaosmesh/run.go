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
	"sync"
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

// rows are the matrix: first the rows that judge times, each alone on the machine; then those that count, beside the longest.
func rows() (alone, beside []row, longest row) {
	alone = []row{
		{"kill", "kill -9 one of 3 under 300 GET/s, start it again", killOne},
		{"post", "kill -9 two of 3 in turn under 300 POST/s without a key", killUnderPost},
		{"fast500", "one of 3 answers 500 at once, 300 GET/s", failFast},
		{"hang", "one of 3 takes calls and never answers, then another is stopped (SIGSTOP), 300 GET/s", hangOne},
		{"slow", "one of 3, then two of 4 are 60 times slower, 300 GET/s", slowDown},
		{"innocent", "2000 answers of 4xx, 1000 calls given up by their caller", blameless},
		{"outage", "a service refuses a quarter of its calls, then all of them, then is well again", wholeService},
		{"hops", "the last of three services in a row refuses, 300 GET/s at the first", threeHops},
		{"deadline", "calls through three services; clients that go away", deadlines},
	}
	beside = []row{
		{"consul", "Consul is killed, stopped, replaced by an empty one, and left without a leader, 100 calls/s", loseConsul},
		{"cold", "the caller and one of 3 are killed and start while Consul is away", coldStart},
		{"odd", "probes that hang, a flapping node, one instance only, none at all, a hundred that join at once", oddities},
	}
	return alone, beside, row{"rolling", "every service of the shop and 3 nodes are restarted three times, one instance at a time, under POSTs", rolling}
}

// run runs the rows, all of them if none is selected, and prints the matrix.
func run(ctx context.Context, selected []string, seed uint64, out io.Writer) (err error) {
	alone, beside, longest := rows()
	wanted := func(r row) bool { return len(selected) == 0 || slices.Contains(selected, r.name) }
	for _, name := range selected {
		if !slices.ContainsFunc(slices.Concat(alone, beside, []row{longest}), func(r row) bool { return r.name == name }) {
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

	fmt.Fprintf(out, "chaos-mesh: seed %d, logs and calls in %s\n", seed, dir)
	fmt.Fprintf(out, "%-9s %7s %9s %9s %9s %9s %11s %6s\n", "row", "calls", "success", "p99 ms", "healthy", "recovery", "goroutines", "files")
	var trials []*trial
	begin := func(r row) *trial {
		t := &trial{row: r, world: world{consul: consul.Addr, dir: dir, seed: seed + uint64(len(trials))<<32}}
		trials = append(trials, t)
		return t
	}
	inTurn := func(rows []row) {
		for _, r := range rows {
			if wanted(r) {
				t := begin(r)
				t.try(ctx)
				t.print(out)
			}
		}
	}
	inTurn(alone)
	var lane sync.WaitGroup
	if wanted(longest) {
		t := begin(longest)
		lane.Go(func() { t.try(ctx) })
		inTurn(beside)
		lane.Wait()
		t.print(out)
	} else {
		inTurn(beside)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	passed := 0
	for _, t := range trials {
		if t.passed() {
			passed++
		}
		if err := t.record(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "chaos-mesh: rows=%d passed=%d\n", len(trials), passed)
	if passed < len(trials) {
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

// try runs the row. What keeps it from being carried through is one of its checks.
func (t *trial) try(ctx context.Context) {
	begin := time.Now()
	err := t.row.run(ctx, t)
	if err = errors.Join(err, t.tearDown(context.WithoutCancel(ctx))); err != nil {
		t.fail(err)
	}
	t.took = time.Since(begin)
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

// passed says that something was held against a bar, and everything that was met it.
func (t *trial) passed() bool {
	return len(t.checks) > 0 && !slices.ContainsFunc(t.checks, func(c check) bool { return !c.met })
}

// print prints the row and what was held against its bars.
func (t *trial) print(out io.Writer) {
	verdict := "passed"
	if !t.passed() {
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
