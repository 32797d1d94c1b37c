package mesh

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/registry"

	"github.com/sony/gobreaker/v2"
)

// Snapshot is what one process knows at one moment about those it calls. Counts are since the process began, so that whoever
// reads two of them has what happened in between, however many were missed.
type Snapshot struct {
	Process Process           `json:"process"` // not filled in by the mesh, which does not know it
	At      time.Time         `json:"at"`
	Callees []Callee          `json:"callees"` // by name
	Lookups []registry.Lookup `json:"lookups"` // what the process knows of where they are; not filled in by the mesh
	Events  []Event           `json:"events"`  // the last ones, oldest first
}

// Process says who a snapshot is from.
type Process struct {
	Service  string    `json:"service"`
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"` // with another one, counts begin anew
}

// Callee is what a process knows of one service it calls.
type Callee struct {
	Name      string            `json:"name"`
	Calls     map[string]uint64 `json:"calls"`   // by result, as in mesh_client_requests_total; no zeros
	Tries     Tries             `json:"tries"`   // at instances: what would have become of the calls without retries
	Retries   uint64            `json:"retries"` // tries besides a call's first, hedges among them
	Latency   Histogram         `json:"latency"` // of calls that were sent and not given up by their caller
	Breakers  []Breaker         `json:"breakers"`
	Instances []Endpoint        `json:"instances"` // by ID
}

// Tries are counts of tries. Those that say nothing about the callee (canceled, 429) are in neither.
type Tries struct {
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
}

// Breaker is the state of a service breaker.
type Breaker struct {
	Class string    `json:"class"`
	State string    `json:"state"` // closed, half_open, open
	Since time.Time `json:"since"` // zero if it never changed
	Probe time.Time `json:"probe"` // when an open one lets a call through; zero otherwise
}

// Endpoint is an instance as its caller sees it.
type Endpoint struct {
	ID       string    `json:"id"`
	State    string    `json:"state"` // in_service, ejected, half_open
	Until    time.Time `json:"until"` // when an ejected one may be probed; zero otherwise
	EWMAMs   float64   `json:"ewma_ms"`
	Inflight int64     `json:"inflight"`
	Tries    Tries     `json:"tries"`
	Failure  *Failure  `json:"failure,omitempty"` // the last
}

// Failure is a try that was held against an instance.
type Failure struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // as in mesh_client_attempts_total
	Text    string    `json:"text"`
}

