package gateway

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLimiter_refillsAtItsRate(t *testing.T) {
	t.Parallel()
	l, now := newLimiter[string](Rate{Events: 2, Burst: 3}, time.Second), time.Now()
	for i := range 3 {
		if wait := l.take("a", now); wait != 0 {
			t.Fatalf("event %d of a burst of 3 waits %s", i, wait)
		}
	}
	if wait := l.take("a", now); wait != 500*time.Millisecond {
		t.Errorf("the event after a burst waits %s, want the 500 ms of two a second", wait)
	}
	if wait := l.take("a", now.Add(400*time.Millisecond)).Round(time.Millisecond); wait != 100*time.Millisecond {
		t.Errorf("a refused event took something: the wait is %s, want 100 ms", wait)
	}
	if wait := l.take("b", now); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	if wait := l.take("a", now.Add(500*time.Millisecond)); wait != 0 {
		t.Errorf("after half a second it still waits %s", wait)
	}
}

func TestLimiter_nilLimitsNothing(t *testing.T) {
	t.Parallel()
	if wait := newLimiter[string](Rate{}, time.Second).take("a", time.Now()); wait != 0 {
		t.Errorf("it waits %s", wait)
	}
}

func TestLimiter_forgetsTheIdleAndIsBounded(t *testing.T) {
	t.Parallel()
	l, now := newLimiter[int](Rate{Events: 1, Burst: 5}, time.Second), time.Now()
	for i := range mostBuckets + 100 {
		l.take(i, now)
	}
	if got := l.buckets.Len(); got != mostBuckets {
		t.Errorf("it has %d buckets, want at most %d", got, mostBuckets)
	}
	later := now.Add(5 * time.Second) // an empty bucket is full
	for range mostBuckets {
		l.take(-1, later)
	}
	if got := l.buckets.Len(); got != 1 {
		t.Errorf("it still has %d buckets, want the one in use", got)
	}
}

func TestLimiter_letsExactlyTheBurstThroughAtOnce(t *testing.T) {
	t.Parallel()
	l, now := newLimiter[string](Rate{Events: 1, Burst: 50}, time.Second), time.Now()
	var through atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if l.take("a", now) == 0 {
				through.Add(1)
			}
		})
	}
	all.Wait()
	if through.Load() != 50 {
		t.Errorf("%d got through, want 50", through.Load())
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
	} {
		if got := network(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("network of %s is %s, want %s", address, got, want)
		}
	}
	if got := network(netip.Addr{}); got.IsValid() {
		t.Errorf("network of nothing is %s", fmt.Sprint(got))
	}
}
