package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Report is what came of a campaign.
type Report struct {
	seed       uint64
	length     time.Duration
	lasted     time.Duration
	deals      map[string]map[verdict]int // by kind
	texts      map[string]int             // what clients were told besides that it is done
	outcomes   map[string]int             // of transactions
	kills      map[deed]int
	points     map[string]int // deaths at each
	disturbed  map[string]int // messages, by fate
	recoveries []time.Duration
	longest    time.Duration // that a branch was in doubt
	rest       time.Duration
	lost       int64
	created    int64
	inDoubt    int64
	violations []violation
	stories    []string          // of the transactions that are wrong
	diaries    map[string]string // of the customers whose account is wrong
	runDir     string
	planted    bool // a bug was
}

func (c *campaign) newReport() *Report {
	r := &Report{
		seed: c.cfg.Seed, length: c.cfg.Length, lasted: c.lasted, runDir: c.cfg.RunDir, planted: c.cfg.Mutant != nil,
		deals: map[string]map[verdict]int{}, texts: map[string]int{}, outcomes: map[string]int{}, diaries: map[string]string{},
	}
	for _, d := range c.deals() {
		if r.deals[d.kind] == nil {
			r.deals[d.kind] = map[verdict]int{}
		}
		r.deals[d.kind][d.verdict()]++
		for _, a := range d.answers {
			if a.verdict != done {
				r.texts[a.text]++
			}
		}
	}
	return r
}

// Sound reports whether nothing was wrong.
func (r *Report) Sound() bool { return len(r.violations) == 0 }

// Kills is how many processes were killed, PostgreSQL and Consul among them.
func (r *Report) Kills() (n int) {
	for how, k := range r.kills {
		if how != hang {
			n += k
		}
	}
	for _, k := range r.points {
		n += k
	}
	return n
}

// Transfers is how many transactions across services were settled.
func (r *Report) Transfers() (n int) {
	for _, k := range r.outcomes {
		n += k
	}
	return n
}

// Print writes the report for a person, without its closing line, and with details of at most so many of the things that
// are wrong.
func (r *Report) Print(w io.Writer, most int) {
	fmt.Fprintf(w, "seed %d, %s of faults\n", r.seed, r.lasted.Round(100*time.Millisecond))
	fmt.Fprintf(w, "asked for:")
	for _, kind := range slices.Sorted(maps.Keys(r.deals)) {
		d := r.deals[kind]
		fmt.Fprintf(w, "  %s %d done, %d refused, %d unknown when the faults ended;", kind, d[done], d[refused], d[unknown])
	}
	fmt.Fprintf(w, "\ntransactions: %s\n", counts(r.outcomes))
	fmt.Fprintf(w, "answers other than done: %s\n", counts(r.texts))
	fmt.Fprintf(w, "killed from outside: %s\n", counts(r.kills))
	fmt.Fprintf(w, "killed at a point: %s\n", counts(r.points))
	fmt.Fprintf(w, "messages disturbed: %s\n", counts(r.disturbed))
	fmt.Fprintf(w, "in doubt at the longest %.1fs; at rest %.1fs after the faults\n", r.longest.Seconds(), r.rest.Seconds())
	for i, v := range r.violations {
		if i == most {
			fmt.Fprintf(w, "WRONG: and %d more\n", len(r.violations)-most)
			break
		}
		fmt.Fprintf(w, "WRONG: %s\n", v.what)
	}
	for _, s := range r.stories[:min(len(r.stories), most)] {
		fmt.Fprintln(w, s)
	}
	for _, who := range slices.Sorted(maps.Keys(r.diaries)) {
		fmt.Fprintln(w, r.diaries[who])
	}
	if !r.Sound() && !r.planted {
		fmt.Fprintf(w, "the logs are in %s/logs; run it again with CHAOS_SEED=%d CHAOS_SECONDS=%.0f make chaos\n", r.runDir, r.seed, r.length.Seconds())
	}
}

