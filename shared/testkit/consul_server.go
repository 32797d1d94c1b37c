package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulConfig says how to start a Consul agent. The zero value is a private one for tests: free ports, everything in
// memory.
type ConsulConfig struct {
	// Dir holds the agent's log and pid file, and is kept when it stops. Empty means a temporary folder that is
	// removed when the agent stops.
	Dir string
	// HTTPPort and GRPCPort on 127.0.0.1; 0 picks a free one.
	HTTPPort, GRPCPort int
	// Management is the token, a UUID, that may do everything, and turns ACLs on: who brings none may do nothing. Empty leaves
	// them off.
	Management string
	// Keep stores the agent's state, its certificate authority included, in Dir, so that a restarted agent is the
	// same one. Otherwise everything is in memory.
	Keep bool
	// Detach lets the agent outlive this process. Otherwise it ends with it, whatever way it ends.
	Detach bool
	// Started is told the process id of a detached agent before it answers; see PostgresConfig. May be nil.
	Started func(pid int) error
	// Log receives one line per step; nil discards them.
	Log io.Writer
}

// ConsulServer is a running Consul agent, a server and its own leader, that answers on 127.0.0.1 only. Unless
// it was started with Detach, keep the handle: a server that nobody can reach any more is stopped.
type ConsulServer struct {
	// Addr of the HTTP API, host:port.
	Addr string
	// GRPC is where it signs certificates, host:port.
	GRPC string
	// Dir holds server.log, and the state when it is kept.
	Dir string
	// Management is the token that may do everything; empty where there are no ACLs.
	Management string

	process *process
	pid     int
}

// ErrNoConsul says that this machine has no consul program.
var ErrNoConsul = errors.New("no consul on PATH or in the cache: run `make tools` (about 7 minutes the first time)")

// ToolsDir is where this project's tools are built: souk/bin in the user's cache.
func ToolsDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache: %w", err)
	}
	return filepath.Join(cache, "souk", "bin"), nil
}

// ConsulBin finds the consul program: on PATH, else in [ToolsDir]. Returns ErrNoConsul when there is none.
func ConsulBin() (string, error) {
	if path, err := exec.LookPath("consul"); err == nil {
		return filepath.Abs(path)
	}
	dir, err := ToolsDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "consul")
	if _, err := os.Stat(path); err != nil {
		return "", ErrNoConsul
	}
	return path, nil
}

// StartConsul starts a Consul agent and returns once it has elected itself leader.
func StartConsul(ctx context.Context, cfg ConsulConfig) (*ConsulServer, error) {
	bin, err := ConsulBin()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	private := cfg.Dir == ""
	if private {
		if cfg.Dir, err = temporaryDir("souk-consul-"); err != nil {
			return nil, err
		}
	} else if err := ownDir(cfg.Dir, nil); err != nil {
		return nil, err
	}
	begin := time.Now()
	// A port found free may be taken before the agent binds it.
	for attempt := 1; ; attempt++ {
		s := &ConsulServer{Dir: cfg.Dir, Management: cfg.Management}
		err := s.launch(ctx, cfg, bin, private)
		if err == nil {
			fmt.Fprintf(cfg.Log, "consul: leads on %s after %s (pid %d)\n", s.Addr, time.Since(begin).Round(time.Millisecond), s.pid)
			return s, nil
		}
		if attempt == 5 || !portTaken(err) {
			if private {
				err = errors.Join(err, os.RemoveAll(cfg.Dir))
			}
			return nil, err
		}
	}
}

