package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command is one server program about to be started.
type command struct {
	argv    []string
	dir     string              // where its log, pid file and data are
	stop    syscall.Signal      // the signal that asks it to end quickly and cleanly
	cred    *syscall.Credential // nil runs it as this process's own user
	detach  bool                // outlive this process; otherwise a keeper ends it with this process
	started func(pid int) error // told of a detached server's process at once; may be nil
	wipe    bool                // remove dir once the server has ended; only under a keeper
}

// keeper is the shell program that stands between a private server and this process. Its arguments are the
// signal number, the folder, whether to remove the folder at the end, and then the server's command line.
//
// Its standard input ends when the owner ends; its standard output ends when the keeper itself does, which is how
// the owner learns that the server is gone.
const keeper = `
signal=$1 dir=$2 wipe=$3; shift 3
exec 3<&0
"$@" </dev/null >>"$dir/server.log" 2>&1 3<&- &
server=$!
echo "$server" >"$dir/server.pid"
( while read -r _; do :; done <&3; kill -"$signal" "$server" ) >/dev/null 2>&1 &
wait "$server"
status=$?
[ "$wipe" = yes ] && rm -rf "$dir"
exit "$status"
`

// process is a running server.
type process struct {
	pid int
	log string
	// kept by a keeper:
	cmd   *exec.Cmd
	owner *os.File // our end of the pipe; closing it ends the server
	alive *os.File // reads end of file once keeper and server are gone
	// detached:
	done chan struct{} // closed once the server has ended
	stop syscall.Signal
}

// start runs c. The caller then waits for the server to answer, and calls end when it does not.
func start(ctx context.Context, c command) (*process, error) {
	if c.detach {
		return startDetached(ctx, c)
	}
	return startKept(c)
}

func startDetached(ctx context.Context, c command) (*process, error) {
	logPath := filepath.Join(c.dir, "server.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	defer logFile.Close()
	// The server outlives this call on purpose, so no context may end it.
	cmd := exec.Command(c.argv[0], c.argv[1:]...) //nolint:noctx // see above
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.cred}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	p := &process{pid: cmd.Process.Pid, log: logPath, done: make(chan struct{}), stop: c.stop}
	go func() {
		_ = cmd.Wait() // reap it; how it ended is in its log
		close(p.done)
	}()
	if c.started != nil {
		if err := c.started(p.pid); err != nil {
			return nil, errors.Join(err, p.end(context.WithoutCancel(ctx)))
		}
	}
	return p, nil
}

func startKept(c command) (*process, error) {
	ownerRead, ownerWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to the keeper: %w", err)
	}
	aliveRead, aliveWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe from the keeper: %w", err), ownerRead.Close(), ownerWrite.Close())
	}
	wipe := "no"
	if c.wipe {
		wipe = "yes"
	}
	args := append([]string{"-c", keeper, "keeper", strconv.Itoa(int(c.stop)), c.dir, wipe}, c.argv...)
	// The keeper ends with this process, not with a context.
	cmd := exec.Command("/bin/sh", args...) //nolint:noctx // see above
	cmd.Dir = c.dir
	cmd.Stdin, cmd.Stdout = ownerRead, aliveWrite
	// A session of its own, so that Ctrl-C reaches the tests and not the database under them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.cred}
	err = cmd.Start()
	err = errors.Join(err, ownerRead.Close(), aliveWrite.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the keeper: %w", err), ownerWrite.Close(), aliveRead.Close())
	}
	return &process{log: filepath.Join(c.dir, "server.log"), cmd: cmd, owner: ownerWrite, alive: aliveRead, stop: c.stop}, nil
}

// ended waits up to d for the server's end and reports whether it came.
func (p *process) ended(d time.Duration) bool {
	if p.done != nil {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-p.done:
			return true
		case <-timer.C:
			return false
		}
	}
	_ = p.alive.SetReadDeadline(time.Now().Add(d)) // a pipe always takes a deadline
	_, err := p.alive.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed)
}

// await polls ready until it returns nil, the server ends, or ctx is over. A failed start is stopped before await
// returns, and the error carries the end of the server's log.
func (p *process) await(ctx context.Context, what string, ready func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		switch tail := p.logTail(); {
		case p.ended(25 * time.Millisecond):
			_ = p.end(context.WithoutCancel(ctx)) // only reaps: it has ended
			return &startError{what: what, log: tail + p.logTail()}
		case ctx.Err() != nil:
			_ = p.end(context.WithoutCancel(ctx)) // the reason worth reporting is the one below
			return fmt.Errorf("%s did not answer in time: %w (its log ends: %s)", what, err, tail)
		}
	}
}

// end asks the server to stop and waits for it; after ten seconds, or when ctx is over, it kills it.
func (p *process) end(ctx context.Context) error {
	if p.done != nil {
		if err := syscall.Kill(p.pid, p.stop); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal server %d: %w", p.pid, err)
		}
	} else {
		_ = p.owner.Close() // the second close of a stopped server is harmless
	}
	for deadline := time.Now().Add(10 * time.Second); !p.ended(50 * time.Millisecond); {
		if ctx.Err() == nil && time.Now().Before(deadline) {
			continue
		}
		if p.pid == 0 {
			return errors.New("server did not stop in time")
		}
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill server %d: %w", p.pid, err)
		}
		if !p.ended(5 * time.Second) {
			return fmt.Errorf("server %d survives SIGKILL", p.pid)
		}
		break
	}
	if p.cmd != nil && p.cmd.ProcessState == nil {
		_ = p.cmd.Wait() // reap the keeper; its status is the server's and no news
		_ = p.alive.Close()
	}
	return nil
}

// logTail gives the last lines of the server's log, for an error message.
func (p *process) logTail() string {
	const keep = 1500 // bytes: enough for the reason a server gives before it stops
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return strings.TrimSpace(string(b))
}

// startError says that a server ended while it was starting, with what it logged.
type startError struct{ what, log string }

func (e *startError) Error() string { return fmt.Sprintf("%s ended while starting: %s", e.what, e.log) }

// portTaken reports whether the server gave up because somebody else has its port.
func portTaken(err error) bool {
	var s *startError
	if !errors.As(err, &s) {
		return false
	}
	log := strings.ToLower(s.log)
	return strings.Contains(log, "address already in use") || strings.Contains(log, "could not bind")
}

// readPID reads the process id the keeper wrote.
func readPID(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "server.pid"))
	if err != nil {
		return 0, fmt.Errorf("read pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read pid: %w", err)
	}
	return pid, nil
}

// loopback joins 127.0.0.1 and port.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
