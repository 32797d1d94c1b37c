package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"souk/shared/testkit"
)

// Prometheus gives the folder with the programs prometheus and promtool: those on PATH, or Debian's, which it unpacks into
// the user's cache without installing it. The package would start a server on 9090 that nobody asked for.
func Prometheus(ctx context.Context, log io.Writer) (dir string, err error) {
	if path, err := exec.LookPath("prometheus"); err == nil {
		if _, err := exec.LookPath("promtool"); err == nil {
			return filepath.Dir(path), nil
		}
	}
	tools, err := testkit.ToolsDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(tools, "prometheus")
	if _, err := os.Stat(filepath.Join(dir, "promtool")); err == nil { // it is put there last
		return dir, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", errors.New("there is no Prometheus: install 2.42 or later, and put prometheus and promtool on PATH")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("get Prometheus: %w", err)
	}
	unlock, err := lock(ctx, dir) // somebody else may be getting it
	if err != nil {
		return "", err
	}
	defer unlock()
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "sh", "-c", unpackPrometheus)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("get Prometheus: %w:\n%s", err, strings.TrimSpace(string(out)))
	}
	fmt.Fprintf(log, "prometheus: Debian's, unpacked in %s\n", since(begin))
	return dir, nil
}

// unpackPrometheus needs no rights, unless apt knows of no packages yet.
const unpackPrometheus = `
set -e
[ -e promtool ] && exit
rm -rf new && mkdir new && cd new
apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }
dpkg-deb -x prometheus_*.deb .
mv usr/bin/prometheus .. && mv usr/bin/promtool ..
cd .. && rm -rf new
`
