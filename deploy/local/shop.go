package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"souk/shared/testkit"

	"golang.org/x/sync/errgroup"
)

const (
	// readyPatience bounds the wait for one instance: start-up takes well under a second, and three on a machine whose
	// cores are all busy; the rest is for services that wait for each other.
	readyPatience = 60 * time.Second
	// stopPatience is what a service gets to drain (it keeps serving for 3 s) before it is killed.
	stopPatience = 10 * time.Second
)

// Shop is a running shop. Its methods may be called concurrently.
type Shop struct {
	// Gateway is the public address, "http://127.0.0.1:8080".
	Gateway string
	// Consul is the address of its HTTP API, host:port.
	Consul string
	// Postgres knows the addresses of the databases.
	Postgres Databases

	cfg   Config
	begin time.Time

	mu    sync.Mutex // guards the state and the log
	state *state
	// The servers of an attached shop: it ends with these handles. Only the holder of the run directory's lock
	// touches them.
	postgres *testkit.PostgresServer
	consul   *testkit.ConsulServer
}

// ErrNotRunning says that there is no shop in the run directory.
var ErrNotRunning = errors.New("no shop is running here")

// RunningError says that the run directory has a shop already.
type RunningError struct {
	Gateway      string
	Running, All int // processes
}

func (e *RunningError) Error() string {
	if e.Running == e.All {
		return "the shop is up already: " + e.Gateway
	}
	return fmt.Sprintf("a shop is there already with %d of its %d processes running (see status, or take it down first)", e.Running, e.All)
}

