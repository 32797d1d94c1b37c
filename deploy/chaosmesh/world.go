package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"souk/shared/mesh"
)

// world is what one row runs in: a Consul, and nodes whose services are named after the row.
type world struct {
	consul string // host:port
	dir    string
	seed   uint64

	nodes    []*process
	watched  []*process
	before   []usage
	cleanups []func(context.Context) error
}

// node starts one, with further variables.
func (t *trial) node(ctx context.Context, service string, env ...string) (*process, error) {
	service = t.name + "-" + service
	number := len(t.nodes) + 1
	p, err := newProcess(ctx, t.dir, service, service+"-"+strconv.Itoa(number), append([]string{
		"CONSUL_HTTP_ADDR=" + t.consul, "CHAOS_SEED=" + strconv.FormatUint(t.seed+uint64(number), 10),
		"CHAOS_LEDGER=" + t.ledger(service, number),
	}, env...))
	if err != nil {
		return nil, err
	}
	t.nodes = append(t.nodes, p)
	return p, nil
}

func (t *trial) ledger(service string, number int) string {
	return t.dir + "/" + service + "-" + strconv.Itoa(number) + ".ledger"
}

// cast starts n nodes of service "up" and a caller, and waits until the caller knows them all.
func (t *trial) cast(ctx context.Context, n int) (up []*process, caller *process, err error) {
	if caller, err = t.node(ctx, "caller", "CHAOS_CALLS="+t.name+"-up"); err != nil {
		return nil, nil, err
	}
	if up, err = t.several(ctx, "up", n); err != nil {
		return nil, nil, err
	}
	return up, caller, caller.knows(ctx, t.name+"-up", n)
}

// several starts n nodes of a service.
func (t *trial) several(ctx context.Context, service string, n int) (list []*process, err error) {
	for range n {
		p, err := t.node(ctx, service)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

const patience = 30 * time.Second // for a node to start and be found on a busy machine

// knows waits until the node knows n instances of service.
func (p *process) knows(ctx context.Context, service string, n int) error {
	known := 0
	return until(ctx, patience, fmt.Sprintf("%s to know %d of %s", p.instance, n, service), func() bool {
		snap, err := p.see(ctx)
		if err != nil {
			return false
		}
		for _, l := range snap.Lookups {
			if l.Service == service {
				known = l.Instances
			}
		}
		return known == n
	})
}

// until asks every 20 ms whether something is so.
func until(ctx context.Context, patience time.Duration, what string, so func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s in vain for %s", patience, what))
	defer cancel()
	for !so() {
		if rest(ctx, 20*time.Millisecond) != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// warm makes calls for a moment, so that everything that is made once has been made, and notes what the survivors of the
// row hold before it begins.
func (t *trial) warm(ctx context.Context, caller *process, survivors ...*process) error {
	if _, err := caller.call(ctx, load{Callee: t.name + "-up", PerSecond: perSecond, Calls: perSecond}); err != nil {
		return err
	}
	return t.watch(ctx, append(survivors, caller)...)
}

// watch notes what processes hold.
func (t *trial) watch(ctx context.Context, survivors ...*process) error {
	for _, p := range survivors {
		u, err := p.usage(ctx)
		if err != nil {
			return err
		}
		t.watched, t.before = append(t.watched, p), append(t.before, u)
	}
	return nil
}

// mostLeaked is what a process may hold more than before: a connection to Consul that is not idle yet, with its goroutines.
const mostLeaked = 4

// leaks compares what the survivors hold with what they held, once they had time to let go.
func (t *trial) leaks(ctx context.Context) error {
	var failed error
	_ = until(ctx, 10*time.Second, "the survivors to let go", func() bool { // what is still held then is judged below
		t.leaked = usage{}
		for i, p := range t.watched {
			now, err := p.usage(ctx)
			if err != nil {
				failed = err
				return true
			}
			t.leaked.goroutines = max(t.leaked.goroutines, now.goroutines-t.before[i].goroutines)
			t.leaked.files = max(t.leaked.files, now.files-t.before[i].files)
		}
		return t.leaked.goroutines <= mostLeaked && t.leaked.files <= mostLeaked
	})
	t.atMost("goroutines more than before, in any survivor", float64(t.leaked.goroutines), mostLeaked, "")
	t.atMost("files more than before, in any survivor", float64(t.leaked.files), mostLeaked, "")
	return failed
}

// tearDown ends whatever the row left running.
func (t *trial) tearDown(ctx context.Context) error {
	var errs []error
	for _, p := range t.nodes {
		errs = append(errs, p.end(ctx, syscall.SIGKILL))
	}
	for _, cleanup := range t.cleanups {
		errs = append(errs, cleanup(ctx))
	}
	return errors.Join(errs...)
}

// endpoint is what a caller knows of one instance; the zero value if it does not know it.
func endpoint(snap mesh.Snapshot, id string) mesh.Endpoint {
	for _, c := range snap.Callees {
		for _, e := range c.Instances {
			if e.ID == id {
				return e
			}
		}
	}
	return mesh.Endpoint{}
}

// eventsOf are the events of one kind.
func eventsOf(snap mesh.Snapshot, kind string) (list []mesh.Event) {
	for _, e := range snap.Events {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}
