package mesh

import (
	"sync"
	"time"
)

// alarms end the tries at a service whose time is up. A timer of the runtime for each would be made and stopped for nothing
// nearly always. Here one timer is set for the try that is due first, and left alone when that one ends sooner, as they all
// do; so it goes off once in a while, and finds nothing. The zero value is ready.
type alarms struct {
	mu    sync.Mutex
	heap  []*try // by when they are due
	timer *time.Timer
	armed time.Time // when the timer goes off; zero if it does not
}

// alarm is a try's place among the alarms.
type alarm struct {
	due   time.Time
	place int // in the heap, from 1; 0 without an alarm
}

// set has t expire after d.
func (a *alarms) set(t *try, d time.Duration) {
	now := time.Now() // the timers' clock
	a.mu.Lock()
	defer a.mu.Unlock()
	t.alarm.due = now.Add(d)
	a.heap = append(a.heap, t)
	t.alarm.place = len(a.heap)
	a.up(len(a.heap))
	a.arm(now)
}

// clear makes t no longer expire. It may be doing so.
func (a *alarms) clear(t *try) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(t)
}

// ring expires what is due.
func (a *alarms) ring() {
	now := time.Now()
	a.mu.Lock()
	a.armed = time.Time{}
	var due []*try
	for len(a.heap) > 0 && !a.heap[0].alarm.due.After(now) {
		due = append(due, a.heap[0])
		a.remove(a.heap[0])
	}
	a.arm(now)
	a.mu.Unlock()
	for _, t := range due {
		if left := t.expire(); left > 0 {
			a.set(t, left)
			if t.over.Load() { // it ended before that
				a.clear(t)
			}
		}
	}
}

// arm sets the timer for the first that is due, if it would go off later.
func (a *alarms) arm(now time.Time) {
	if len(a.heap) == 0 {
		return
	}
	first := a.heap[0].alarm.due
	if !a.armed.IsZero() && !first.Before(a.armed) {
		return
	}
	a.armed = first
	if a.timer == nil {
		a.timer = time.AfterFunc(first.Sub(now), a.ring)
	} else {
		a.timer.Reset(first.Sub(now))
	}
}

// The heap's places are counted from 1, so that those below place i are 2i and 2i+1.

func (a *alarms) remove(t *try) {
	i, last := t.alarm.place, len(a.heap)
	if i == 0 {
		return
	}
	a.swap(i, last)
	a.heap[last-1] = nil
	a.heap = a.heap[:last-1]
	t.alarm.place = 0
	if i < last {
		a.down(i)
		a.up(i)
	}
}

func (a *alarms) sooner(i, j int) bool { return a.heap[i-1].alarm.due.Before(a.heap[j-1].alarm.due) }

func (a *alarms) swap(i, j int) {
	h := a.heap
	h[i-1], h[j-1] = h[j-1], h[i-1]
	h[i-1].alarm.place, h[j-1].alarm.place = i, j
}

func (a *alarms) up(i int) {
	for ; i > 1 && a.sooner(i, i/2); i /= 2 {
		a.swap(i, i/2)
	}
}

func (a *alarms) down(i int) {
	for {
		least := i
		for _, below := range [...]int{2 * i, 2*i + 1} {
			if below <= len(a.heap) && a.sooner(below, least) {
				least = below
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}
