package gateway

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"souk/shared/mesh"
	"souk/shared/registry"
)

const (
	opsHistory = 120 // seconds of traffic that somebody who comes later gets to see
	opsEvents  = 200 // events kept
	// opsGap is how long a process may not have been read for what it counted meanwhile to be shown. After a longer time it
	// would look like a burst.
	opsGap = 5 * time.Second
)

// second is what happened between all callers and callees in about a second.
type second struct {
	At        time.Time     `json:"at"`
	Traffic   []traffic     `json:"traffic"`   // by caller and callee, without those where nothing happened
	Instances []instanceHit `json:"instances"` // by ID, likewise
}

// traffic is what the processes of one service asked of another, added up.
type traffic struct {
	pair
	Calls   map[string]uint64 `json:"calls"` // by result
	Tries   mesh.Tries        `json:"tries"`
	Retries uint64            `json:"retries"`
	Latency sparse            `json:"latency"`
}

type pair struct {
	Caller string `json:"caller"`
	Callee string `json:"callee"`
}

func (p pair) compare(q pair) int {
	return cmp.Or(cmp.Compare(p.Caller, q.Caller), cmp.Compare(p.Callee, q.Callee))
}

// instanceHit counts the tries at an instance, whoever made them.
type instanceHit struct {
	ID string `json:"id"`
	mesh.Tries
}

// sparse is a histogram that is written as [[bucket, count], …]: most buckets are empty.
type sparse mesh.Histogram

