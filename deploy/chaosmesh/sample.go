package main

import (
	"slices"
	"time"
)

const ok = "ok"

func (s sample) ended() int64 { return s.Began + s.Took.Microseconds() }

// between are the calls that were due in [from, until).
func (s samples) between(from, until time.Time) samples {
	return s.where(func(c sample) bool { return c.Began >= from.UnixMicro() && c.Began < until.UnixMicro() })
}

func (s samples) where(is func(sample) bool) (list samples) {
	for _, c := range s {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

func (s samples) failed() samples { return s.where(func(c sample) bool { return c.Result != ok }) }

// success is the share that succeeded; 1 of none.
func (s samples) success() float64 {
	if len(s) == 0 {
		return 1
	}
	return 1 - s.failure()
}

// failure is the share that failed; 0 of none.
func (s samples) failure() float64 {
	if len(s) == 0 {
		return 0
	}
	return float64(len(s.failed())) / float64(len(s))
}

func (s samples) p99() time.Duration {
	if len(s) == 0 {
		return 0
	}
	took := make([]time.Duration, len(s))
	for i, c := range s {
		took[i] = c.Took
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// first is the earliest of the calls; the zero sample of none.
func (s samples) first() sample {
	if len(s) == 0 {
		return sample{}
	}
	return slices.MinFunc(s, func(a, b sample) int { return int(a.Began - b.Began) })
}

// lastFailure is how long after a moment the last call failed that was due after it.
func (s samples) lastFailure(after time.Time) (d time.Duration) {
	for _, c := range s.failed() {
		if c.Began >= after.UnixMicro() {
			d = max(d, time.Duration(c.ended()-after.UnixMicro())*time.Microsecond)
		}
	}
	return d
}

// results counts the calls by how they ended.
func (s samples) results() map[string]int {
	n := map[string]int{}
	for _, c := range s {
		n[c.Result]++
	}
	return n
}
