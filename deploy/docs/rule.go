package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// runs are the make targets that are quick, or that the documents' other commands need. Any other target checks something by
// itself, takes minutes, and is run where its verdict is looked at.
var runs = regexp.MustCompile(`^make( (demo|up|status|help|build|fmt)\b.*)?$`)

// rules say what is not run here, and why. The first that fits counts; what none fits is run.
var rules = []struct { //nolint:gochecknoglobals // never changes
	command *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`…|<[a-z]+>|\bGID\b|\bNAME\b`), "it has a placeholder in it"},
	{regexp.MustCompile(`\bkubectl\b|\bkind\b|\bkustomize\b`), "it needs a Kubernetes cluster; make k8s-check and make k8s-smoke try the manifests"},
	{regexp.MustCompile(`\bdocker\b`), "it needs Docker; make e2e-compose tries it"},
	{regexp.MustCompile(`^make down\b`), "the commands after it need the shop; it is done at the end"},
	{regexp.MustCompile(`^make \w`), "it takes minutes and ends with a verdict of its own"},
	{regexp.MustCompile(`^(GOWORK=off )?go (test|vet)\b`), "make test runs it"},
	{regexp.MustCompile(`^git clone\b`), "this is one already"},
	{regexp.MustCompile(`/var/lib/|/backups/`), "it names folders of another machine; a test of the folder does the same"},
}

// reason says why a command is not run here; "" for one that is.
func reason(command string) string {
	command, _, _ = strings.Cut(command, " #") // what it is for
	if runs.MatchString(strings.TrimSpace(command)) {
		return ""
	}
	for _, r := range rules {
		if r.command.MatchString(command) {
			return r.why
		}
	}
	return ""
}

var (
	target    = regexp.MustCompile(`^make ([a-z0-9-]+)`)
	shellFile = regexp.MustCompile(`(?:^|[\s|])((?:\.\./|\./)?deploy/[\w/.-]+\.sh)\b`)
	folder    = regexp.MustCompile(`(?:-k|-f|go test|go run) (\.?/?deploy/[\w/.-]+)`)
)

// look finds what can be found wrong with a command without running it.
func look(ctx context.Context, dir, command string) error {
	if m := target.FindStringSubmatch(command); m != nil {
		cmd := exec.CommandContext(ctx, "make", "--dry-run", "--no-print-directory", m[1])
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	for _, m := range shellFile.FindAllStringSubmatch(command, -1) {
		cmd := exec.CommandContext(ctx, "bash", "-n", filepath.Join(dir, m[1]))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	for _, m := range folder.FindAllStringSubmatch(command, -1) {
		if _, err := os.Stat(filepath.Join(dir, strings.TrimSuffix(m[1], "/..."))); err != nil {
			return err
		}
	}
	return nil
}
