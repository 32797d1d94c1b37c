package registry

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
)

// Lookup is what this process knows of where a service is, and how good that knowledge is.
type Lookup struct {
	Service     string `json:"service"`
	Instances   int    `json:"instances"`
	Source      string `json:"source"`       // live, last_known (Consul does not answer), disk (it never has), none
	StalenessMs int64  `json:"staleness_ms"` // how long an answer has been overdue; 0 while Consul answers
	Error       string `json:"error,omitempty"`
}

// Lookups are the services that are being watched, by name.
func (r *Registry) Lookups() []Lookup {
	r.mu.RLock()
	watches := slices.Collect(maps.Values(r.watches))
	r.mu.RUnlock()
	lookups := make([]Lookup, 0, len(watches))
	for _, w := range watches {
		l := Lookup{Service: w.service, Source: "live", StalenessMs: w.staleness(r.now()).Milliseconds()}
		set := w.set.Load()
		if set != nil {
			l.Instances = len(*set)
		}
		switch failing := w.failing.Load(); {
		case set == nil:
			l.Source = "none"
		case w.recalled.Load():
			l.Source = "disk"
		case failing:
			l.Source = "last_known"
		}
		if l.Source != "live" {
			l.Error = (*w.failure.Load()).Error()
		}
		lookups = append(lookups, l)
	}
	slices.SortFunc(lookups, func(a, b Lookup) int { return cmp.Compare(a.Service, b.Service) })
	return lookups
}

// Survey is every registered instance of every service, well or not, as Consul sees them.
type Survey struct {
	Leader    string // address of Consul's leader; empty while there is none
	Index     uint64 // to wait for the next change
	Instances []Surveyed
}

// Surveyed is an instance with its health.
type Surveyed struct {
	Instance
	Service string
	Status  string // passing, warning, critical, maintenance
	Output  string // of its check, or why it is in maintenance
}

// Admin is the address of the instance's admin port; empty if it did not register one.
func (s Surveyed) Admin() string {
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil || s.Meta["metrics_port"] == "" {
		return ""
	}
	return net.JoinHostPort(host, s.Meta["metrics_port"])
}

// Survey asks Consul for everything, once any check has changed since index or wait is over. It is for looking at the whole,
// not for finding whom to call: it fails when Consul does not answer.
func (r *Registry) Survey(ctx context.Context, index uint64, wait time.Duration) (Survey, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin(wait))
	defer cancel()
	opts := &api.QueryOptions{WaitIndex: index, WaitTime: wait, AllowStale: true}
	checks, meta, err := r.consul.Health().State(api.HealthAny, opts.WithContext(ctx))
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Index: nextIndex(index, meta.LastIndex)}
	now := (&api.QueryOptions{AllowStale: true}).WithContext(ctx)
	if s.Leader, err = r.consul.Status().LeaderWithQueryOptions(now); err != nil {
		return Survey{}, err
	}
	services := map[string]bool{}
	for _, c := range checks {
		if c.ServiceName != "" {
			services[c.ServiceName] = true
		}
	}
	for _, service := range slices.Sorted(maps.Keys(services)) {
		entries, _, err := r.consul.Health().Service(service, "", false, now)
		if err != nil {
			return Survey{}, err
		}
		for _, e := range entries {
			s.Instances = append(s.Instances, surveyed(e))
		}
	}
	slices.SortFunc(s.Instances, func(a, b Surveyed) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

func surveyed(e *api.ServiceEntry) Surveyed {
	s := Surveyed{
		Service: e.Service.Service, Status: e.Checks.AggregatedStatus(),
		Instance: Instance{
			ID: e.Service.ID, Meta: e.Service.Meta,
			Addr: net.JoinHostPort(cmp.Or(e.Service.Address, e.Node.Address), strconv.Itoa(e.Service.Port)),
		},
	}
	for _, c := range e.Checks {
		if c.Status != api.HealthPassing && c.Output+c.Notes != "" {
			s.Output = cmp.Or(c.Output, c.Notes)
		}
	}
	return s
}