// launch starts the agent on ports free at the moment and waits for its first leader.
func (s *ConsulServer) launch(ctx context.Context, cfg ConsulConfig, bin string, private bool) error {
	ports := [4]int{cfg.HTTPPort, cfg.GRPCPort} // HTTP, gRPC, server RPC, serf
	for i := range ports {
		if ports[i] != 0 {
			continue
		}
		var err error
		if ports[i], err = FreePort(ctx); err != nil {
			return err
		}
	}
	// Gossip, DNS and the usage report have no user here; the WAN port would only be one more to collide on.
	settings := map[string]any{
		"node_name":            "souk",
		"bind_addr":            "127.0.0.1",
		"client_addr":          "127.0.0.1",
		"ports":                map[string]int{"http": ports[0], "grpc": ports[1], "server": ports[2], "serf_lan": ports[3], "serf_wan": -1, "dns": -1, "grpc_tls": -1},
		"connect":              map[string]any{"enabled": true},
		"disable_update_check": true,
		"log_level":            "warn",
		"leave_on_terminate":   false,
	}
	if cfg.Keep {
		settings["server"] = true
		settings["bootstrap_expect"] = 1
		settings["data_dir"] = filepath.Join(s.Dir, "data")
		settings["ui_config"] = map[string]any{"enabled": true}
		settings["performance"] = map[string]any{"raft_multiplier": 1} // elect in a second, not in five
	}
	if cfg.Management != "" {
		settings["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny",
			"tokens": map[string]string{"initial_management": cfg.Management, "agent": cfg.Management}, // this file has it anyway
		}
	}
	b, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return fmt.Errorf("write consul's settings: %w", err)
	}
	file := filepath.Join(s.Dir, "consul.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("write consul's settings: %w", err)
	}
	argv := []string{bin, "agent", "-config-file=" + file}
	if !cfg.Keep {
		argv = append(argv, "-dev")
	}
	s.Addr, s.GRPC = loopback(ports[0]), loopback(ports[1])
	process, err := start(ctx, command{argv: argv, dir: s.Dir, stop: syscall.SIGTERM, detach: cfg.Detach, started: cfg.Started, wipe: private})
	if err != nil {
		return fmt.Errorf("start consul: %w", err)
	}
	if err := process.await(ctx, "consul", s.answers); err != nil {
		return err
	}
	if process.pid == 0 {
		if process.pid, err = readPID(s.Dir); err != nil {
			return errors.Join(err, process.end(ctx))
		}
	}
	s.process, s.pid = process, process.pid
	return nil
}

// Token makes a token that may register service, and nothing else, and see where everybody is. The agent must have been
// started with a Management token.
func (s *ConsulServer) Token(ctx context.Context, service string) (string, error) {
	client, err := s.Client(s.Management)
	if err != nil {
		return "", err
	}
	opts := (&api.WriteOptions{}).WithContext(ctx)
	policy := &api.ACLPolicy{Name: service, Rules: fmt.Sprintf(
		"service %q { policy = \"write\" }\nservice_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }", service)}
	if _, _, err := client.ACL().PolicyCreate(policy, opts); err != nil {
		return "", fmt.Errorf("make a policy for %s: %w", service, err)
	}
	token, _, err := client.ACL().TokenCreate(&api.ACLToken{Description: service, Policies: []*api.ACLLink{{Name: service}}}, opts)
	if err != nil {
		return "", fmt.Errorf("make a token for %s: %w", service, err)
	}
	return token.SecretID, nil
}

// Client of the agent's API with a token.
func (s *ConsulServer) Client(token string) (*api.Client, error) {
	// No idle connection outlives the question.
	return api.NewClient(&api.Config{Address: s.Addr, Token: token, HttpClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
}

// PID of the agent.
func (s *ConsulServer) PID() int { return s.pid }

// Stop ends the agent and waits until it is gone.
func (s *ConsulServer) Stop(ctx context.Context) error {
	if err := s.process.end(ctx); err != nil {
		return fmt.Errorf("stop consul: %w", err)
	}
	return nil
}

// answers tells whether the agent has a leader and, where it has ACLs, knows who may do everything.
func (s *ConsulServer) answers(ctx context.Context) error {
	if err := s.hasLeader(ctx); err != nil || s.Management == "" {
		return err
	}
	client, err := s.Client(s.Management)
	if err == nil {
		_, _, err = client.ACL().TokenReadSelf((&api.QueryOptions{}).WithContext(ctx))
	}
	return err
}

// hasLeader asks the agent for its leader; none yet is an error.
func (s *ConsulServer) hasLeader(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/v1/status/leader", http.NoBody)
	if err != nil {
		return err
	}
	// A transport of its own, so that no idle connection outlives the question.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var leader string
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<10)).Decode(&leader); err != nil {
		return fmt.Errorf("ask for the leader (%s): %w", resp.Status, err)
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	return nil
}
