package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"souk/deploy/proc"
	"souk/shared/testkit"

	"golang.org/x/sync/errgroup"
)

// loseConsul takes Consul away in every way it goes away, under calls none of which may fail.
func loseConsul(ctx context.Context, t *trial) error {
	// A cluster that loses its leader has nodes of its own, and its time passes beside the rest.
	alone := &trial{row: row{name: t.name + "-pair"}, world: world{dir: t.dir, seed: t.seed + 1<<16}}
	defer func() { t.nodes = append(t.nodes, alone.nodes...); t.cleanups = append(t.cleanups, alone.cleanups...) }()
	var both errgroup.Group
	both.Go(func() error { return loseLeader(ctx, alone) })
	err := loseAgent(ctx, t)
	err = errors.Join(err, both.Wait())
	t.healthy, t.during = append(t.healthy, alone.healthy...), append(t.during, alone.during...)
	t.checks = append(t.checks, alone.checks...)
	t.recovery = max(t.recovery, alone.recovery)
	t.leaked.goroutines, t.leaked.files = max(t.leaked.goroutines, alone.leaked.goroutines), max(t.leaked.files, alone.leaked.files)
	return err
}

// loseAgent kills, stops and replaces the only agent.
func loseAgent(ctx context.Context, t *trial) error {
	consul, err := testkit.StartConsul(ctx, testkit.ConsulConfig{Dir: filepath.Join(t.dir, "consul")})
	if err != nil {
		return err
	}
	t.consul = consul.Addr
	t.cleanups = append(t.cleanups, func(ctx context.Context) error { return consul.Stop(ctx) })
	start := func() (seen *comeback, err error) {
		seen = watchAgent(ctx, t.consul)
		_, text, _ := net.SplitHostPort(t.consul)
		port, _ := strconv.Atoi(text)
		consul, err = testkit.StartConsul(ctx, testkit.ConsulConfig{Dir: filepath.Join(t.dir, "consul"), HTTPPort: port})
		return seen, err
	}

	up, caller, err := t.cast(ctx, 7)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	calls, end, err := t.bothKinds(ctx, caller)
	if err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)
	all := len(t.nodes)

	begun := time.Now()
	if err := errors.Join(syscall.Kill(consul.PID(), syscall.SIGKILL), consul.Stop(ctx)); err != nil {
		return err
	}
	_ = rest(ctx, 8*time.Second)
	seen, err := start()
	if err != nil {
		return err
	}
	took, spread := seen.wait(all)
	t.atMost("killed for 8 s, back knowing nobody: all registered after it answers", took.Seconds(), 5, " s")
	t.atLeast("the same: from the first to the last to come back", spread.Seconds(), 1, " s")
	t.recovery = took
	_ = rest(ctx, 2*time.Second)

	if err := syscall.Kill(consul.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	_ = rest(ctx, 5*time.Second)
	if err := syscall.Kill(consul.PID(), syscall.SIGCONT); err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)

	// Replaced at once: those who watch get an empty answer from an agent that has a leader and no doubts.
	if err := consul.Stop(ctx); err != nil {
		return err
	}
	if seen, err = start(); err != nil {
		return err
	}
	took, _ = seen.wait(all)
	t.atMost("replaced by one that knows nobody: all registered after it answers", took.Seconds(), 5, " s")
	t.recovery = max(t.recovery, took)
	_ = rest(ctx, 4*time.Second)
	if err := end(); err != nil {
		return err
	}
	t.healthy, t.during = calls().between(time.Time{}, begun), calls().between(begun, time.Now())
	t.atMost("calls that failed", float64(len(calls().failed())), 0, "")
	t.atLeast("calls made", float64(len(calls())), 2000, "")
	return t.leaks(ctx)
}

// bothKinds begins reads and writes; calls gives them once end has ended them.
func (t *trial) bothKinds(ctx context.Context, caller *process) (calls func() samples, end func() error, err error) {
	var all samples
	reads, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: 80})
	if err != nil {
		return nil, nil, err
	}
	writes, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: 20, Method: http.MethodPost})
	if err != nil {
		return nil, nil, err
	}
	return func() samples { return all }, func() error {
		r, err := reads()
		w, werr := writes()
		all = append(r, w...)
		return errors.Join(err, werr)
	}, nil
}

// comeback is what an agent that comes back is told, and when.
type comeback struct {
	answered time.Time
	first    map[string]time.Time // by the instance's ID
	stop     context.CancelFunc
	done     chan struct{}
	want     chan int
}

// watchAgent looks at an agent's registrations every 10 ms, until it has as many as wait wants.
func watchAgent(ctx context.Context, addr string) *comeback {
	c := &comeback{first: map[string]time.Time{}, done: make(chan struct{}), want: make(chan int, 1)}
	ctx, c.stop = context.WithTimeout(ctx, 30*time.Second)
	go func() {
		defer close(c.done)
		want := -1
		for want < 0 || len(c.first) < want {
			c.look(ctx, addr)
			select {
			case want = <-c.want:
			default:
			}
			if rest(ctx, 10*time.Millisecond) != nil {
				return
			}
		}
	}()
	return c
}

