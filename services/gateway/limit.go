package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// mostBuckets bounds the memory of a limiter, to about 15 MB. Beyond it the bucket that was idle longest is given up, and
// its owner gets a full one.
const mostBuckets = 1 << 16

// limiter is a token bucket per key. It may be used concurrently; nil limits nothing.
type limiter[K comparable] struct {
	rate  rate.Limit
	burst int
	full  time.Duration // an empty bucket is full again after it

	mu      sync.Mutex
	buckets *simplelru.LRU[K, *bucket]
}

type bucket struct {
	tokens *rate.Limiter
	used   time.Time
}

// newLimiter makes a limiter of r, whose events are per interval.
func newLimiter[K comparable](r Rate, interval time.Duration) *limiter[K] {
	if r.Events == 0 {
		return nil
	}
	buckets, err := simplelru.NewLRU[K, *bucket](mostBuckets, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	perSecond := rate.Limit(float64(r.Events) / interval.Seconds())
	return &limiter[K]{
		rate: perSecond, burst: r.Burst, buckets: buckets,
		full: time.Duration(float64(r.Burst) / float64(perSecond) * float64(time.Second)),
	}
}

// take takes a token of key's bucket. If there is none it takes nothing and says how long it would be until there is.
func (l *limiter[K]) take(key K, now time.Time) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	b, ok := l.buckets.Get(key)
	if !ok {
		b = &bucket{tokens: rate.NewLimiter(l.rate, l.burst)}
		l.buckets.Add(key, b)
	}
	b.used = now
	r := b.tokens.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// forget drops two buckets that have been idle until they were full: new ones are the same. Two for each use are enough
// to keep up, and never a pause.
func (l *limiter[K]) forget(now time.Time) {
	for range 2 {
		if _, oldest, ok := l.buckets.GetOldest(); !ok || now.Sub(oldest.used) < l.full {
			return
		}
		l.buckets.RemoveOldest()
	}
}

// network is whom a limit by address is for. Of IPv6 it is the /64: one customer has at least so many addresses.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for no address
	return p
}
