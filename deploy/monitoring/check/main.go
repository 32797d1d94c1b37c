// Command check brings up a shop and a real Prometheus with the configuration in deploy/monitoring, lets customers buy and
// processes die, and then asks everything that a person would look at: every target, every rule, every panel of every
// dashboard, an exemplar and the trace it names. What does not answer, or has nothing to say, fails.
//
// It closes with "monitoring-check: rules=… targets=… panels=… failed=…".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/monitoring/trace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	c := &check{begin: time.Now()}
	if err := c.run(ctx); err != nil {
		c.fail("%v", err)
	}
	fmt.Fprintf(os.Stdout, "monitoring-check: rules=%d targets=%d panels=%d failed=%d\n", c.rules, c.targets, c.panels, c.failed)
	if c.failed > 0 {
		stop()
		os.Exit(1) //nolint:gocritic // nothing else is deferred
	}
}

// check counts what was looked at, and what was wrong.
type check struct {
	begin                  time.Time
	rules, targets, panels int
	failed                 int
	files                  string // deploy/monitoring
	prometheus             *prometheus
	shop                   *local.Shop
	sink                   *trace.Sink
}

func (c *check) say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%6.1fs  %s\n", time.Since(c.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (c *check) fail(format string, args ...any) {
	c.failed++
	c.say("FAILED: "+format, args...)
}

func (c *check) run(ctx context.Context) (err error) {
	root, err := local.Root()
	if err != nil {
		return err
	}
	c.files = filepath.Join(root, "deploy", "monitoring")
	bin, err := local.Prometheus(ctx, os.Stdout)
	if err != nil {
		return err
	}
	if err := c.promtool(ctx, bin); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "souk-monitoring-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if c.sink, err = trace.Listen(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.sink.Close()) }()
	c.shop, err = local.Up(ctx, local.Config{RunDir: filepath.Join(dir, "shop"), Log: os.Stdout, Env: func(string) []string {
		return append(c.sink.Env(), "RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0") // all the customers have one address
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.shop.Down(context.WithoutCancel(ctx))) }()
	if c.prometheus, err = start(ctx, bin, c.files, dir, c.shop.Instances("gateway")[0].Admin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.prometheus.stop()) }()

	if err := c.awaitTargets(ctx); err != nil {
		return err
	}
	if err := c.happen(ctx); err != nil {
		return err
	}
	if err := c.checkRules(ctx); err != nil {
		return err
	}
	if err := c.checkPanels(ctx); err != nil {
		return err
	}
	return c.checkExemplars(ctx)
}

// promtool has the rules and their tests checked by Prometheus's own tool.
func (c *check) promtool(ctx context.Context, bin string) error {
	tests, err := filepath.Glob(filepath.Join(c.files, "*_test.yml"))
	if err != nil || len(tests) == 0 {
		return errors.Join(errors.New("no rule has a test"), err)
	}
	config := filepath.Join(c.files, "prometheus.yml")
	for _, args := range [][]string{{"check", "config", "--lint-fatal", config}, append([]string{"test", "rules"}, tests...)} {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "promtool"), args...)
		cmd.Dir = c.files
		if out, err := cmd.CombinedOutput(); err != nil {
			c.fail("promtool %s: %v\n%s", strings.Join(args[:2], " "), err, out)
		}
	}
	c.say("promtool has checked the configuration and run the tests of %d files", len(tests))
	return nil
}