// Up builds the services and starts a shop. It returns once every instance is passing in Consul and the gateway
// answers; when that fails, or ctx is over, everything is taken down again. Returns a *RunningError when the run
// directory has a shop already.
func Up(ctx context.Context, cfg Config) (shop *Shop, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	unlock, err := lock(ctx, cfg.RunDir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	s := &Shop{cfg: cfg, begin: time.Now()}
	if err := s.clean(); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.say("taking everything down again; the logs stay in %s", filepath.Join(cfg.RunDir, "logs"))
			err = errors.Join(err, s.takeDown(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.startServers(ctx); err != nil {
		return nil, err
	}
	if err := s.startTestID(ctx); err != nil {
		return nil, err
	}
	if err := s.startInstances(ctx); err != nil {
		return nil, err
	}
	if err := s.seed(ctx); err != nil {
		return nil, err
	}
	if err := s.answers(ctx); err != nil {
		return nil, err
	}
	s.say("the shop is up: %s", s.Gateway)
	return s, nil
}

// Open finds the shop that Up started in cfg's run directory, perhaps from another process. Returns ErrNotRunning if
// there is none.
func Open(cfg Config) (*Shop, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	state, err := loadState(cfg.RunDir)
	if err != nil {
		return nil, err
	}
	if state == nil {
		return nil, ErrNotRunning
	}
	cfg.Detach = true
	s := &Shop{cfg: cfg, begin: time.Now()}
	s.adopt(state)
	return s, nil
}

// adopt takes st for the shop's state.
func (s *Shop) adopt(st *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = st
	s.Consul = address(st.Consul.Port)
	s.Postgres = Databases{port: st.Postgres.Port, passwords: st.Passwords}
	for _, in := range st.Instances {
		if in.Service == "gateway" {
			s.Gateway = "http://" + address(in.Port)
			break
		}
	}
}

// clean refuses to start beside a running shop, and removes what a dead one left behind.
func (s *Shop) clean() error {
	old, err := loadState(s.cfg.RunDir)
	if err != nil {
		return err
	}
	if old != nil {
		if running, all := old.alive(); running > 0 {
			s.adopt(old)
			return &RunningError{Gateway: s.Gateway, Running: running, All: all}
		}
		s.say("the last shop ended without being taken down; starting afresh")
	}
	logs := filepath.Join(s.cfg.RunDir, "logs")
	if err := errors.Join(os.RemoveAll(logs), os.MkdirAll(logs, 0o700)); err != nil {
		return fmt.Errorf("make room for the logs: %w", err)
	}
	return s.removeData()
}

// removeData removes the folders of the two servers, and the services' tokens and what they keep for a start without Consul,
// private keys among it, unless PostgreSQL still runs in one: then the run directory was
// removed from under a running shop.
func (s *Shop) removeData() error {
	data := filepath.Join(s.postgresDir(), "data")
	if b, err := os.ReadFile(filepath.Join(data, "postmaster.pid")); err == nil {
		pid, _, _ := cutLine(string(b))
		if where, err := os.Readlink("/proc/" + pid + "/cwd"); err == nil && where == data {
			return fmt.Errorf("a PostgreSQL of a shop whose state is lost still runs in %s: stop it with `kill -INT %s`", data, pid)
		}
	}
	return errors.Join(os.RemoveAll(s.postgresDir()), os.RemoveAll(s.consulDir()), os.RemoveAll(s.kekDir()),
		os.RemoveAll(filepath.Join(s.cfg.RunDir, "tokens")), os.RemoveAll(filepath.Join(s.cfg.RunDir, "state")))
}

func (s *Shop) postgresDir() string {
	return testkit.ServerDir(filepath.Join(s.cfg.RunDir, "postgres"))
}

// kekDir has a key-encryption key per service, which the first of its instances makes.
func (s *Shop) kekDir() string { return filepath.Join(s.cfg.RunDir, "kek") }

func (s *Shop) consulDir() string { return testkit.ServerDir(filepath.Join(s.cfg.RunDir, "consul")) }

// prepare gets everything that must be there before the first process starts, and lays out the ports.
func (s *Shop) prepare(ctx context.Context) error {
	if err := Postgres(ctx, s.cfg.Log); err != nil {
		return err
	}
	if _, err := Tool(ctx, s.cfg.Root, "consul", s.cfg.Log); err != nil {
		return err
	}
	begin := time.Now()
	if err := s.build(ctx); err != nil {
		return err
	}
	s.say("services built in %s", since(begin))

	boot, err := bootID()
	if err != nil {
		return err
	}
	st := &state{Boot: boot, BinDir: s.cfg.binDir(), Passwords: map[string]string{}, Management: newKey()}
	if st.Postgres.Port, err = s.port(ctx, 5433); err != nil {
		return err
	}
	if st.Consul.Port, err = s.port(ctx, 8500); err != nil {
		return err
	}
	if s.cfg.TestID {
		if st.TestID.Port, err = s.port(ctx, testIDPort); err != nil {
			return err
		}
	}
	if st.Consul.GRPCPort, err = s.port(ctx, 8502); err != nil {
		return err
	}
	st.Postgres.Dir, st.Consul.Dir = s.postgresDir(), s.consulDir()
	for _, service := range services {
		for n := range s.cfg.Instances[service] {
			in := &instanceState{Name: service + "-" + strconv.Itoa(n+1), Service: service}
			wanted := 0
			if in.Name == "gateway-1" {
				wanted = 8080
			}
			if in.Port, err = s.port(ctx, wanted); err != nil {
				return err
			}
			if in.AdminPort, err = s.port(ctx, 0); err != nil {
				return err
			}
			st.Instances = append(st.Instances, in)
		}
	}
	makePasswords(st)
	st.Started = time.Now()
	s.begin = st.Started
	s.adopt(st)
	return st.save(s.cfg.RunDir)
}

// port is the wanted one where usual ports are preferred and it is free, else any that is.
func (s *Shop) port(ctx context.Context, wanted int) (int, error) {
	if s.cfg.UsualPorts && wanted != 0 && testkit.PortFree(ctx, wanted) {
		return wanted, nil
	}
	return testkit.FreePort(ctx)
}

// startServers starts PostgreSQL, with its databases, and Consul.
func (s *Shop) startServers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		begin := time.Now()
		if err := s.startPostgres(ctx); err != nil {
			return err
		}
		s.say("postgres answers on %s after %s", address(s.state.Postgres.Port), since(begin))
		begin = time.Now()
		if err := s.createDatabases(ctx); err != nil {
			return err
		}
		s.say("a database and a login per service made in %s", since(begin))
		return nil
	})
	g.Go(func() error {
		begin := time.Now()
		if err := s.startConsul(ctx); err != nil {
			return err
		}
		s.say("consul leads on %s after %s", s.Consul, since(begin))
		begin = time.Now()
		if err := s.secureConsul(ctx); err != nil {
			return err
		}
		s.say("a token per service, and none for anybody else, in %s", since(begin))
		return nil
	})
	return g.Wait()
}

func (s *Shop) startPostgres(ctx context.Context) error {
	started := func(pid int) error {
		return s.record(func(st *state) (err error) {
			st.Postgres.Process, err = identify(pid)
			return err
		})
	}
	server, err := testkit.StartPostgres(ctx, testkit.PostgresConfig{
		Dir: s.state.Postgres.Dir, Port: s.state.Postgres.Port, Password: s.state.Passwords["postgres"],
		Detach: s.cfg.Detach, Started: started,
	})
	if err != nil {
		return err
	}
	s.postgres = server
	return started(server.PID())
}