// Event is a change that an operator wants to know of. Which fields are set depends on the kind.
type Event struct {
	Seq      uint64    `json:"seq"` // 1, 2, 3, …
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"` // breaker, ejected, readmitted
	Callee   string    `json:"callee"`
	Class    string    `json:"class,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	ForMs    int64     `json:"for_ms,omitempty"`
}

// HistogramBuckets is how many buckets a Histogram has.
const HistogramBuckets = 38

// Histogram counts durations in buckets of two to the power of two: [0, 64 µs), [64, 96), [96, 128), [128, 192) … [8.4 s,
// 12.6 s) and the rest. It is finer than the one in the metrics, whose first bucket holds nearly every call on one machine,
// and can be added up over processes and seconds, which percentiles cannot.
type Histogram [HistogramBuckets]uint64

// bucketOf is the bucket of d: the octave above 64 µs, and which half of it.
func bucketOf(d time.Duration) int {
	us := uint64(max(0, d/time.Microsecond))
	octave := bits.Len64(us >> 6) // 0 below 64 µs
	if octave == 0 {
		return 0
	}
	half := int(us>>(octave+4)) & 1 //nolint:gosec // one bit
	return min(2*octave-1+half, HistogramBuckets-1)
}

// HistogramBounds are the upper bounds of all buckets but the last, which has none.
func HistogramBounds() (bounds [HistogramBuckets - 1]time.Duration) {
	for i := range bounds {
		base := 64 * time.Microsecond << (i / 2)
		bounds[i] = base + base/2*time.Duration(i%2)
	}
	return bounds
}

// Add adds other to h.
func (h *Histogram) Add(other *Histogram) {
	for i := range h {
		h[i] += other[i]
	}
}

// Since is what came after an earlier state of the same histogram.
func (h *Histogram) Since(earlier *Histogram) (d Histogram) {
	for i := range h {
		d[i] = h[i] - earlier[i]
	}
	return d
}

// tally is what a snapshot tells of a callee. To keep it costs a few atomic additions per call. The zero value is ready.
type tally struct {
	calls   [len(rulings)]atomic.Uint64
	tries   tries
	retries atomic.Uint64
	latency [HistogramBuckets]atomic.Uint64
	changed [ClassCritical + 1]atomic.Int64 // unix nanoseconds of a breaker's last change
}

type tries struct{ ok, failed atomic.Uint64 }

func (t *tries) add(v verdict) {
	switch v {
	case success:
		t.ok.Add(1)
	case failure:
		t.failed.Add(1)
	}
}

func (t *tries) read() Tries { return Tries{OK: t.ok.Load(), Failed: t.failed.Load()} }

// ended counts a call. One that was never sent, or that its caller gave up, says nothing of how long the callee takes.
func (t *tally) ended(c *call, o outcome, took time.Duration) {
	t.calls[o].Add(1)
	n := len(c.tried)
	if n > 1 {
		t.retries.Add(uint64(n - 1))
	}
	if n > 0 && o != canceled {
		t.latency[bucketOf(took)].Add(1)
	}
}

// eventsKept is how many events a process remembers: a reader that comes every second misses none but in a storm.
const eventsKept = 64

// journal remembers the last events. The zero value is ready.
type journal struct {
	mu   sync.Mutex
	last uint64
	ring [eventsKept]Event
}

func (j *journal) add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e.Seq = j.last
	j.ring[j.last%eventsKept] = e
}

func (j *journal) read() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := make([]Event, 0, min(j.last, eventsKept))
	for seq := j.last + 1 - min(j.last, eventsKept); seq <= j.last; seq++ {
		events = append(events, j.ring[seq%eventsKept])
	}
	return events
}

// breakerChanged notes a change of a service breaker.
func (s *service) breakerChanged(class Class, c change) {
	now := s.mesh.deps.Now()
	s.tally.changed[class].Store(now.UnixNano())
	s.mesh.journal.add(Event{At: now, Kind: "breaker", Callee: s.name, Class: class.String(), From: stateLabel(c.from), To: stateLabel(c.to)})
}

// Snapshot is the state of the mesh now. It is cheap, but not for every call: once a second is what it is made for.
func (m *Mesh) Snapshot() Snapshot {
	now := m.deps.Now()
	snap := Snapshot{At: now, Callees: []Callee{}}
	m.mu.RLock()
	for _, s := range m.services {
		snap.Callees = append(snap.Callees, s.snapshot(now))
	}
	m.mu.RUnlock()
	slices.SortFunc(snap.Callees, func(a, b Callee) int { return cmp.Compare(a.Name, b.Name) })
	snap.Events = m.journal.read() // last: looking at a breaker may have changed it
	return snap
}

func (s *service) snapshot(now time.Time) Callee {
	c := Callee{
		Name: s.name, Calls: map[string]uint64{}, Instances: []Endpoint{},
		Tries: s.tally.tries.read(), Retries: s.tally.retries.Load(),
	}
	for o := range s.tally.calls {
		if n := s.tally.calls[o].Load(); n > 0 {
			c.Calls[rulings[o].result] += n
		}
	}
	for i := range c.Latency {
		c.Latency[i] = s.tally.latency[i].Load()
	}
	for class := ClassRead; class <= ClassCritical; class++ {
		c.Breakers = append(c.Breakers, s.breakerView(class))
	}
	if set := s.set.Load(); set != nil {
		for _, e := range set.list {
			c.Instances = append(c.Instances, e.view(now))
		}
	}
	return c
}

func (s *service) breakerView(class Class) Breaker {
	b := s.breakers[class]
	state := b.two.State() // an open one whose time is up is half open from here on, as it would be for the next call
	b.tell()
	v := Breaker{Class: class.String(), State: stateLabel(state)}
	if at := s.tally.changed[class].Load(); at != 0 {
		v.Since = time.Unix(0, at).UTC()
		if state == gobreaker.StateOpen {
			v.Probe = v.Since.Add(s.mesh.cfg.BreakerOpen)
		}
	}
	return v
}

func (e *endpoint) view(now time.Time) Endpoint {
	v := Endpoint{
		ID: e.ID, State: "in_service", EWMAMs: e.latency.score(now.UnixNano()) / float64(time.Millisecond),
		Inflight: e.inflight.Load(), Tries: e.tries.read(), Failure: e.failure.Load(),
	}
	if until := e.gate.until.Load(); until != 0 {
		v.State = "half_open"
		if at := time.Unix(0, until).UTC(); now.Before(at) {
			v.State, v.Until = "ejected", at
		}
	}
	return v
}

// count notes the end of a try for snapshots.
func (e *endpoint) count(now time.Time, t trial, v verdict) {
	e.tries.add(v)
	e.svc.tally.tries.add(v)
	if v != failure {
		return
	}
	f := &Failure{At: now, Outcome: t.outcome.String()}
	switch {
	case t.err != nil:
		f.Text = t.err.Error()
	case t.resp != nil:
		f.Text = t.resp.Status
	}
	e.failure.Store(f)
}