func (c *comeback) look(ctx context.Context, addr string) {
	b, err := get(ctx, "http://"+addr+"/v1/agent/services")
	if err != nil {
		return
	}
	now := time.Now()
	if c.answered.IsZero() {
		c.answered = now
	}
	var services map[string]struct{}
	if json.Unmarshal(b, &services) != nil {
		return
	}
	for id := range services {
		if _, known := c.first[id]; !known {
			c.first[id] = now
		}
	}
}

// wait waits until n have registered, and says how long after the agent's first answer the last of them did, and how long
// after the first of them; an hour if not all did.
func (c *comeback) wait(n int) (took, spread time.Duration) {
	defer c.stop()
	c.want <- n
	<-c.done
	if len(c.first) < n {
		return time.Hour, 0
	}
	var first, last time.Time
	for _, at := range c.first {
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(c.answered), last.Sub(first)
}

// loseLeader runs a cluster of two servers, of which the other one dies: what is left answers, and has no leader.
func loseLeader(ctx context.Context, t *trial) error {
	pair, err := newPair(ctx, t.dir)
	if err != nil {
		return err
	}
	t.consul = pair[0].addr
	for _, s := range pair {
		if err := s.start(); err != nil {
			return err
		}
		t.cleanups = append(t.cleanups, s.kill)
	}
	leads := func() bool {
		b, err := get(ctx, "http://"+t.consul+"/v1/status/leader")
		return err == nil && string(b) != `""`
	}
	if err := until(ctx, patience, "two servers to elect a leader", leads); err != nil {
		return err
	}
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up...); err != nil {
		return err
	}
	calls, end, err := t.bothKinds(ctx, caller)
	if err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)
	begun := time.Now()
	if err := pair[1].kill(ctx); err != nil {
		return err
	}
	if err := until(ctx, patience, "the one left to have no leader", func() bool { return !leads() }); err != nil {
		return err
	}
	_ = rest(ctx, 8*time.Second)
	if err := pair[1].start(); err != nil {
		return err
	}
	if err := until(ctx, patience, "a leader again", leads); err != nil {
		return err
	}
	back := time.Now()
	if err := until(ctx, patience, "the caller to hear of it", func() bool {
		snap, err := caller.see(ctx)
		for _, l := range snap.Lookups {
			if l.Source != "live" {
				return false
			}
		}
		return err == nil
	}); err != nil {
		return err
	}
	t.recovery = time.Since(back)
	_ = rest(ctx, time.Second)
	if err := end(); err != nil {
		return err
	}
	t.healthy, t.during = calls().between(time.Time{}, begun), calls().between(begun, time.Now())
	t.atMost("without a leader: calls that failed", float64(len(calls().failed())), 0, "")
	t.atMost("without a leader: the caller's view is live again after the election", t.recovery.Seconds(), 5, " s")
	return t.leaks(ctx)
}

// server is one of the two.
type server struct {
	addr, dir string
	cmd       *exec.Cmd
	ended     <-chan struct{}
}

func newPair(ctx context.Context, dir string) (pair [2]*server, err error) {
	var ports [2][3]int // HTTP, server RPC, gossip
	for i := range ports {
		for k := range ports[i] {
			if ports[i][k], err = testkit.FreePort(ctx); err != nil {
				return pair, err
			}
		}
	}
	for i, p := range ports {
		s := &server{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(p[0])), dir: filepath.Join(dir, "consul-"+strconv.Itoa(i+1))}
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return pair, err
		}
		b, err := json.Marshal(map[string]any{
			"node_name": "souk-" + strconv.Itoa(i+1), "server": true, "bootstrap_expect": 2, "data_dir": filepath.Join(s.dir, "data"),
			"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn", "disable_update_check": true,
			"ports":       map[string]int{"http": p[0], "server": p[1], "serf_lan": p[2], "serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1},
			"performance": map[string]any{"raft_multiplier": 1},
			"retry_join":  []string{"127.0.0.1:" + strconv.Itoa(ports[1-i][2])}, "retry_interval": "1s",
		})
		if err != nil {
			return pair, err
		}
		if err := os.WriteFile(filepath.Join(s.dir, "consul.json"), b, 0o600); err != nil {
			return pair, err
		}
		pair[i] = s
	}
	return pair, nil
}

func (s *server) start() error {
	bin, err := testkit.ConsulBin()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd = exec.Command(bin, "agent", "-config-file="+filepath.Join(s.dir, "consul.json")) //nolint:noctx // lives until it is killed
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.ended, err = proc.Attached(s.cmd)
	return err
}

// kill ends it as a power cut would; one that has ended already is none the worse.
func (s *server) kill(ctx context.Context) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
