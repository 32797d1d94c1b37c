package mesh

import (
	"container/heap"
	"sync"
	"time"
)

// alarms end the tries at a service whose time is up. A timer of the runtime for each would be made and stopped for nothing
// nearly always. Here one timer is set for the try that is due first, and left alone when that one ends sooner, as they all
// do; so it goes off once in a while, and finds nothing. The zero value is ready.
type alarms struct {
	mu    sync.Mutex
	heap  queue
	timer *time.Timer
	armed time.Time // when the timer goes off; zero if it does not
}

// alarm is a try's place among the alarms.
type alarm struct {
	due   time.Time
	place int // in the queue, from 1; 0 without an alarm
}

// set has t expire after d.
func (a *alarms) set(t *try, d time.Duration) {
	now := time.Now() // the timers' clock
	a.mu.Lock()
	defer a.mu.Unlock()
	t.alarm.due = now.Add(d)
	heap.Push(&a.heap, t)
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

func (a *alarms) remove(t *try) {
	if t.alarm.place > 0 {
		heap.Remove(&a.heap, t.alarm.place-1)
	}
}

// queue is tries by when they are due. It is heap.Interface.
type queue []*try

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].alarm.due.Before(q[j].alarm.due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].alarm.place, q[j].alarm.place = i+1, j+1
}

func (q *queue) Push(t any) {
	*q = append(*q, t.(*try)) //nolint:forcetypeassert // it is set's
	(*q)[len(*q)-1].alarm.place = len(*q)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	t.alarm.place = 0
	return t
}
