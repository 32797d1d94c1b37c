package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"souk/deploy/proc"

	"golang.org/x/sync/errgroup"
)

// Instance is one process of a service, running or not.
type Instance struct {
	Name    string // "product-2"
	Service string
	Addr    string // where it serves, host:port
	Admin   string // where it answers /livez, /readyz and /metrics, host:port
	PID     int
	Running bool
}

// Instances of service; of all services if it is empty.
func (s *Shop) Instances(service string) []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Instance
	for _, in := range s.state.Instances {
		if service == "" || in.Service == service {
			list = append(list, Instance{
				Name: in.Name, Service: in.Service, Addr: address(in.Port), Admin: address(in.AdminPort),
				PID: in.PID, Running: in.Alive(),
			})
		}
	}
	return list
}

// Kill ends an instance (or "postgres", or "consul") with SIGKILL, as a power cut would, and returns once it is gone.
func (s *Shop) Kill(ctx context.Context, name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !p.gone(ctx, 5*time.Second) {
		return fmt.Errorf("%s survives SIGKILL", name)
	}
	return nil
}

// Stop asks an instance (or "postgres", or "consul") to drain and end, and returns once it is gone. After 10 s it is
// killed, and that is an error.
func (s *Shop) Stop(ctx context.Context, name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	sig := syscall.SIGTERM
	if name == "postgres" {
		sig = syscall.SIGINT // fast shutdown: SIGTERM would wait for every service to hang up
	}
	killed, err := p.stop(ctx, sig, stopPatience)
	if err == nil && killed {
		err = fmt.Errorf("%s did not stop within %s and was killed", name, stopPatience)
	}
	return err
}

// Signal sends sig to an instance (or "postgres", or "consul"): SIGSTOP makes it hang, SIGCONT goes on.
func (s *Shop) Signal(name string, sig syscall.Signal) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	return p.signal(sig)
}

// Start starts an instance (or "postgres", or "consul") that has ended, on the same ports as before, with further
// variables (KEY=value) for this run. It does not wait: see WaitReady.
func (s *Shop) Start(ctx context.Context, name string, env ...string) error {
	unlock, err := lock(ctx, s.cfg.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	current, err := loadState(s.cfg.RunDir)
	if err != nil {
		return err
	}
	if current == nil {
		return ErrNotRunning
	}
	s.adopt(current)

	p, err := s.process(name)
	if err != nil {
		return err
	}
	if p.Alive() {
		return fmt.Errorf("%s is running already", name)
	}
	switch name {
	case "postgres":
		return s.restartPostgres(ctx)
	case "consul":
		return s.startConsul(ctx)
	case testID:
		return s.startTestID(ctx)
	}
	i := slices.IndexFunc(current.Instances, func(in *instanceState) bool { return in.Name == name })
	return s.spawn(current.Instances[i], env)
}

// restartPostgres tries until the children of a killed postmaster have noticed and let go of its memory.
func (s *Shop) restartPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	if poll(ctx, 200*time.Millisecond, func() bool {
		err = s.startPostgres(ctx)
		return err == nil
	}) {
		return nil
	}
	return err
}

// WaitReady returns once an instance is ready and passing in Consul, or says why it is not after a minute.
func (s *Shop) WaitReady(ctx context.Context, name string) error {
	in, err := s.find(name)
	if err != nil {
		return err
	}
	return s.waitReady(ctx, in)
}

// Env is the environment of an instance's process.
func (s *Shop) Env(name string) ([]string, error) {
	in, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return s.environment(in, nil), nil
}

// process finds an instance's process, or a server's.
func (s *Shop) process(name string) (Process, error) {
	switch name {
	case "postgres":
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state.Postgres.Process, nil
	case "consul":
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state.Consul.Process, nil
	case testID:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state.TestID.Process, nil
	}
	in, err := s.find(name)
	if err != nil {
		return Process{}, err
	}
	return in.Process, nil
}

// environment is the contract with a service: see the config of souk/shared/app. What this process has in its own
// environment passes through, so that GODEBUG or a telemetry address reach the services.
func (s *Shop) environment(in *instanceState, extra []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") })
	env = append(env,
		"SERVICE_ADDR="+address(in.Port),
		"ADMIN_ADDR="+address(in.AdminPort),
		"ADVERTISE_HOST=127.0.0.1",
		"INSTANCE="+in.Name,
		"STATE_DIR="+filepath.Join(s.cfg.RunDir, "state", in.Name),
	)
	env = append(env, s.consulEnv(in.Service)...)
	if os.Getenv("LOG_LEVEL") == "" {
		env = append(env, "LOG_LEVEL=info")
	}
	if in.Service != "gateway" {
		env = append(env, "DATABASE_URL="+s.Postgres.URL(in.Service), "KEK_FILE="+filepath.Join(s.kekDir(), in.Service))
	}
	if in.Service == "user" {
		env = append(env, s.peopleEnv()...)
	}
	if s.cfg.Env != nil {
		env = append(env, s.cfg.Env(in.Name)...)
	}
	return append(env, extra...)
}

// LogPath is where the log of an instance is, or of anything else that has a log.
func (s *Shop) LogPath(name string) string {
	return filepath.Join(s.cfg.RunDir, "logs", name+".log")
}

func (s *Shop) binary(service string) string { return filepath.Join(s.state.BinDir, service) }

