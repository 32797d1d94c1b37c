package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"souk/shared/testkit"
)

// TestConfig says which tests to run and how.
type TestConfig struct {
	Root     string   // of the working copy; empty looks for go.work
	Name     string   // the first word of the closing line; empty is "test"
	Packages []string // patterns; empty is every module of the workspace
	Flags    []string // further flags of go test
	Durable  bool     // fsync on: for tests that kill servers and look at what survived
	Log      io.Writer
}

// Test starts a PostgreSQL and a Consul that every package shares, and runs the tests under the race detector, in random
// order. It reports packages as they end and the full output of what fails, and closes with two lines: how many passed
// and failed, and "test: packages=… passed=… failed=… seconds=…". Returns ErrTold unless everything passed.
func Test(ctx context.Context, cfg TestConfig) (err error) {
	shop := Config{Root: cfg.Root, Log: cfg.Log}
	if err := shop.complete(); err != nil {
		return err
	}
	cfg.Root, cfg.Log = shop.Root, shop.Log
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	begin := time.Now()
	report := testReport{log: cfg.Log, tests: map[testKey]*testOutput{}}
	defer func() {
		if err != nil {
			fmt.Fprintln(cfg.Log, err)
			report.failed = max(report.failed, 1) // what kept the tests from running is a failure as well
			err = ErrTold
		}
		fmt.Fprintf(cfg.Log, "%d passed, %d failed\n", report.passed, report.failed)
		fmt.Fprintf(cfg.Log, "%s: packages=%d passed=%d failed=%d seconds=%.1f\n",
			cfg.Name, report.packages, report.passed, report.failed, time.Since(begin).Seconds())
	}()

	env, stop, err := startTestServers(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	packages := cfg.Packages
	if len(packages) == 0 {
		if packages, err = workspace(ctx, cfg.Root, "..."); err != nil {
			return err
		}
	}
	args := slices.Concat([]string{"test", "-json", "-race", "-count=1", "-shuffle=on", "-p", "2"}, cfg.Flags, packages)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = cfg.Root
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test ends its tests, too
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := report.read(stdout)
	err = cmd.Wait()
	if stderr.Len() > 0 {
		_, _ = stderr.WriteTo(cfg.Log)
	}
	if err != nil {
		err = fmt.Errorf("go test: %w", err)
	}
	return errors.Join(err, readErr)
}

// startTestServers gives the variables under which tests find the servers, and what stops those.
func startTestServers(ctx context.Context, cfg TestConfig) (env []string, stop func() error, err error) {
	if err := Postgres(ctx, cfg.Log); err != nil {
		return nil, nil, err
	}
	if _, err := Tool(ctx, cfg.Root, "consul", cfg.Log); err != nil {
		return nil, nil, err
	}
	postgres, err := testkit.StartPostgres(ctx, testkit.PostgresConfig{FsyncOff: !cfg.Durable, Log: cfg.Log})
	if err != nil {
		return nil, nil, err
	}
	consul, err := testkit.StartConsul(ctx, testkit.ConsulConfig{Log: cfg.Log})
	if err != nil {
		return nil, nil, errors.Join(err, postgres.Stop(ctx))
	}
	env = []string{"TEST_POSTGRES_URL=" + postgres.AdminURL("postgres"), "TEST_CONSUL_ADDR=" + consul.Addr}
	return env, func() error {
		ctx := context.WithoutCancel(ctx) // an interrupted run stops its servers as well
		return errors.Join(consul.Stop(ctx), postgres.Stop(ctx))
	}, nil
}

// testReport turns the events of `go test -json` into something to read.
type testReport struct {
	log                      io.Writer
	tests                    map[testKey]*testOutput
	packages, passed, failed int
}

// testKey names a test, or a package where Test is empty, or a build where only Build is set.
type testKey struct{ Package, Test, Build string }

// testOutput is what a test has printed, kept until it is known whether anybody wants to see it.
type testOutput struct {
	text   strings.Builder
	parent bool // it has subtests, which are counted in its place
	failed bool // a subtest failed
	count  int  // of a package: tests that ended
	broken int  // of a package: tests that failed
}

type testEvent struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
	Elapsed                                                float64
}

func (r *testReport) read(events io.Reader) error {
	scan := bufio.NewScanner(events)
	scan.Buffer(nil, 16<<20)
	for scan.Scan() {
		var e testEvent
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			fmt.Fprintln(r.log, scan.Text()) // not an event: the go command itself has something to say
			continue
		}
		r.take(e)
	}
	return scan.Err()
}

func (r *testReport) at(k testKey) *testOutput {
	o := r.tests[k]
	if o == nil {
		o = &testOutput{}
		r.tests[k] = o
	}
	return o
}

func (r *testReport) take(e testEvent) {
	key := testKey{Package: e.Package, Test: e.Test}
	switch e.Action {
	case "output":
		r.at(key).text.WriteString(e.Output)
	case "build-output":
		r.at(testKey{Build: e.ImportPath}).text.WriteString(e.Output)
	case "run":
		if parent, ok := parentOf(e.Test); ok {
			r.at(testKey{Package: e.Package, Test: parent}).parent = true
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
	}
}

func (r *testReport) endTest(e testEvent, key testKey) {
	o, pkg := r.at(key), r.at(testKey{Package: e.Package})
	fails := e.Action == "fail"
	// A test with subtests counts only if it fails on its own account.
	if !o.parent || fails && !o.failed {
		pkg.count++
		switch e.Action {
		case "pass":
			r.passed++
		case "fail":
			r.failed++
			pkg.broken++
		}
	}
	if fails {
		fmt.Fprintf(r.log, "FAIL %s %s\n%s", e.Package, e.Test, o.text.String())
		if parent, ok := parentOf(e.Test); ok {
			r.at(testKey{Package: e.Package, Test: parent}).failed = true
		}
	}
	o.text.Reset()
}

func (r *testReport) endPackage(e testEvent) {
	o := r.at(testKey{Package: e.Package})
	switch {
	case e.Action == "skip":
		return // no test files
	case e.Action == "pass":
		fmt.Fprintf(r.log, "ok   %s  %.1fs  %d tests\n", e.Package, e.Elapsed, o.count)
	default:
		if o.broken == 0 { // it did not build, or it panicked, or a race was found after the last test
			r.failed++
			if e.FailedBuild != "" {
				fmt.Fprint(r.log, r.at(testKey{Build: e.FailedBuild}).text.String())
			}
			r.unfinished(e.Package)
			fmt.Fprint(r.log, o.text.String())
		}
		fmt.Fprintf(r.log, "FAIL %s  %.1fs  %d of %d tests\n", e.Package, e.Elapsed, o.broken, o.count)
	}
	r.packages++
}

// unfinished prints what tests of a package said that never ended.
func (r *testReport) unfinished(pkg string) {
	for key, o := range r.tests {
		if key.Package == pkg && key.Test != "" && o.text.Len() > 0 {
			fmt.Fprintf(r.log, "unfinished: %s %s\n%s", pkg, key.Test, o.text.String())
		}
	}
}

// parentOf names the test that a subtest belongs to.
func parentOf(test string) (string, bool) {
	i := strings.LastIndex(test, "/")
	if i < 0 {
		return "", false
	}
	return test[:i], true
}
