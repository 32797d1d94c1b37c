package chaos

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// watch sees which branches are prepared, all the time, and how long it takes after a fault until those of that moment are
// settled.
type watch struct {
	dbs map[string]*pgxpool.Pool

	mu      sync.Mutex
	marks   []*mark
	took    []time.Duration
	longest time.Duration // that a branch was seen prepared
}

// mark is a fault that is being recovered from.
type mark struct {
	at   time.Time
	open map[string]bool // branches; nil until they are looked at
}

// mark says that a fault has just been.
func (w *watch) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = append(w.marks, &mark{at: time.Now()})
}

// settled is how long each fault that is recovered from took.
func (w *watch) settled() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.took)
}

// longestDoubt is how long a branch was seen prepared at most.
func (w *watch) longestDoubt() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest
}

func (w *watch) run(ctx context.Context) {
	const look = 50 * time.Millisecond
	since := map[string]time.Time{}
	for ctx.Err() == nil {
		if now, ok := w.prepared(ctx); ok {
			for b := range since {
				if !now[b] {
					delete(since, b)
				}
			}
			for b := range now {
				if since[b].IsZero() {
					since[b] = time.Now()
				}
			}
			w.look(now, since)
		}
		pause(ctx, look)
	}
}

func (w *watch) look(now map[string]bool, since map[string]time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range since {
		w.longest = max(w.longest, time.Since(t))
	}
	w.marks = slices.DeleteFunc(w.marks, func(m *mark) bool {
		if m.open == nil {
			m.open = now
		}
		for b := range m.open {
			if now[b] {
				return false
			}
		}
		w.took = append(w.took, time.Since(m.at))
		return true
	})
}

// prepared gives the branches that wait for their outcome; false while a database is away.
func (w *watch) prepared(ctx context.Context) (map[string]bool, bool) {
	now := map[string]bool{}
	for service, db := range w.dbs {
		names, err := column[string](ctx, db, "SELECT gid || '/' || branch FROM tx_branch WHERE state = 'prepared'")
		if err != nil {
			return nil, false
		}
		for _, n := range names {
			now[service+" "+n] = true
		}
	}
	return now, true
}