// MarshalJSON leaves out the zeros.
func (s sparse) MarshalJSON() ([]byte, error) {
	pairs := [][2]uint64{}
	for i, n := range s {
		if n > 0 {
			pairs = append(pairs, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(pairs)
}

// state is how everything is now.
type state struct {
	At        time.Time       `json:"at"`
	Consul    consulState     `json:"consul"`
	Instances []instanceState `json:"instances"` // by service and name
	Pairs     []pairState     `json:"pairs"`     // by caller and callee
}

type consulState struct {
	Leader      string        `json:"leader"` // empty while there is none
	Index       uint64        `json:"index"`
	StalenessMs int64         `json:"staleness_ms"` // since its last answer, where one is overdue
	Error       string        `json:"error,omitempty"`
	Lookups     []lookupState `json:"lookups"` // what each process knows; those with trouble first
}

type lookupState struct {
	Process string `json:"process"` // ID of the instance that knows it
	registry.Lookup
}

// instanceState is an instance as Consul sees it, as it is read, and as those see it who call it.
type instanceState struct {
	ID       string          `json:"id"`
	Service  string          `json:"service"`
	Name     string          `json:"name"`
	Addr     string          `json:"addr"`
	Zone     string          `json:"zone,omitempty"`
	Version  string          `json:"version"`
	Started  time.Time       `json:"started"` // zero while it was not read
	Health   string          `json:"health"`  // in Consul: passing, warning, critical, maintenance
	Output   string          `json:"output,omitempty"`
	Reading  string          `json:"reading"` // live, or why it is not
	SeenFrom []instanceSight `json:"seen_from"`
}

type instanceSight struct {
	Process string `json:"process"` // ID of the calling instance
	mesh.Endpoint
}

type pairState struct {
	pair
	Processes int            `json:"processes"` // of the caller that have called the callee
	Breakers  []breakerState `json:"breakers"`  // that have ever changed
}

type breakerState struct {
	Process string `json:"process"`
	mesh.Breaker
}

// event is a change somewhere in the shop.
type event struct {
	mesh.Event
	ID      uint64 `json:"id"`
	Process string `json:"process,omitempty"` // ID of the instance that noticed; empty for what Consul says
}

// picture is the whole shop, put together from what Consul and each process say. It is pure: time comes in with what is said.
type picture struct {
	survey    registry.Survey
	answered  time.Time // by Consul
	surveyErr error
	read      map[string]*reading // by instance ID
	traffic   map[pair]*traffic   // of the second under way
	hits      map[string]*mesh.Tries
	lastEvent uint64
	events    []event // oldest first
	fresh     int     // how many of them were not taken yet
}

// reading is what we have of one process.
type reading struct {
	last  *mesh.Snapshot // nil before the first
	live  bool
	err   string // why it is not live
	event uint64 // the last taken
}

func newPicture(now time.Time) *picture {
	return &picture{
		answered: now, read: map[string]*reading{}, traffic: map[pair]*traffic{}, hits: map[string]*mesh.Tries{},
		events: []event{}, // a list, if an empty one, to whoever reads it
	}
}

// reading is where what a process says is kept.
func (p *picture) reading(id string) *reading {
	r := p.read[id]
	if r == nil {
		r = &reading{err: "not read yet"}
		p.read[id] = r
	}
	return r
}

// take adds what a process says.
func (p *picture) take(id string, s *mesh.Snapshot) {
	r := p.reading(id)
	before := r.last
	if r.err != "not read yet" && !r.live {
		p.note(event{Process: id, Event: mesh.Event{At: s.At, Kind: "read_again"}})
	}
	r.last, r.live, r.err = s, true, ""
	if before != nil && !before.Process.Started.Equal(s.Process.Started) {
		before, r.event = &mesh.Snapshot{At: s.At}, 0 // another process in the same place, which counts from zero
	}
	for _, e := range s.Events {
		if e.Seq > r.event {
			p.note(event{Process: id, Event: e})
			r.event = e.Seq
		}
	}
	if before == nil || s.At.Sub(before.At) > opsGap {
		return // its counts are from before we looked
	}
	p.add(before, s)
}

// add puts what s counted since before into the second under way.
func (p *picture) add(before, s *mesh.Snapshot) {
	for i := range s.Callees {
		c := &s.Callees[i]
		was := &mesh.Callee{}
		if j := slices.IndexFunc(before.Callees, func(b mesh.Callee) bool { return b.Name == c.Name }); j >= 0 {
			was = &before.Callees[j]
		}
		k := pair{s.Process.Service, c.Name}
		t := p.traffic[k]
		if t == nil {
			t = &traffic{pair: k, Calls: map[string]uint64{}}
			p.traffic[k] = t
		}
		for result, n := range c.Calls {
			if d := n - was.Calls[result]; d > 0 {
				t.Calls[result] += d
			}
		}
		t.Tries.OK += c.Tries.OK - was.Tries.OK
		t.Tries.Failed += c.Tries.Failed - was.Tries.Failed
		t.Retries += c.Retries - was.Retries
		d := c.Latency.Since(&was.Latency)
		(*mesh.Histogram)(&t.Latency).Add(&d)
		for _, e := range c.Instances {
			old := mesh.Tries{}
			if j := slices.IndexFunc(was.Instances, func(b mesh.Endpoint) bool { return b.ID == e.ID }); j >= 0 && was.Instances[j].Tries.OK <= e.Tries.OK {
				old = was.Instances[j].Tries // else it left and came back in between
			}
			h := p.hits[e.ID]
			if h == nil {
				h = new(mesh.Tries)
				p.hits[e.ID] = h
			}
			h.OK += e.Tries.OK - old.OK
			h.Failed += e.Tries.Failed - old.Failed
		}
	}
}

// lost says that a process cannot be read.
func (p *picture) lost(id string, now time.Time, err error) {
	r := p.reading(id)
	if r.live {
		p.note(event{Process: id, Event: mesh.Event{At: now, Kind: "unreadable", Reason: err.Error()}})
	}
	r.live, r.err = false, err.Error()
}

// surveyed takes what Consul says.
func (p *picture) surveyed(s registry.Survey, now time.Time) {
	first := p.survey.Index == 0
	old := map[string]registry.Surveyed{}
	for _, in := range p.survey.Instances {
		old[in.ID] = in
	}
	for _, in := range s.Instances {
		was, known := old[in.ID]
		delete(old, in.ID)
		e := mesh.Event{At: now, Callee: in.Service, Instance: in.ID, To: in.Status}
		switch {
		case first:
		case !known:
			e.Kind = "registered"
			p.note(event{Event: e})
		case was.Status != in.Status:
			e.Kind, e.From, e.Reason = "health", was.Status, in.Output
			p.note(event{Event: e})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		p.note(event{Event: mesh.Event{At: now, Kind: "deregistered", Callee: old[id].Service, Instance: id}})
		delete(p.read, id)
	}
	if !first && s.Leader != p.survey.Leader {
		p.note(event{Event: mesh.Event{At: now, Kind: "leader", From: p.survey.Leader, To: s.Leader}})
	}
	if p.surveyErr != nil {
		p.note(event{Event: mesh.Event{At: now, Kind: "consul_back"}})
	}
	p.survey, p.answered, p.surveyErr = s, now, nil
}

// consulFailed says that Consul does not answer. What it said last still stands.
func (p *picture) consulFailed(now time.Time, err error) {
	if p.surveyErr == nil {
		p.note(event{Event: mesh.Event{At: now, Kind: "consul_away", Reason: err.Error()}})
	}
	p.surveyErr = err
}

func (p *picture) note(e event) {
	p.lastEvent++
	e.ID = p.lastEvent
	p.events = append(p.events, e)
	p.fresh++
	if over := len(p.events) - opsEvents; over > 0 {
		p.events = slices.Delete(p.events, 0, over)
	}
	p.fresh = min(p.fresh, len(p.events))
}

// news are the events since it was last called.
func (p *picture) news() []event {
	n := p.events[len(p.events)-p.fresh:]
	p.fresh = 0
	return slices.Clone(n)
}

// endSecond gives the second under way, and begins the next.
func (p *picture) endSecond(now time.Time) second {
	s := second{At: now, Traffic: []traffic{}, Instances: []instanceHit{}}
	for _, t := range p.traffic {
		if len(t.Calls) > 0 || t.Tries != (mesh.Tries{}) {
			s.Traffic = append(s.Traffic, *t)
		}
	}
	for id, h := range p.hits {
		if *h != (mesh.Tries{}) {
			s.Instances = append(s.Instances, instanceHit{id, *h})
		}
	}
	slices.SortFunc(s.Traffic, func(a, b traffic) int { return a.compare(b.pair) })
	slices.SortFunc(s.Instances, func(a, b instanceHit) int { return cmp.Compare(a.ID, b.ID) })
	clear(p.traffic)
	clear(p.hits)
	return s
}

// state is how everything is at now.
func (p *picture) state(now time.Time) state {
	s := state{
		At: now, Instances: []instanceState{}, Pairs: []pairState{},
		Consul: consulState{Leader: p.survey.Leader, Index: p.survey.Index, Lookups: []lookupState{}},
	}
	if p.surveyErr != nil {
		s.Consul.Error, s.Consul.StalenessMs = p.surveyErr.Error(), now.Sub(p.answered).Milliseconds()
	}
	sights := map[string][]instanceSight{}
	pairs := map[pair]*pairState{}
	for _, id := range slices.Sorted(maps.Keys(p.read)) {
		r := p.read[id]
		if !r.live || r.last == nil {
			continue // what a process knew that is gone is no news
		}
		for _, l := range r.last.Lookups {
			s.Consul.Lookups = append(s.Consul.Lookups, lookupState{id, l})
		}
		for _, c := range r.last.Callees {
			k := pair{r.last.Process.Service, c.Name}
			if pairs[k] == nil {
				pairs[k] = &pairState{pair: k, Breakers: []breakerState{}}
			}
			pairs[k].Processes++
			for _, b := range c.Breakers {
				if !b.Since.IsZero() {
					pairs[k].Breakers = append(pairs[k].Breakers, breakerState{id, b})
				}
			}
			for _, e := range c.Instances {
				sights[e.ID] = append(sights[e.ID], instanceSight{id, e})
			}
		}
	}
	for _, ps := range pairs {
		s.Pairs = append(s.Pairs, *ps)
	}
	slices.SortFunc(s.Pairs, func(a, b pairState) int { return a.compare(b.pair) })
	slices.SortStableFunc(s.Consul.Lookups, func(a, b lookupState) int { return cmp.Compare(b.StalenessMs, a.StalenessMs) })
	for _, in := range p.survey.Instances {
		if in.Admin() != "" || len(sights[in.ID]) > 0 { // others in the same Consul are none of ours
			s.Instances = append(s.Instances, p.instance(in, sights[in.ID]))
		}
	}
	slices.SortStableFunc(s.Instances, func(a, b instanceState) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	return s
}

func (p *picture) instance(in registry.Surveyed, seen []instanceSight) instanceState {
	i := instanceState{
		ID: in.ID, Service: in.Service, Name: cmp.Or(in.Meta["instance"], in.ID), Addr: in.Addr, Zone: in.Meta["zone"],
		Version: in.Meta["version"], Health: in.Status, Output: in.Output, Reading: "live", SeenFrom: seen,
	}
	if seen == nil {
		i.SeenFrom = []instanceSight{}
	}
	r := p.reading(in.ID)
	if !r.live {
		i.Reading = r.err
	}
	if r.last != nil {
		i.Started = r.last.Process.Started
	}
	return i
}
