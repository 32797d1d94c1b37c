package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"souk/shared/testkit"
)

// tool is a program that this project builds for itself, from the module of the same name in deploy/tools.
type tool struct {
	pkg    string
	onPath bool   // any version on PATH will do
	takes  string // how long the first build takes, measured on two cores
}

var tools = map[string]tool{ //nolint:gochecknoglobals // never changes
	"consul": {pkg: "github.com/hashicorp/consul", onPath: true, takes: "7 minutes"},
	// Another version of the linter has other opinions, so only ours will do.
	"golangci-lint": {pkg: "github.com/golangci/golangci-lint/v2/cmd/golangci-lint", takes: "2 minutes and a half"},
	// Only ours, too: benchmarks compare with one version.
	"caddy": {pkg: "github.com/caddyserver/caddy/v2/cmd/caddy", takes: "3 minutes"},
	"k6":    {pkg: "go.k6.io/k6", takes: "a minute and a half"},
}

// Tool gives the path of a tool ("consul", "golangci-lint", "caddy" or "k6"), building it into the user's cache if it is missing or if
// its module has changed since.
func Tool(ctx context.Context, root, name string, log io.Writer) (string, error) {
	t, ok := tools[name]
	if !ok {
		return "", fmt.Errorf("there is no tool %q", name)
	}
	if t.onPath {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	dir, err := testkit.ToolsDir()
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "deploy", "tools", name)
	stamp, err := stampOf(module)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	bin := filepath.Join(dir, name)
	if current(bin, stamp) {
		return bin, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	unlock, err := lock(ctx, dir) // somebody else may be building it
	if err != nil {
		return "", err
	}
	defer unlock()
	if current(bin, stamp) {
		return bin, nil
	}
	if err := buildTool(ctx, module, name, t, bin, log); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.WriteFile(bin+".stamp", []byte(stamp), 0o600); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return bin, nil
}

// buildTool compiles beside bin and renames, so that bin is never half a program.
func buildTool(ctx context.Context, module, name string, t tool, bin string, log io.Writer) error {
	fmt.Fprintf(log, "%s: building it; this takes about %s the first time on two cores, and then never again\n", name, t.takes)
	begin := time.Now()
	temp := bin + ".new"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", temp, t.pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	// The compilers must end with the go command when it is interrupted.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(log, "%s: still building after %s\n", name, time.Since(begin).Round(time.Second))
		case err := <-done:
			if err != nil {
				return errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String())), ctx.Err())
			}
			fmt.Fprintf(log, "%s: built in %s\n", name, time.Since(begin).Round(time.Second))
			return os.Rename(temp, bin)
		}
	}
}

// stampOf names the versions a tool's module asks for.
func stampOf(module string) (string, error) {
	b, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// current reports whether bin is there and was built from that stamp. One without a stamp was put there by hand.
func current(bin, stamp string) bool {
	if _, err := os.Stat(bin); err != nil {
		return false
	}
	b, err := os.ReadFile(bin + ".stamp")
	return errors.Is(err, os.ErrNotExist) || err == nil && string(b) == stamp
}

// Postgres sees to it that this machine has PostgreSQL's server programs. On Debian and Ubuntu it installs them where it
// may (as root, or with a sudo that asks nothing); elsewhere the error says what to run.
func Postgres(ctx context.Context, log io.Writer) error {
	_, err := testkit.PostgresBin(ctx)
	if !errors.Is(err, testkit.ErrNoPostgres) {
		return err
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w: install PostgreSQL 14 or later with its server programs and put their folder on PATH", testkit.ErrNoPostgres)
	}
	if err := aptInstall(ctx, "postgresql", installPostgres, log); err != nil {
		return fmt.Errorf("%w: %w", testkit.ErrNoPostgres, err)
	}
	_, err = testkit.PostgresBin(ctx)
	return err
}

// Spin sees to it that this machine has the model checker spin and the C compiler that it needs, as [Postgres] does.
func Spin(ctx context.Context, log io.Writer) error {
	for _, program := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if _, err := exec.LookPath("apt-get"); err != nil {
			return fmt.Errorf("there is no %s: install spin 6.5 and a C compiler called gcc, and put them on PATH", program)
		}
		return aptInstall(ctx, "spin gcc libc6-dev", installSpin, log)
	}
	return nil
}

// aptInstall runs script, which installs the packages, as root or with a sudo that asks nothing. Where there is neither,
// the error says what to run.
func aptInstall(ctx context.Context, packages, script string, log io.Writer) error {
	shell := []string{"sh", "-c", script}
	if os.Geteuid() != 0 {
		if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
			return fmt.Errorf("run `sudo apt-get install %s`", packages)
		}
		shell = append([]string{"sudo", "-n"}, shell...)
	}
	name, _, _ := strings.Cut(packages, " ")
	fmt.Fprintf(log, "%s: not on this machine; installing %s\n", name, packages)
	begin := time.Now()
	if out, err := exec.CommandContext(ctx, shell[0], shell[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w:\n%s", packages, err, strings.TrimSpace(string(out)))
	}
	fmt.Fprintf(log, "%s: installed in %s\n", name, since(begin))
	return nil
}

const installSpin = `
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends spin gcc libc6-dev
`

// installPostgres installs the server without the cluster that the package would make and start: a server on 5432 that
// nobody asked for. The folder createcluster.d is read by the package's own scripts; our file in it goes again, so that
// a cluster made later by hand is made as usual.
const installPostgres = `
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends postgresql-common
mkdir -p /etc/postgresql-common/createcluster.d
trap 'rm -f /etc/postgresql-common/createcluster.d/souk.conf' EXIT
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/souk.conf
apt-get install -q -y --no-install-recommends postgresql
`
