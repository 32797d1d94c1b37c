package mesh

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// gate takes one instance out of service while it fails, and lets it back after one good answer.
//
//	in service ── failures ──▶ ejected ── time is up ──▶ half open ── probe succeeds ──▶ in service
//	                              ▲                          │
//	                              └─────── probe fails ──────┘   (for twice as long)
//
// It counts by itself rather than with gobreaker, whose window forgets: one failure in three seconds would never make
// five in a row. The zero value is in service.
type gate struct {
	until   atomic.Int64 // unix nanoseconds; the ejection's end, after which it is half open; 0 in service
	probing atomic.Int64 // unix nanoseconds; a probe is under way, and given up by then; 0 none

	mu       sync.Mutex
	row      int    // failures in a row
	refusals int    // refused connections in a row
	recent   window // successes, failures
	times    int    // ejections, less one for each minute since the last ended
	back     time.Time
}

func (g *gate) ejected() bool { return g.until.Load() != 0 }

// probe takes the one probe of a half-open instance. A request that can be repeated elsewhere is preferred; where no such
// request comes for five seconds, any is taken, or a callee that only gets POSTs would never return.
func (g *gate) probe(now int64, ch choice) bool {
	overdue := now - g.until.Load()
	if overdue < 0 || (!ch.repeatable && overdue < int64(unpicked)) {
		return false
	}
	busy := g.probing.Load()
	return busy < now && g.probing.CompareAndSwap(busy, now+int64(ch.limit))
}

// record takes the end of a try in service. It returns why the instance should be ejected; empty if it should not.
func (g *gate) record(cfg *Config, now time.Time, v verdict, refused bool) (reason string) {
	if v == excluded {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v == success {
		g.row, g.refusals = 0, 0
		g.recent.add(now, 1, 0)
		return ""
	}
	g.row++
	g.recent.add(now, 0, 1)
	if g.refusals++; !refused {
		g.refusals = 0
	}
	good, bad := g.recent.sum(now, withinTen)
	switch {
	case g.refusals >= cfg.EjectRefused:
		return "refused"
	case g.row >= cfg.EjectAfter:
		return "consecutive"
	case good+bad >= 10 && bad >= good:
		return "rate"
	}
	return ""
}

// eject takes the instance out, for longer each time: doubled, at most a minute, give or take a fifth so that callers
// do not all probe together.
func (g *gate) eject(cfg *Config, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.back.IsZero() {
		g.times = max(0, g.times-int(now.Sub(g.back)/time.Minute))
	}
	base := min(cfg.EjectMost, cfg.EjectFor<<min(g.times, 10))
	g.times++
	g.row, g.refusals, g.recent = 0, 0, window{}
	d := base*4/5 + rand.N(base*2/5+1)
	g.back = now.Add(d)
	g.probing.Store(0)
	g.until.Store(now.Add(d).UnixNano())
	return d
}

// readmit puts the instance back in service.
func (g *gate) readmit(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.row, g.refusals, g.recent, g.back = 0, 0, window{}, now
	g.probing.Store(0)
	g.until.Store(0)
}
