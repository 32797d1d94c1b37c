// Command docs runs what the documents tell people to run.
//
// It takes every Markdown file of the working copy, and in each the lines of its sh blocks and the commands in its text
// (`make …`, `docker …`, `kubectl …`, `go …`, `.souk/bin/…`), and runs them from top to bottom in a copy of the working copy,
// so that a shop that is up here is left alone. Where the shop in the copy got other ports than the documents say, they are
// replaced. What cannot run here (rule.go says what and why, or a comment <!-- not run: why --> before a block) is named with
// its reason, and looked at without running it: the target, the script, the folder must exist. Links to files must lead
// somewhere, and the .http files of deploy/http must still go through.
//
// It closes with "docs-check: commands=… failed=…", where commands are those that were run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"souk/deploy/journey"
	"souk/deploy/local"
)

// patience bounds one script. The first builds the shop.
const patience = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	c := &check{out: os.Stdout}
	err := c.run(ctx)
	if err != nil {
		c.fail("%v", err)
	}
	fmt.Fprintf(c.out, "docs-check: commands=%d failed=%d\n", c.commands, c.failed)
	if c.failed > 0 {
		os.Exit(1)
	}
}

// check is one run over all documents.
type check struct {
	out              io.Writer
	dir              string // the copy
	commands, failed int
	skipped          int
}

func (c *check) fail(format string, args ...any) {
	c.failed++
	fmt.Fprintf(c.out, "FAILED  "+format+"\n", args...)
}

func (c *check) run(ctx context.Context) (err error) {
	root, err := local.Root()
	if err != nil {
		return err
	}
	c.dir = filepath.Join(root, ".souk", "docs")
	if err := copyTree(ctx, root, c.dir); err != nil {
		return err
	}
	defer func() {
		down := context.WithoutCancel(ctx)
		if shop, openErr := c.shop(); openErr == nil {
			err = errors.Join(err, shop.Down(down))
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	documents, err := documentsIn(c.dir)
	if err != nil {
		return err
	}
	for _, d := range documents {
		for _, link := range d.deadLinks(c.dir) {
			c.fail("%s: the link %s leads nowhere", d.path, link)
		}
		for _, s := range d.scripts {
			c.script(ctx, d.path, s)
		}
	}
	c.journeys(ctx)
	fmt.Fprintf(c.out, "%d documents, %d commands run, %d looked at without running them\n", len(documents), c.commands, c.skipped)
	return nil
}

// shop is the one that a document's command has started.
func (c *check) shop() (*local.Shop, error) {
	return local.Open(local.Config{Root: c.dir, Log: io.Discard})
}

// script runs the commands of one block together, without those that cannot run here.
func (c *check) script(ctx context.Context, document string, s script) {
	var lines []string
	count := 0
	for _, command := range s.commands {
		why := s.notRun
		if why == "" {
			why = reason(command)
		}
		if why == "" {
			lines = append(lines, command)
			count++
			continue
		}
		c.skipped++
		fmt.Fprintf(c.out, "not run %s: %s (%s)\n", document, oneLine(command), why)
		if err := look(ctx, c.dir, command); err != nil {
			c.fail("%s: %s: %v", document, oneLine(command), err)
		}
	}
	if count == 0 {
		return
	}
	c.commands += count
	begin := time.Now()
	text := strings.Join(lines, "\n")
	output, err := c.bash(ctx, text)
	if err == nil && (strings.Contains(output, `"urn:souk:problem:`) || strings.Contains(output, "curl: (")) {
		err = errors.New("the shop refuses it, or does not answer")
	}
	err = errors.Join(err, c.mend(ctx))
	if err != nil {
		c.fail("%s: %v:\n%s\n--- it said:\n%s", document, err, text, output)
		return
	}
	fmt.Fprintf(c.out, "ok      %s: %s (%s)\n", document, oneLine(text), time.Since(begin).Round(time.Millisecond))
}

// bash runs text in the copy, with the addresses of the shop there.
func (c *check) bash(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	env := append(os.Environ(), "GOWORK=", "MAKEFLAGS=")
	if shop, err := c.shop(); err == nil {
		text = strings.ReplaceAll(text, "http://127.0.0.1:8080", shop.Gateway)
		env = append(env, "DATABASE_URL="+shop.Postgres.URL("coordinator"))
	}
	cmd := exec.CommandContext(ctx, "bash", "-ec", text) // as a person's shell: unset is empty, and a pipe is what its end is
	cmd.Dir, cmd.Env = c.dir, env
	cmd.WaitDelay = 5 * time.Second // a shop that is left running holds no pipe of ours
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// mend starts again what a command has stopped or killed, so that the next one finds the whole shop.
func (c *check) mend(ctx context.Context) error {
	shop, err := c.shop()
	if errors.Is(err, local.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, in := range shop.Instances("") {
		if in.Running {
			continue
		}
		if err := errors.Join(shop.Start(ctx, in.Name), shop.WaitReady(ctx, in.Name)); err != nil {
			return err
		}
	}
	return nil
}

// journeys runs the .http files against the shop that is up by now.
func (c *check) journeys(ctx context.Context) {
	files, err := journey.ReadAll(filepath.Join(c.dir, "deploy", "http"))
	if err != nil {
		c.fail("%v", err)
		return
	}
	shop, err := c.shop()
	if err != nil {
		c.fail("no document starts a shop: %v", err)
		return
	}
	for _, f := range files {
		sent, err := f.Run(ctx, shop.Gateway)
		c.commands++
		if err != nil {
			c.fail("deploy/http/%w", err)
			continue
		}
		fmt.Fprintf(c.out, "ok      deploy/http/%s.http: %d requests\n", f.Name, sent)
	}
}

// copyTree copies what git knows of, and what it would take, to an empty folder.
func copyTree(ctx context.Context, root, dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	const copyAll = `git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$1"`
	cmd := exec.CommandContext(ctx, "bash", "-euc", copyAll, "bash", dir)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy the working copy: %w: %s", err, out)
	}
	return nil
}

func oneLine(s string) string {
	const most = 100
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}
