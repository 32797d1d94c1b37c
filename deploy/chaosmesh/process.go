package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"souk/deploy/proc"
	"souk/shared/contract"
	"souk/shared/mesh"
	"souk/shared/testkit"
)

// process is a node's, running or not. It keeps its ports when it is started again.
type process struct {
	service, instance string
	port, adminPort   int
	env               []string
	dir               string
	cmd               *exec.Cmd
	ended             <-chan struct{} // closed once it has ended
}

func newProcess(ctx context.Context, dir, service, instance string, env []string) (*process, error) {
	p := &process{service: service, instance: instance, dir: dir}
	var err error
	if p.port, err = testkit.FreePort(ctx); err != nil {
		return nil, err
	}
	if p.adminPort, err = testkit.FreePort(ctx); err != nil {
		return nil, err
	}
	p.env = append(os.Environ(), "CHAOS_NODE="+service, "INSTANCE="+instance,
		"SERVICE_ADDR="+p.addr(), "ADMIN_ADDR="+p.admin(), "ADVERTISE_HOST=127.0.0.1", "LOG_LEVEL=WARN",
		"MTLS=off") // the rows are about calls that fail; how services know each other is tried in shared/peer and deploy/e2e
	p.env = append(p.env, env...)
	return p, p.start()
}

func (p *process) addr() string  { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }
func (p *process) admin() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.adminPort)) }

// id is its name in Consul.
func (p *process) id() string { return p.service + "-127.0.0.1-" + strconv.Itoa(p.port) }

func (p *process) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(p.dir, p.instance+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	// It lives until it is ended, not until a context is.
	p.cmd = exec.Command(self) //nolint:noctx // see above
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.ended, err = proc.Attached(p.cmd)
	return err
}

func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// end ends it with sig, and returns once it is gone.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	if err := p.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.instance, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not end: %w", p.instance, ctx.Err())
	}
}

// misbehave makes the node do what f says.
func (p *process) misbehave(ctx context.Context, f fault) error {
	_, err := setFault.Call(ctx, at(p.addr()), &contract.Body[fault]{Body: f})
	return err
}

// work is what came in since it was last asked.
func (p *process) work(ctx context.Context) (work, error) {
	out, err := seeWork.Call(ctx, at(p.addr()), new(contract.None))
	if err != nil {
		return work{}, err
	}
	return out.Body, nil
}

// begin makes the node call others; the function that it returns ends that.
func (p *process) begin(ctx context.Context, l load) (end func() (samples, error), err error) {
	if l.Method == "" {
		l.Method = http.MethodGet
	}
	out, err := beginLoad.Call(ctx, at(p.addr()), &contract.Body[load]{Body: l})
	if err != nil {
		return nil, err
	}
	return func() (samples, error) {
		s, err := endLoad.Call(ctx, at(p.addr()), &contract.Body[loadName]{Body: out.Body})
		if err != nil {
			return nil, err
		}
		return s.Body, nil
	}, nil
}

// call makes the node make a number of calls, and waits for them.
func (p *process) call(ctx context.Context, l load) (samples, error) {
	end, err := p.begin(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := rest(ctx, time.Duration(float64(l.Calls)/l.PerSecond*float64(time.Second))); err != nil {
		return nil, err
	}
	return end()
}

// see is what the node knows of those it calls.
func (p *process) see(ctx context.Context) (snap mesh.Snapshot, err error) {
	b, err := get(ctx, "http://"+p.admin()+"/mesh/snapshot")
	if err != nil {
		return snap, err
	}
	return snap, json.Unmarshal(b, &snap)
}

// usage is what a process holds of the machine.
type usage struct {
	goroutines, files int
	cpu               time.Duration // used since it began
}

// usage is what the process holds once its idle connections are closed.
func (p *process) usage(ctx context.Context) (u usage, err error) {
	if _, err := goIdle.Call(ctx, at(p.addr()), new(contract.None)); err != nil {
		return u, err
	}
	b, err := get(ctx, "http://"+p.admin()+"/metrics")
	if err != nil {
		return u, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch name {
		case "go_goroutines":
			u.goroutines = int(value)
		case "process_open_fds":
			u.files = int(value)
		case "process_cpu_seconds_total":
			u.cpu = time.Duration(value * float64(time.Second))
		}
	}
	return u, nil
}

// get fetches what must be there, and keeps no connection.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	pool := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: pool}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return b, err
}
