package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"souk/shared/testkit"
)

// coldStart starts the caller, and one of those it calls, while Consul is away.
func coldStart(ctx context.Context, t *trial) error {
	dir := filepath.Join(t.dir, "consul-cold")
	consul, err := testkit.StartConsul(ctx, testkit.ConsulConfig{Dir: dir})
	if err != nil {
		return err
	}
	t.consul = consul.Addr
	t.cleanups = append(t.cleanups, func(ctx context.Context) error { return consul.Stop(ctx) })
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller, up[1:]...); err != nil {
		return err
	}
	t.forget(caller) // it is about to begin another life
	if t.healthy, err = caller.call(ctx, load{Callee: t.name + "-up", PerSecond: 100, Calls: 200}); err != nil {
		return err
	}

	if err := errors.Join(syscall.Kill(consul.PID(), syscall.SIGKILL), consul.Stop(ctx)); err != nil {
		return err
	}
	for _, p := range []*process{caller, up[0]} {
		if err := p.end(ctx, syscall.SIGKILL); err != nil {
			return err
		}
		if err := p.start(); err != nil {
			return err
		}
	}
	started := time.Now()
	for _, p := range []*process{caller, up[0]} {
		if err := p.serves(ctx); err != nil {
			return err
		}
	}
	t.atMost("both serve without Consul after their start", time.Since(started).Seconds(), 5, " s")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		calls, err := caller.call(ctx, load{Callee: t.name + "-up", PerSecond: 100, Calls: 300, Method: method})
		if err != nil {
			return err
		}
		t.during = append(t.during, calls...)
	}
	t.atMost("calls without Consul that failed", float64(len(t.during.failed())), 0, "")
	t.atLeast("calls that the one answers that started without Consul, too", float64(len(t.during.where(func(c sample) bool { return c.Instance == up[0].instance }))), 30, "")

	_, text, _ := net.SplitHostPort(t.consul)
	port, _ := strconv.Atoi(text)
	seen := watchAgent(ctx, t.consul)
	if consul, err = testkit.StartConsul(ctx, testkit.ConsulConfig{Dir: dir, HTTPPort: port}); err != nil {
		return err
	}
	t.recovery, _ = seen.wait(len(t.nodes))
	t.atMost("all registered after Consul answers", t.recovery.Seconds(), 5, " s")
	if err := caller.knows(ctx, t.name+"-up", 3); err != nil {
		return err
	}
	calls, err := caller.call(ctx, load{Callee: t.name + "-up", PerSecond: 100, Calls: 100})
	if err != nil {
		return err
	}
	t.during = append(t.during, calls...)
	t.atMost("calls that failed when it was back", float64(len(calls.failed())), 0, "")
	if _, err := caller.usage(ctx); err != nil { // its idle connections are files of those who survived
		return err
	}
	return t.leaks(ctx)
}

// serves waits until the node answers.
func (p *process) serves(ctx context.Context) error {
	return until(ctx, patience, p.instance+" to serve", func() bool {
		_, err := p.work(ctx)
		return err == nil
	})
}
