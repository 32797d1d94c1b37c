package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// state is what state.json remembers of a shop, so that another process can find it, steer it and take it down.
type state struct {
	Boot       string            `json:"boot"`
	Started    time.Time         `json:"started"` // of the first process
	BinDir     string            `json:"bin_dir"`
	Postgres   serverState       `json:"postgres"`
	Passwords  map[string]string `json:"passwords"`  // by login
	Management string            `json:"management"` // the token that may do everything in Consul
	Consul     serverState       `json:"consul"`
	TestID     serverState       `json:"test_id"` // without a port there is none
	Instances  []*instanceState  `json:"instances"`
}

type serverState struct {
	Process

	Port     int    `json:"port"`
	GRPCPort int    `json:"grpc_port,omitempty"` // Consul's
	Dir      string `json:"dir"`
}

// instanceState is one instance of a service. Its ports are its own for the life of the shop.
type instanceState struct {
	Process

	Name      string `json:"name"`
	Service   string `json:"service"`
	Port      int    `json:"port"`
	AdminPort int    `json:"admin_port"`
}

func statePath(runDir string) string { return filepath.Join(runDir, "state.json") }

// loadState reads the state of the shop in runDir; nil if there is none.
func loadState(runDir string) (*state, error) {
	b, err := os.ReadFile(statePath(runDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the shop's state: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read the shop's state in %s: %w", statePath(runDir), err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if s.Boot != boot {
		s.forget() // a reboot ended all of it, and the numbers may be other processes' now
	}
	return &s, nil
}

// forget empties every process id.
func (s *state) forget() {
	s.Postgres.Process, s.Consul.Process, s.TestID.Process = Process{}, Process{}, Process{}
	for _, in := range s.Instances {
		in.Process = Process{}
	}
}

// save writes the state in one step: a reader sees the old one or the new one.
func (s *state) save(runDir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the shop's state: %w", err)
	}
	temp := statePath(runDir) + ".new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the shop's state: %w", err)
	}
	if err := os.Rename(temp, statePath(runDir)); err != nil {
		return fmt.Errorf("write the shop's state: %w", err)
	}
	return nil
}

// alive counts the shop's processes that run, and all it should have.
func (s *state) alive() (running, all int) {
	processes := []Process{s.Postgres.Process, s.Consul.Process}
	for _, in := range s.Instances {
		processes = append(processes, in.Process)
	}
	for _, p := range processes {
		if p.Alive() {
			running++
		}
	}
	return running, len(processes)
}

// lock takes the run directory for one command at a time; the returned function gives it back. A command that dies
// gives it back, too.
func lock(ctx context.Context, runDir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(runDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w", err)
	}
	var lockErr error
	free := poll(ctx, 100*time.Millisecond, func() bool {
		lockErr = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		return !errors.Is(lockErr, syscall.EWOULDBLOCK)
	})
	if free && lockErr == nil {
		return func() { _ = f.Close() }, nil // closing it releases the lock
	}
	if !free {
		lockErr = ctx.Err()
	}
	return nil, errors.Join(fmt.Errorf("lock the run directory: %w", lockErr), f.Close())
}
