package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// firstWait is how long the first callers wait for the first answer.
	firstWait = 2 * time.Second
	// healthWait is how long one query blocks. It is under the 60 s after which middle boxes drop idle connections.
	healthWait = 55 * time.Second
	// minGap between two rounds gathers a burst of changes into one.
	minGap = 100 * time.Millisecond
	// emptyGrace is how long an empty answer after a full one is doubted.
	emptyGrace = 30 * time.Second
	// maxWatches keeps a process far below the 200 connections an agent admits per client address, should somebody ask
	// for names that came from outside.
	maxWatches = 100
)

// Instance is one place where a service can be called.
type Instance struct {
	ID   string            // unique within the service
	Addr string            // host:port
	Meta map[string]string // as registered; not to be modified
}

// Instances returns the instances of service whose checks pass, ordered by ID. The slice is shared: it must not be
// modified, and it is the same slice until something changes.
//
// The first call for a service starts a watch that lives until Close, and waits for its first answer, at most 2 s or
// until ctx ends; later calls return at once. While Consul does not answer, the last answer stands. An empty slice without
// an error means that Consul knows of no passing instance; an error, that it has never answered (or ErrClosed).
func (r *Registry) Instances(ctx context.Context, service string) ([]Instance, error) {
	w, err := r.watch(service)
	if err != nil {
		return nil, err
	}
	if set := w.set.Load(); set != nil {
		return *set, nil
	}
	select {
	case <-w.settled:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if set := w.set.Load(); set != nil {
		return *set, nil
	}
	return nil, fmt.Errorf("look up %s: no answer from Consul yet: %w", service, *w.failure.Load())
}

// Watch starts watching services that will be called, without waiting for an answer: if Consul goes away before the first
// call, the callees are known all the same. Returns ErrClosed, or an error for more services than a process may watch.
func (r *Registry) Watch(services ...string) error {
	for _, service := range services {
		if _, err := r.watch(service); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) watch(service string) (*watch, error) {
	r.mu.RLock()
	w := r.watches[service]
	r.mu.RUnlock()
	if w != nil {
		return w, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watches[service]; w != nil {
		return w, nil
	}
	switch {
	case r.watching.Err() != nil:
		return nil, ErrClosed
	case service == "":
		return nil, errors.New("look up a service without a name")
	case len(r.watches) >= maxWatches:
		return nil, fmt.Errorf("look up %q: already watching %d services", service, maxWatches)
	}
	w = newWatch(r, service)
	r.watches[service] = w
	r.loops.Go(func() { w.run(r.watching) })
	return w, nil
}

// lookup asks for the passing instances of service, blocking up to wait for a change after index.
func (r *Registry) lookup(ctx context.Context, service string, index uint64, wait time.Duration) ([]*api.ServiceEntry, *api.QueryMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin(wait))
	defer cancel()
	opts := &api.QueryOptions{
		WaitIndex: index, WaitTime: wait,
		AllowStale: true, // any server may answer: freshness within milliseconds is not worth an outage of the leader
		Near:       "_agent",
	}
	entries, meta, err := r.consul.Health().Service(service, "", true, opts.WithContext(ctx))
	if err == nil && len(entries) == 0 && !meta.KnownLeader {
		err = errors.New("empty answer from a server without a leader") // it may not have loaded its state yet
	}
	return entries, meta, err
}

// answerWithin is when a query that blocks for wait must have answered: Consul adds up to a sixteenth of jitter, and ten
// seconds are for the answer itself.
func answerWithin(wait time.Duration) time.Duration { return wait + wait/16 + 10*time.Second }

// nextIndex is what to wait for after an answer. An index that went backwards means that Consul has lost its data; waiting
// for the old one would sleep through every change.
func nextIndex(previous, answered uint64) uint64 {
	if answered < previous {
		return 0
	}
	return max(answered, 1)
}

// watch follows one service. Only run writes; set is read by everybody.
type watch struct {
	r       *Registry
	service string
	set     atomic.Pointer[[]Instance] // nil until the first answer
	settled chan struct{}              // closed at the first answer or after firstWait, whichever is first
	failure atomic.Pointer[error]      // the last one

	answered   atomic.Int64 // unix nanoseconds of the last answer, or of the start
	failing    atomic.Bool
	recalled   atomic.Bool // the set is from the disk
	emptySince time.Time   // when an empty answer was first doubted; zero when none is
	savedAt    time.Time   // when the copy on disk was last written
}

func newWatch(r *Registry, service string) *watch {
	w := &watch{r: r, service: service, settled: make(chan struct{})}
	waiting := errors.New("still waiting")
	w.failure.Store(&waiting)
	w.answered.Store(r.now().UnixNano())
	return w
}

// run asks until ctx ends. Nothing it meets makes it stop or forget.
func (w *watch) run(ctx context.Context) {
	giveUp := time.AfterFunc(firstWait, func() {
		w.recall()
		close(w.settled)
	})
	settle := func() {
		if giveUp != nil && giveUp.Stop() {
			close(w.settled)
		}
		giveUp = nil
	}
	defer settle()

	var index uint64
	failures := 0
	for ctx.Err() == nil {
		began := w.r.now()
		entries, meta, err := w.r.lookup(ctx, w.service, index, w.wait())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			index = 0 // the answer after an error may come from a Consul that has lost its data
			failures++
			w.failed(err)
			if w.recall() {
				settle()
			}
			sleep(ctx, backoff(failures))
			continue
		}
		failures = 0
		index = nextIndex(index, meta.LastIndex)
		w.learn(instancesOf(entries))
		settle()
		sleep(ctx, minGap-w.r.now().Sub(began))
	}
}

// wait is how long the next query may block: not beyond the moment an empty answer begins to be believed.
func (w *watch) wait() time.Duration {
	if w.emptySince.IsZero() {
		return healthWait
	}
	// Not zero, which Consul takes for its own default of five minutes.
	return max(minGap, min(healthWait, emptyGrace-w.r.now().Sub(w.emptySince)))
}

func (w *watch) failed(err error) {
	w.failure.Store(&err)
	w.r.metrics.errors.WithLabelValues(w.service, errorKind(err)).Inc()
	if !w.failing.Swap(true) {
		w.r.log.Warn("cannot watch a service, keeping what is known", "callee", w.service, "error", err)
	}
}

// learn takes an answer, unless it is a sudden empty one.
func (w *watch) learn(fresh []Instance) {
	now := w.r.now()
	w.answered.Store(now.UnixNano())
	w.recalled.Store(false)
	if w.failing.Swap(false) {
		w.r.log.Info("watching a service again", "callee", w.service)
	}
	old := w.set.Load()
	if len(fresh) > 0 || old == nil || len(*old) == 0 {
		w.emptySince = time.Time{}
	} else {
		if w.emptySince.IsZero() {
			w.emptySince = now
			w.r.log.Warn("all instances of a service are gone, keeping the old set for a while", "callee", w.service, "instances", len(*old))
		}
		if now.Sub(w.emptySince) < emptyGrace {
			w.count(0, len(*old))
			return
		}
		w.emptySince = time.Time{}
	}
	w.count(len(fresh), 0)
	changed := old == nil || !slices.EqualFunc(*old, fresh, sameInstance)
	w.keep(now, fresh, changed)
	if !changed {
		return
	}
	w.set.Store(&fresh)
	w.r.metrics.updates.WithLabelValues(w.service).Inc()
	w.r.log.Info("instances changed", "callee", w.service, "instances", len(fresh))
}

func (w *watch) count(passing, suspect int) {
	w.r.metrics.instances.WithLabelValues(w.service, "passing").Set(float64(passing))
	w.r.metrics.instances.WithLabelValues(w.service, "suspect").Set(float64(suspect))
}

// staleness is how long the answer in use has been overdue, zero while Consul is answering. A query is allowed to block for
// its whole wait before its silence counts, unless it already failed.
func (w *watch) staleness(now time.Time) time.Duration {
	age := now.Sub(time.Unix(0, w.answered.Load()))
	if w.failing.Load() {
		return age
	}
	return max(0, age-healthWait-healthWait/16)
}

func instancesOf(entries []*api.ServiceEntry) []Instance {
	set := make([]Instance, 0, len(entries))
	for _, e := range entries {
		host := cmp.Or(e.Service.Address, e.Node.Address)
		set = append(set, Instance{
			ID:   e.Service.ID,
			Addr: net.JoinHostPort(host, strconv.Itoa(e.Service.Port)),
			Meta: e.Service.Meta,
		})
	}
	slices.SortFunc(set, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr))
	})
	return set
}

func sameInstance(a, b Instance) bool {
	return a.ID == b.ID && a.Addr == b.Addr && maps.Equal(a.Meta, b.Meta)
}