func (s *Shop) startConsul(ctx context.Context) error {
	started := func(pid int) error {
		return s.record(func(st *state) (err error) {
			st.Consul.Process, err = identify(pid)
			return err
		})
	}
	server, err := testkit.StartConsul(ctx, testkit.ConsulConfig{
		Dir: s.state.Consul.Dir, HTTPPort: s.state.Consul.Port, GRPCPort: s.state.Consul.GRPCPort,
		Management: s.state.Management, Keep: true, Detach: s.cfg.Detach, Started: started,
	})
	if err != nil {
		return err
	}
	s.consul = server
	return started(server.PID())
}

// record changes the state and saves it. The caller holds the lock of the run directory.
func (s *Shop) record(change func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := change(s.state); err != nil {
		return err
	}
	return s.state.save(s.cfg.RunDir)
}

// startInstances starts every instance at once and waits until all are ready.
func (s *Shop) startInstances(ctx context.Context) error {
	begin := time.Now()
	for _, in := range s.state.Instances {
		if err := s.spawn(in, nil); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, in := range s.state.Instances {
		g.Go(func() error {
			if err := s.waitReady(ctx, in); err != nil {
				return err
			}
			s.say("%-14s ready on %s after %s (pid %d)", in.Name, address(in.Port), since(begin), in.PID)
			return nil
		})
	}
	return g.Wait()
}

// Down stops the services, the gateway first, then Consul and PostgreSQL, and removes the data and the state; the logs
// stay. A service that has not drained after 10 s is killed. Down of a shop that is down does nothing.
func (s *Shop) Down(ctx context.Context) error {
	unlock, err := lock(ctx, s.cfg.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	current, err := loadState(s.cfg.RunDir)
	if err != nil || current == nil {
		return err
	}
	s.adopt(current)
	s.begin = time.Now()
	return s.takeDown(ctx)
}

// takeDown is Down for a caller that holds the lock of the run directory.
func (s *Shop) takeDown(ctx context.Context) error {
	var edge, inner []*instanceState
	for _, in := range s.state.Instances {
		if in.Service == "gateway" {
			edge = append(edge, in)
		} else {
			inner = append(inner, in)
		}
	}
	var errs []error
	for _, group := range [][]*instanceState{edge, inner} {
		var g errgroup.Group
		for _, in := range group {
			g.Go(func() error { return s.end(ctx, in.Name, in.Process, syscall.SIGTERM) })
		}
		errs = append(errs, g.Wait())
	}
	errs = append(errs,
		s.end(ctx, testID, s.state.TestID.Process, syscall.SIGTERM),
		s.end(ctx, "consul", s.state.Consul.Process, syscall.SIGTERM),
		s.end(ctx, "postgres", s.state.Postgres.Process, syscall.SIGQUIT), // at once: its data goes next
	)
	if s.consul != nil {
		errs = append(errs, s.consul.Stop(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the state stays, so that Down can be tried again
	}
	if err := s.removeData(); err != nil {
		return err
	}
	if err := os.Remove(statePath(s.cfg.RunDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the shop's state: %w", err)
	}
	s.say("the shop is down")
	return nil
}

// end stops one process and says so.
func (s *Shop) end(ctx context.Context, name string, p Process, sig syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	begin := time.Now()
	killed, err := p.stop(ctx, sig, stopPatience)
	switch {
	case err != nil:
		return fmt.Errorf("stop %s: %w", name, err)
	case killed:
		s.say("%-14s killed after %s", name, since(begin))
	default:
		s.say("%-14s stopped after %s", name, since(begin))
	}
	return nil
}

// say writes a line to the log, with the time since the beginning.
func (s *Shop) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("%6.1fs  ", time.Since(s.begin).Seconds()) + fmt.Sprintf(format, args...) + "\n"
	_, _ = io.WriteString(s.cfg.Log, line) // a log that cannot be written is no reason to stop
}

// find gives the state of an instance.
func (s *Shop) find(name string) (*instanceState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.state.Instances, func(in *instanceState) bool { return in.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no instance %q", name)
	}
	found := *s.state.Instances[i]
	return &found, nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func since(begin time.Time) time.Duration { return time.Since(begin).Round(10 * time.Millisecond) }