// spawn starts an instance and writes it down. The caller holds the lock of the run directory.
func (s *Shop) spawn(in *instanceState, env []string) error {
	// The process lives until it is stopped, not until a context is over.
	cmd := exec.Command(s.binary(in.Service)) //nolint:noctx // see above
	cmd.Env = s.environment(in, env)
	p, err := s.launch(in.Name, cmd)
	if err != nil {
		return err
	}
	return s.record(func(*state) error {
		in.Process = p
		return nil
	})
}

// launch starts a process whose output goes to the log of that name.
func (s *Shop) launch(name string, cmd *exec.Cmd) (Process, error) {
	logFile, err := os.OpenFile(s.LogPath(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Process{}, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer logFile.Close()
	cmd.Dir = s.cfg.RunDir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	start := proc.Attached
	if s.cfg.Detach {
		start = proc.Detached
	}
	if _, err := start(cmd); err != nil { // how it ends is in its log
		return Process{}, fmt.Errorf("start %s: %w", name, err)
	}
	return identify(cmd.Process.Pid)
}

// waitReady polls until in is ready and passing in Consul, has ended, or patience is over.
func (s *Shop) waitReady(ctx context.Context, in *instanceState) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	why, ended := errors.New("not asked yet"), false
	ready := poll(ctx, 25*time.Millisecond, func() bool {
		if ended = !in.Alive(); ended {
			return true
		}
		if why = s.ready(ctx, in); why != nil {
			return false
		}
		why = s.passing(ctx, in)
		return why == nil
	})
	switch {
	case ended:
		return fmt.Errorf("%s ended while starting; its log ends:\n%s", in.Name, tail(s.LogPath(in.Name)))
	case !ready:
		return fmt.Errorf("%s is not ready: %w; its log ends:\n%s", in.Name, why, tail(s.LogPath(in.Name)))
	}
	return nil
}

// ready asks the instance itself.
func (s *Shop) ready(ctx context.Context, in *instanceState) error {
	status, _, err := get(ctx, "http://"+address(in.AdminPort)+"/readyz", "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/readyz says %d", status)
	}
	return err
}

// passing asks Consul for the instance.
func (s *Shop) passing(ctx context.Context, in *instanceState) error {
	status, body, err := get(ctx, "http://"+s.Consul+"/v1/health/service/"+url.PathEscape(in.Service)+"?passing=1", s.state.Management)
	if err != nil {
		return fmt.Errorf("ask consul: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("consul says %d", status)
	}
	var entries []struct{ Service struct{ Port int } }
	if err := json.Unmarshal(body, &entries); err != nil {
		return fmt.Errorf("ask consul: %w", err)
	}
	for _, entry := range entries {
		if entry.Service.Port == in.Port {
			return nil
		}
	}
	return errors.New("it is not passing in consul")
}

// answers waits until the gateway reaches the catalogue, which every page of the shop begins with.
func (s *Shop) answers(ctx context.Context) error {
	if s.Gateway == "" || s.cfg.Instances["product"] == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	var status int
	var err error
	if !poll(ctx, 25*time.Millisecond, func() bool {
		status, _, err = get(ctx, s.Gateway+"/api/v1/products?page_size=1", "")
		return err == nil && status == http.StatusOK
	}) {
		return fmt.Errorf("the gateway does not show the catalogue: status %d: %w", status, errors.Join(err, ctx.Err()))
	}
	return nil
}

// Admin is the account that the seed makes an admin. The customers of the seed are alice@souk.example and
// bob@souk.example, with the same password.
const Admin = "admin@souk.example"

// SeedPassword is the password of the seeded accounts: SEED_PASSWORD, or one that is no secret, for a shop that answers
// on this machine only.
func SeedPassword() string { return cmp.Or(os.Getenv("SEED_PASSWORD"), "open-sesame-1001") }

// seed fills the databases through the services' own seed commands, which change nothing the second time.
func (s *Shop) seed(ctx context.Context) error {
	if s.cfg.NoSeed {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, service := range []string{"user", "product"} {
		if s.cfg.Instances[service] == 0 {
			continue
		}
		in, err := s.find(service + "-1")
		if err != nil {
			return err
		}
		g.Go(func() error {
			begin := time.Now()
			cmd := exec.CommandContext(ctx, s.binary(service), "seed")
			cmd.Dir = s.cfg.RunDir
			cmd.Env = s.environment(in, []string{"INSTANCE=" + service + "-seed", "SEED_PASSWORD=" + SeedPassword()})
			out, err := cmd.CombinedOutput()
			if writeErr := os.WriteFile(s.LogPath(service+"-seed"), out, 0o600); err == nil {
				err = writeErr
			}
			if err != nil {
				return fmt.Errorf("seed %s: %w: %s", service, err, tail(s.LogPath(service+"-seed")))
			}
			s.say("%-14s seeded in %s", service, since(begin))
			return nil
		})
	}
	return g.Wait()
}

// client asks for health on connections of their own: an idle one to a killed instance would only confuse.
var client = &http.Client{ //nolint:gochecknoglobals // never changes
	Timeout:   5 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// get asks, with a token for Consul or an empty one.
func get(ctx context.Context, address, token string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, body, err
}

// tail gives the last lines of a log, for an error message.
func tail(path string) string {
	const keep = 2000 // bytes: a few lines of JSON
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > keep {
		b = b[len(b)-keep:]
		if _, rest, ok := cutLine(string(b)); ok {
			return strings.TrimSpace(rest)
		}
	}
	return strings.TrimSpace(string(b))
}

// cutLine splits off the first line.
func cutLine(s string) (line, rest string, ok bool) { return strings.Cut(s, "\n") }
