package mesh

import (
	"sync"
	"time"
)

// The seconds that a window can look back, the current one, which has only begun, among them.
const (
	withinTen = 10 // nine whole ones: no more than ten seconds
	beyondTen = 11 // ten whole ones: no less
)

// window counts two things. The zero value is empty. It is not locked.
type window struct {
	buckets [beyondTen]struct {
		second int64
		a, b   int
	}
}

func (w *window) add(now time.Time, a, b int) {
	second := now.Unix()
	bucket := &w.buckets[second%beyondTen]
	if bucket.second != second {
		bucket.second, bucket.a, bucket.b = second, 0, 0
	}
	bucket.a += a
	bucket.b += b
}

// sum is what was counted in so many seconds.
func (w *window) sum(now time.Time, seconds int64) (a, b int) {
	for i := range w.buckets {
		if age := now.Unix() - w.buckets[i].second; age >= 0 && age < seconds {
			a += w.buckets[i].a
			b += w.buckets[i].b
		}
	}
	return a, b
}

// budget keeps retries from drowning a callee in trouble: over ten seconds at most a tenth of its calls, and three a second
// so that a quiet caller can retry at all. Along a path of three services all failing that makes 1.33 times the load, where
// three tries each would make 27 times.
type budget struct {
	ratio, reserve float64

	mu   sync.Mutex
	seen window // calls, retries
}

func (b *budget) call(now time.Time) {
	b.mu.Lock()
	b.seen.add(now, 1, 0)
	b.mu.Unlock()
}

// spend takes one retry, if there is one. It is to be asked before the pause that precedes the retry: those who are pausing
// must count, or they all come at once.
func (b *budget) spend(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left(now) < 1 {
		return false
	}
	b.seen.add(now, 0, 1)
	return true
}

// balance is how many retries are left.
func (b *budget) balance(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left(now)
}

func (b *budget) left(now time.Time) float64 {
	// What was spent counts for ten seconds at least, and what was earned for ten at most. Otherwise what is spent at the end of
	// a second could be spent again little more than nine seconds later.
	calls, _ := b.seen.sum(now, withinTen)
	_, retries := b.seen.sum(now, beyondTen)
	return b.ratio*float64(calls) + b.reserve*10 - float64(retries)
}
