package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// agentTimeout bounds a call that the agent answers from memory. Its client sets no timeout of its own, and a
	// stopped agent would otherwise hold us for ever.
	agentTimeout = 2 * time.Second
	// selfWait is how long one look at our own registration blocks.
	selfWait = 60 * time.Second
	// renewEvery, give or take a fifth, is when we register again whatever the agent says: it also mends a check that
	// was lost or changed while the service stayed.
	renewEvery = 60 * time.Second
	// healWithin spreads the repairs of a fleet whose registry has just lost everything.
	healWithin = 2 * time.Second
)

// What an instance may say of itself in its Meta.
const (
	MetaVersion = "version"      // of the program
	MetaZone    = "zone"         // where it runs
	MetaWeight  = "weight"       // how much it takes, against 1 of the others
	MetaBoot    = "boot_id"      // of this life of the process: another one after each start
	MetaMetrics = "metrics_port" // the admin port
)

// Registration is what a service tells Consul about one of its instances.
type Registration struct {
	Service   string            // the name others call it by
	Host      string            // where other instances and the agent reach it
	Port      int               // the service port
	AdminPort int               // serves /readyz, which the agent asks
	Meta      map[string]string // version, zone, weight and the like; may be nil
}

// ID is the instance's name in Consul: service-host-port. It is stable, so that a restarted process replaces its own
// entry instead of leaving a ghost behind for the minute it takes Consul to remove it.
func (g Registration) ID() string {
	return g.Service + "-" + g.Host + "-" + strconv.Itoa(g.Port)
}

func (g Registration) validate() error {
	if g.Service == "" || g.Host == "" || g.Port < 1 || g.Port > 65535 || g.AdminPort < 1 || g.AdminPort > 65535 {
		return fmt.Errorf("registration needs a service, a host and two ports, got %+v", g)
	}
	return nil
}

// entry is the registration in Consul's terms. The check starts as critical on purpose: declaring a cold service healthy
// would send it traffic before it has looked at its own database.
func (g Registration) entry() *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{
		ID: g.ID(), Name: g.Service, Address: g.Host, Port: g.Port, Meta: g.Meta,
		Weights: &api.AgentWeights{Passing: 100, Warning: 1},
		Check: &api.AgentServiceCheck{
			Name:     "readyz",
			HTTP:     "http://" + net.JoinHostPort(g.Host, strconv.Itoa(g.AdminPort)) + "/readyz",
			Interval: "2s",
			Timeout:  "1s",
			// Two in a row: on a shared processor one late answer is not an illness.
			FailuresBeforeCritical: 2,
			// Refuse collection, not failure detection: asked for less, Consul still takes a minute and a half.
			DeregisterCriticalServiceAfter: "1m",
		},
	}
}

// Keep registers g and holds the registration up until ctx ends: it registers again as soon as the agent has lost it, and
// every minute in any case. While Consul is away it retries with backoff and says so once in the log. It returns nil when
// ctx ends, without deregistering, and an error only for a registration that could never work.
//
// End Keep and wait for it before Deregister, or it will repair what Deregister removed.
func (r *Registry) Keep(ctx context.Context, g Registration) error {
	if err := g.validate(); err != nil {
		return err
	}
	up := r.metrics.registrationUp.WithLabelValues(g.Service, g.ID())
	defer up.Set(0)
	log := r.log.With("service", g.Service, "instance", g.ID())
	r.liftMaintenance(ctx, g)

	failures := 0
	for reason := "start"; ctx.Err() == nil; {
		if err := r.register(ctx, g); err != nil {
			if failures++; failures == 1 {
				log.Warn("cannot register, retrying in the background", "reason", reason, "error", err)
			}
			up.Set(0)
			sleep(ctx, backoff(failures))
			continue
		}
		up.Set(1)
		if reason != "renewal" || failures > 0 {
			log.Info("registered", "reason", reason)
		}
		r.metrics.reregisters.WithLabelValues(reason).Inc()
		failures = 0
		if reason = r.watchSelf(ctx, g); reason == "lost" {
			up.Set(0)
			sleep(ctx, jitter(healWithin))
		}
	}
	return nil
}

