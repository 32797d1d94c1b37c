package local

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Lint runs the linter over every module of the workspace and closes with "lint: issues=… modules=… seconds=…". Returns
// ErrTold unless it found nothing.
func Lint(ctx context.Context, cfg Config) error {
	begin := time.Now()
	issues, modules, err := lint(ctx, &cfg)
	if err != nil {
		fmt.Fprintln(cfg.Log, err)
		issues = max(issues, 1) // a linter that could not look has not found the code to be good
		err = ErrTold
	}
	fmt.Fprintf(cfg.Log, "lint: issues=%d modules=%d seconds=%.1f\n", issues, modules, time.Since(begin).Seconds())
	return err
}

func lint(ctx context.Context, cfg *Config) (issues, modules int, err error) {
	bin, dirs, err := linter(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	report, err := os.CreateTemp("", "souk-lint-*.json")
	if err != nil {
		return 0, len(dirs), err
	}
	defer func() { _ = os.Remove(report.Name()) }()
	defer report.Close()

	args := []string{"run", "--show-stats=false", "--allow-serial-runners", "--output.text.path=stdout", "--output.json.path=" + report.Name()}
	for _, dir := range dirs {
		args = append(args, filepath.Join(dir, "..."))
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = cfg.Root
	cmd.Stdout, cmd.Stderr = cfg.Log, cfg.Log
	runErr := cmd.Run()
	var found struct{ Issues []json.RawMessage }
	if err := json.NewDecoder(report).Decode(&found); err != nil && runErr == nil {
		return 0, len(dirs), fmt.Errorf("read the linter's report: %w", err)
	}
	if runErr != nil {
		return len(found.Issues), len(dirs), fmt.Errorf("lint: %w", runErr)
	}
	return len(found.Issues), len(dirs), nil
}

// Format formats the code of every module of the workspace.
func Format(ctx context.Context, cfg Config) error {
	bin, dirs, err := linter(ctx, &cfg)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, bin, append([]string{"fmt"}, dirs...)...)
	cmd.Dir = cfg.Root
	cmd.Stdout, cmd.Stderr = cfg.Log, cfg.Log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	return nil
}

// linter gives the linter's path and the folders to give it: at the root of a workspace without a module it would find
// nothing and call that success.
func linter(ctx context.Context, cfg *Config) (bin string, dirs []string, err error) {
	if err := cfg.complete(); err != nil {
		return "", nil, err
	}
	if bin, err = Tool(ctx, cfg.Root, "golangci-lint", cfg.Log); err != nil {
		return "", nil, err
	}
	dirs, err = workspace(ctx, cfg.Root)
	return bin, dirs, err
}

// workspace gives the folder of every module in go.work, each joined with rest.
func workspace(ctx context.Context, root string, rest ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules of the workspace: %w", err)
	}
	var dirs []string
	for dir := range strings.Lines(string(out)) {
		dirs = append(dirs, filepath.Join(slices.Concat([]string{strings.TrimSpace(dir)}, rest)...))
	}
	return dirs, nil
}
