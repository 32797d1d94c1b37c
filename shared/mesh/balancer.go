package mesh

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// decay is the time in which an old latency loses two thirds of its weight: Finagle's ten seconds.
	decay = 10 * time.Second
	// scanUpTo this many instances all are compared. Two random choices of four can both be slow ones, and one in six is.
	scanUpTo = 4
	// unpicked for this long, an instance gets one harmless request: a high cost must not outlive its reason.
	unpicked = 5 * time.Second
	// slowStart is the time in which a newcomer grows from being considered in coldShare of the choices to all. Its caches are empty and its
	// connections not made: Netflix found new instances to be the main source of errors after a deployment.
	slowStart = 10 * time.Second
	coldShare = 0.1
)

// latency is a peak-EWMA: a higher sample replaces the mean at once, lower ones bring it down with time. So a slow instance
// is left quickly and returned to carefully. A penalty is no latency: it stands until a try begun after it succeeds, or an
// instance that came back after a second would be shunned for the minute in which its penalty decays. The zero value has
// no score.
type latency struct {
	mu sync.Mutex // of those who write

	// Read without the lock, perhaps one of them older than the other: then a score is off by one sample.
	mean      atomic.Uint64 // bits of a float64, nanoseconds; 0 without a sample
	at        atomic.Int64  // unix nanoseconds
	penalised atomic.Bool
}

// penalise notes a failure as if it had taken that long.
func (l *latency) penalise(now time.Time, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sample(now.UnixNano(), d)
	l.penalised.Store(true)
}

func (l *latency) observe(now time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sample(now.UnixNano(), took)
}

func (l *latency) sample(now int64, took time.Duration) {
	s, mean, at := max(float64(took), 1), math.Float64frombits(l.mean.Load()), l.at.Load()
	served := l.penalised.Load() && now-int64(took) >= at
	if s >= mean || served {
		mean = s
		if served {
			l.penalised.Store(false)
		}
	} else {
		w := fade(now - at)
		mean = mean*w + s*(1-w)
	}
	l.mean.Store(math.Float64bits(mean))
	l.at.Store(now)
}

// score is the mean as of now, in unix nanoseconds; 0 if there was no sample.
func (l *latency) score(now int64) float64 {
	mean := math.Float64frombits(l.mean.Load())
	if mean == 0 {
		return 0
	}
	return max(1, mean*fade(now-l.at.Load()))
}

// fade is the weight left of what is that old, in nanoseconds.
func fade(age int64) float64 {
	x := float64(max(0, age)) / float64(decay)
	if x < 0.01 { // under load always, and true to a ten-thousandth
		return 1 - x
	}
	return math.Exp(-x)
}

// choice is what the balancer has to know about a try.
type choice struct {
	now        time.Time
	tried      []*endpoint // earlier tries of the call: avoided
	repeatable bool        // it may be spent on finding out about an instance
	limit      time.Duration
}

// pick chooses among endpoints, of which there is at least one. It reports whether the one chosen is ejected, so that the
// try decides about its return. All of them being full, it chooses none.
func (s *service) pick(endpoints []*endpoint, ch choice) (_ *endpoint, probe bool) {
	now, n := ch.now.UnixNano(), len(endpoints)
	ejected := int(s.ejected.Load())
	// More out than in: ejections were made for a larger set, or everything is ill. Either way the rest must not carry it.
	panicking := 2*ejected > n
	if panicking {
		s.lbPanic.Inc()
	}

	first := len(ch.tried) == 0
	next := rand.IntN(n)
	var best *endpoint
	var cost float64
	for compared, i := 0, 0; i < n; i++ {
		e := endpoints[next]
		if n > scanUpTo && i == 0 { // the second choice is as random as the first
			next += 1 + rand.IntN(n-1)
		} else {
			next++
		}
		if next >= n {
			next -= n
		}
		if e.full() || !first && slices.Contains(ch.tried, e) {
			continue
		}
		if ejected > 0 && !panicking && e.gate.ejected() {
			if first && e.gate.probe(now, ch) {
				return e.picked(now), true
			}
			continue
		}
		if first && ch.repeatable && n > 1 && e.forgotten(now) {
			return e, e.gate.ejected()
		}
		if e.cold(now) {
			continue
		}
		if c := e.cost(now, endpoints); best == nil || c < cost {
			best, cost = e, c
		}
		if compared++; n > scanUpTo && compared == 2 {
			break
		}
	}
	if best == nil { // every instance was tried, or is cold or full, or ejected: better the least bad than none
		if best = s.leastBad(endpoints, ch.tried, now); best.full() {
			return nil, false
		}
		if !panicking && best.gate.ejected() {
			s.lbPanic.Inc()
		}
	}
	return best.picked(now), best.gate.ejected()
}

// cold tells, at random and ever more rarely, that a newcomer is to be left out this time.
func (e *endpoint) cold(now int64) bool {
	if e.joined == 0 {
		return false
	}
	age := float64(now-e.joined) / float64(slowStart)
	return age < 1 && rand.Float64() > max(coldShare, age)
}

// full tells whether e has as much of ours in flight as it may have.
func (e *endpoint) full() bool { return e.inflight.Load() >= e.svc.mesh.cfg.MaxInflight }

// leastBad prefers an instance in service to an ejected one, one not tried to one tried, then the cheaper.
func (s *service) leastBad(endpoints, tried []*endpoint, now int64) *endpoint {
	rank := func(e *endpoint) (r int) {
		if e.gate.ejected() {
			r += 2
		}
		if slices.Contains(tried, e) {
			r++
		}
		return r
	}
	return slices.MinFunc(endpoints, func(a, b *endpoint) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if a.cost(now, endpoints) < b.cost(now, endpoints) {
			return -1
		}
		return 1
	})
}

// cost is how long a request more would take here, as far as one can guess.
func (e *endpoint) cost(now int64, peers []*endpoint) float64 {
	score := e.latency.score(now)
	if score == 0 {
		score = medianScore(now, peers)
	}
	return score * float64(e.inflight.Load()+1) / e.weight
}

// medianScore stands in for the score of a newcomer: neither flooded nor shunned.
func medianScore(now int64, peers []*endpoint) float64 {
	var scores []float64
	for _, e := range peers {
		if s := e.latency.score(now); s > 0 {
			scores = append(scores, s)
		}
	}
	if len(scores) == 0 {
		return 1
	}
	slices.Sort(scores)
	return scores[len(scores)/2]
}

// picked notes that e was chosen: not each time, or all processors would write to the same place all the time.
func (e *endpoint) picked(now int64) *endpoint {
	if now-e.lastPicked.Load() > int64(unpicked/50) {
		e.lastPicked.Store(now)
	}
	return e
}

// forgotten tells one caller, once, that e has not been chosen for a while.
func (e *endpoint) forgotten(now int64) bool {
	last := e.lastPicked.Load()
	return now-last > int64(unpicked) && e.lastPicked.CompareAndSwap(last, now)
}