// Close writes the closing line.
func (r *Report) Close(w io.Writer) {
	slices.Sort(r.recoveries)
	var p50, most time.Duration
	if n := len(r.recoveries); n > 0 {
		p50, most = r.recoveries[n/2], r.recoveries[n-1]
	}
	fmt.Fprintf(w, "chaos: seed=%d transfers=%d kills=%d lost=%d created=%d in_doubt=%d recovery_p50_s=%.2f recovery_max_s=%.2f\n",
		r.seed, r.Transfers(), r.Kills(), r.lost, r.created, r.inDoubt, p50.Seconds(), most.Seconds())
}

func counts[K ~string](m map[K]int) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(all, ", ")
}

// line is what the processes log of their own faults.
type line struct {
	Time                          time.Time
	Msg, Point, Fate, Path, To    string
	Key, Level, Error, GID, Asked string
	instance                      string
}

// lines gives each line of the logs that could be of interest to take.
func lines(runDir string, take func(line, string)) error {
	logs, err := filepath.Glob(filepath.Join(runDir, "logs", "*.log"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		scan := bufio.NewScanner(f)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			var l line
			if json.Unmarshal(scan.Bytes(), &l) == nil { // a line cut short by a kill is nobody's
				l.instance = strings.TrimSuffix(filepath.Base(path), ".log")
				take(l, scan.Text())
			}
		}
		if err := errors.Join(scan.Err(), f.Close()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	return nil
}

// readLogs counts deaths by point and disturbed messages by fate.
func readLogs(runDir string) (points, disturbed map[string]int, err error) {
	points, disturbed = map[string]int{}, map[string]int{}
	err = lines(runDir, func(l line, _ string) {
		switch l.Msg {
		case "crash point":
			points[l.Point]++
		case "message disturbed":
			disturbed[l.Fate]++
		}
	})
	return points, disturbed, err
}

// explain tells the story of some transactions that are wrong: the register's timeline, the branches, and what the logs say.
func (j *judgment) explain(ctx context.Context) error {
	const most = 3
	j.report.recoveries, j.report.longest = j.watch.settled(), j.watch.longestDoubt()
	told := map[uuid.UUID]bool{uuid.Nil: true}
	for _, v := range j.report.violations {
		if told[v.gid] || len(told) > most {
			continue
		}
		told[v.gid] = true
		story, err := j.story(ctx, v.gid)
		if err != nil {
			return err
		}
		j.report.stories = append(j.report.stories, story)
	}
	return nil
}

func (j *judgment) story(ctx context.Context, gid uuid.UUID) (string, error) {
	decided, err := j.decisions(ctx, "WHERE gid = $1", gid)
	if err != nil {
		return "", err
	}
	branches, err := j.branches(ctx, "WHERE gid = $1", gid)
	if err != nil {
		return "", err
	}
	type entry struct {
		at   time.Time
		text string
	}
	var story []entry
	for _, e := range decided[gid].Timeline {
		story = append(story, entry{e.At, strings.TrimSpace(strings.Join([]string{e.Instance, "notes", e.Event, e.Service, e.Detail}, " "))})
	}
	for _, b := range branches {
		story = append(story, entry{b.PreparedAt, fmt.Sprintf("%s begins branch %d %s, which is now %s", b.Service, b.Branch, b.Action, b.State)})
	}
	err = lines(j.cfg.RunDir, func(l line, text string) {
		if strings.Contains(text, gid.String()) {
			story = append(story, entry{l.Time, l.instance + " logs " + text})
		}
	})
	slices.SortStableFunc(story, func(a, b entry) int { return a.at.Compare(b.at) })
	var out strings.Builder
	fmt.Fprintf(&out, "transaction %s, in the register %q:\n", gid, decided[gid].Outcome)
	for _, e := range story {
		fmt.Fprintf(&out, "  %s %s\n", e.at.UTC().Format(clock), e.text)
	}
	return out.String(), err
}