// register tells the agent. Once begun it is finished even if ctx ends meanwhile: a request abandoned half way could
// otherwise be carried out after the deregistration that follows.
func (r *Registry) register(ctx context.Context, g Registration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentTimeout)
	defer cancel()
	return r.consul.Agent().ServiceRegisterOpts(g.entry(), api.ServiceRegisterOpts{}.WithContext(ctx))
}

// liftMaintenance undoes the maintenance of an earlier life of this process that died between the two steps of
// Deregister. Its failure does not matter: there was none, or Consul is away and a restarted agent forgets it.
func (r *Registry) liftMaintenance(ctx context.Context, g Registration) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	_ = r.consul.Agent().DisableServiceMaintenanceOpts(g.ID(), (&api.QueryOptions{}).WithContext(ctx))
}

// watchSelf blocks until it is time to register again, and says why: "lost" when the agent no longer knows us, "renewal"
// when it has been a minute. An agent that does not answer is waited for: when it comes back it says which it is.
func (r *Registry) watchSelf(ctx context.Context, g Registration) string {
	renewAt := r.now().Add(renewEvery*4/5 + rand.N(renewEvery*2/5))
	hash, failures := "", 0
	for ctx.Err() == nil {
		left := renewAt.Sub(r.now())
		if left <= 0 {
			break
		}
		began := r.now()
		seen, err := r.self(ctx, g, hash, min(left, selfWait))
		switch {
		case isNotFound(err):
			return "lost"
		case err != nil:
			hash = ""
			failures++
			sleep(ctx, backoff(failures))
		default:
			hash, failures = seen, 0
			sleep(ctx, minGap-r.now().Sub(began))
		}
	}
	return "renewal"
}

// self blocks until the agent's record of us differs from hash, at most wait, and returns the new hash.
func (r *Registry) self(ctx context.Context, g Registration, hash string, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin(wait))
	defer cancel()
	opts := &api.QueryOptions{WaitHash: hash, WaitTime: wait}
	_, meta, err := r.consul.Agent().Service(g.ID(), opts.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return meta.LastContentHash, nil
}

// WaitPassing blocks until Consul lists g as passing, which is when others begin to call it. Errors of Consul are waited
// out; it fails only with the error of ctx.
func (r *Registry) WaitPassing(ctx context.Context, g Registration) error {
	var (
		index    uint64
		failures int
		last     error
	)
	for ctx.Err() == nil {
		entries, meta, err := r.lookup(ctx, g.Service, index, healthWait)
		if err != nil {
			index, last = 0, err
			failures++
			sleep(ctx, backoff(failures))
			continue
		}
		failures, last = 0, nil
		for _, e := range entries {
			if e.Service.ID == g.ID() {
				return nil
			}
		}
		index = nextIndex(index, meta.LastIndex)
		sleep(ctx, minGap)
	}
	return fmt.Errorf("wait for %s to pass its check: %w", g.ID(), errors.Join(ctx.Err(), last))
}

// Deregister takes g out: first into maintenance, which callers see within milliseconds, then out of the catalogue. An
// instance Consul does not know is success. An error means that Consul was not reached and g may be listed until its
// check has failed.
func (r *Registry) Deregister(ctx context.Context, g Registration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*agentTimeout)
	defer cancel()
	opts := (&api.QueryOptions{}).WithContext(ctx)
	// Whether maintenance worked is of no interest if the next step does.
	_ = r.consul.Agent().EnableServiceMaintenanceOpts(g.ID(), "draining", opts)
	if err := r.consul.Agent().ServiceDeregisterOpts(g.ID(), opts); err != nil && !isNotFound(err) {
		return fmt.Errorf("deregister %s: %w", g.ID(), err)
	}
	return nil
}
