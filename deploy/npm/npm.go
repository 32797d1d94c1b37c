// Package npm gets the few programs that are written for Node.js, in the versions that a package-lock.json pins, without
// running anybody's install scripts.
package npm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ErrNone says that this machine has no npm.
var ErrNone = errors.New("there is no npm on PATH: install Node.js 20 or later")

// Install gives the folder of the programs that the package.json and package-lock.json in dir ask for, got into .souk/npm
// under root unless they are there already. Returns ErrNone on a machine without npm.
func Install(ctx context.Context, root, dir string, log io.Writer) (bin string, err error) {
	target := filepath.Join(root, ".souk", "npm", filepath.Base(dir))
	bin = filepath.Join(target, "node_modules", ".bin")
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	stamp := filepath.Join(target, "installed")
	if got, err := os.ReadFile(stamp); err == nil && bytes.Equal(got, lock) {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", ErrNone
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(
		os.MkdirAll(target, 0o755),
		os.WriteFile(filepath.Join(target, "package.json"), manifest, 0o600),
		os.WriteFile(filepath.Join(target, "package-lock.json"), lock, 0o600),
	); err != nil {
		return "", err
	}
	begin := time.Now()
	fmt.Fprintf(log, "npm: getting what %s/package-lock.json pins\n", filepath.Base(dir))
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = target
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w:\n%s", err, bytes.TrimSpace(out))
	}
	fmt.Fprintf(log, "npm: got it in %s\n", time.Since(begin).Round(time.Second))
	return bin, os.WriteFile(stamp, lock, 0o600)
}
