package mesh

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// decay is the time in which an old latency loses two thirds of its weight: Finagle's ten seconds.
	decay = 10 * time.Second
	// scanUpTo this many instances all are compared. Two random choices of four can both be slow ones, and one in six is.
	scanUpTo = 4
	// unpicked for this long, an instance gets one harmless request: a high cost must not outlive its reason.
	unpicked = 5 * time.Second
)

// latency is a peak-EWMA: a higher sample replaces the mean at once, lower ones bring it down with time. So a slow instance
// is left quickly and returned to carefully. A penalty is no latency: it stands until a try begun after it succeeds, or an
// instance that came back after a second would be shunned for the minute in which its penalty decays. The zero value has
// no score.
type latency struct {
	mu        sync.Mutex
	mean      float64 // nanoseconds
	at        time.Time
	penalised bool
}

// penalise notes a failure as if it had taken that long.
func (l *latency) penalise(now time.Time, d time.Duration) {
	l.observe(now, d)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.penalised = true
}

func (l *latency) observe(now time.Time, sample time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := max(float64(sample), 1)
	served := l.penalised && !now.Add(-sample).Before(l.at)
	if s >= l.mean || served {
		l.mean, l.penalised = s, l.penalised && !served
	} else {
		w := math.Exp(-max(0, float64(now.Sub(l.at))) / float64(decay))
		l.mean = l.mean*w + s*(1-w)
	}
	l.at = now
}

// score is the mean as of now; 0 if there was no sample.
func (l *latency) score(now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mean == 0 {
		return 0
	}
	return max(1, l.mean*math.Exp(-max(0, float64(now.Sub(l.at)))/float64(decay)))
}

// choice is what the balancer has to know about a try.
type choice struct {
	tried      []*endpoint // earlier tries of the call: avoided
	repeatable bool        // it may be spent on finding out about an instance
	limit      time.Duration
}

// pick chooses among endpoints, of which there is at least one. It reports whether the one chosen is ejected, so that the
// try decides about its return.
func (s *service) pick(endpoints []*endpoint, ch choice) (_ *endpoint, probe bool) {
	now := s.mesh.deps.Now()
	ejected := 0
	for _, e := range endpoints {
		if e.gate.ejected() {
			ejected++
		}
	}
	// More out than in: ejections were made for a larger set, or everything is ill. Either way the rest must not carry it.
	panicking := 2*ejected > len(endpoints)

	first := len(ch.tried) == 0
	start := rand.IntN(len(endpoints))
	var a, b *endpoint // all that may be chosen if few, else two at random
	var cost float64
	seen := 0
	for i := range endpoints {
		e := endpoints[(start+i)%len(endpoints)]
		if slices.Contains(ch.tried, e) {
			continue
		}
		if e.gate.ejected() && !panicking {
			if first && e.gate.probe(now, ch) {
				return e.picked(now), true
			}
			continue
		}
		if first && ch.repeatable && len(endpoints) > 1 && e.forgotten(now) {
			return e, e.gate.ejected()
		}
		seen++
		if len(endpoints) <= scanUpTo {
			if c := e.cost(now, endpoints); a == nil || c < cost {
				a, cost = e, c
			}
			continue
		}
		switch { // reservoir of two
		case a == nil:
			a = e
		case b == nil:
			b = e
		default:
			if k := rand.IntN(seen); k == 0 {
				a = e
			} else if k == 1 {
				b = e
			}
		}
	}
	if b != nil && b.cost(now, endpoints) < a.cost(now, endpoints) {
		a = b
	}
	if panicking {
		s.lbPanic.Inc()
	}
	if a == nil { // every instance was tried, or the rest is ejected: better the least bad than none
		if !panicking && ejected > 0 {
			s.lbPanic.Inc()
		}
		a = s.leastBad(endpoints, ch.tried, now)
	}
	return a.picked(now), a.gate.ejected()
}

// leastBad prefers an instance in service to an ejected one, one not tried to one tried, then the cheaper.
func (s *service) leastBad(endpoints, tried []*endpoint, now time.Time) *endpoint {
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
func (e *endpoint) cost(now time.Time, peers []*endpoint) float64 {
	score := e.latency.score(now)
	if score == 0 {
		score = medianScore(now, peers)
	}
	return score * float64(e.inflight.Load()+1) / e.weight
}

// medianScore stands in for the score of a newcomer: neither flooded nor shunned.
func medianScore(now time.Time, peers []*endpoint) float64 {
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

// picked notes that e was chosen.
func (e *endpoint) picked(now time.Time) *endpoint {
	e.lastPicked.Store(now.UnixNano())
	return e
}

// forgotten tells one caller, once, that e has not been chosen for a while.
func (e *endpoint) forgotten(now time.Time) bool {
	last := e.lastPicked.Load()
	return now.UnixNano()-last > int64(unpicked) && e.lastPicked.CompareAndSwap(last, now.UnixNano())
}
