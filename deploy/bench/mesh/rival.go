package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/proc"
	"souk/shared/testkit"
)

// proxy is something that stands before the origin: the gateway or one of its neighbours.
type proxy struct {
	name string
	addr string
	path string // of the request to it
	pid  int
	stop func() error
}

// startNginx starts nginx as Debian has it, as a plain reverse proxy with kept connections to the origin.
func startNginx(ctx context.Context, dir, origin string, on []int, log io.Writer) (*proxy, error) {
	bin, err := nginx(ctx, log)
	if err != nil {
		return nil, err
	}
	return startRival(ctx, rival{
		name: "nginx", dir: dir, on: on,
		argv:   func(conf string) []string { return []string{bin, "-c", conf, "-p", filepath.Dir(conf), "-e", "stderr"} },
		config: func(addr string) string { return fmt.Sprintf(nginxConfig, origin, addr) },
	})
}

// No access log, as Caddy has none; and a connection that may be used for ever, as in the others.
const nginxConfig = `
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events { worker_connections 19000; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	upstream origin { server %s; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen %s backlog=4096;
		location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
}
`

// startCaddy starts Caddy likewise.
func startCaddy(ctx context.Context, root, dir, origin string, on []int, log io.Writer) (*proxy, error) {
	bin, err := local.Tool(ctx, root, "caddy", log)
	if err != nil {
		return nil, err
	}
	return startRival(ctx, rival{
		name: "caddy", dir: dir, on: on,
		argv:   func(conf string) []string { return []string{bin, "run", "--adapter", "caddyfile", "--config", conf} },
		config: func(addr string) string { return fmt.Sprintf(caddyConfig, addr, origin) },
	})
}

const caddyConfig = `
{
	admin off
	auto_https off
	persist_config off
	log {
		level WARN
	}
}
http://%s {
	reverse_proxy %s
}
`

type rival struct {
	name, dir string
	on        []int
	argv      func(config string) []string
	config    func(addr string) string
}

func startRival(ctx context.Context, r rival) (*proxy, error) {
	port, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.dir, r.name)
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return nil, err
	}
	p := &proxy{name: r.name, addr: fmt.Sprintf("127.0.0.1:%d", port), path: originPath}
	conf := filepath.Join(dir, "config")
	if err := os.WriteFile(conf, []byte(r.config(p.addr)), 0o600); err != nil {
		return nil, err
	}
	argv := r.argv(conf)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := proc.StartOn(cmd, r.on); err != nil {
		return nil, fmt.Errorf("start %s: %w", r.name, err)
	}
	p.pid = cmd.Process.Pid
	p.stop = func() error {
		err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		if err != nil {
			return fmt.Errorf("stop %s: %w: %s", r.name, err, said.String())
		}
		return nil
	}
	if err := answers(ctx, "http://"+p.addr+p.path, ""); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// answers waits until url is answered with 200.
func answers(ctx context.Context, url, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not answered: %w", url, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// nginx finds the program: on PATH, or unpacked from Debian's package into the cache. It is not installed, because that
// would also start a server on port 80 that nobody asked for.
func nginx(ctx context.Context, log io.Writer) (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	tools, err := testkit.ToolsDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(tools, "nginx")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	fmt.Fprintln(log, "nginx: unpacking Debian's package")
	if out, err := exec.CommandContext(ctx, "sh", "-c", unpackNginx, "sh", bin).CombinedOutput(); err != nil {
		return "", fmt.Errorf("get nginx: %w: put it on PATH, or run this on Debian or Ubuntu:\n%s", err, strings.TrimSpace(string(out)))
	}
	return bin, nil
}

const unpackNginx = `
set -e
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "${1%/*}"
cd "$dir"
apt-get download -q nginx || { apt-get update -q && apt-get download -q nginx; }
dpkg-deb -x nginx_*.deb .
usr/sbin/nginx -v
mv usr/sbin/nginx "$1"
`
