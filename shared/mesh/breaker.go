package mesh

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breaker decides whether a service is worth calling at all: one per callee and class, fed with how whole calls ended. It is
// gobreaker's two-step breaker with what experience with it demands:
//
//   - rolling buckets, because a fixed window forgets at its boundary and then needs twice the failures;
//   - calls in flight and calls that say nothing are left out of the share of failures: Counts.Requests has both;
//   - a probe always ends, because every call has a deadline: a probe that hangs would keep the breaker half open for ever;
//   - its callbacks run under its mutex, so they do nothing but atomic writes and a send that never waits.
type breaker struct {
	two     *gobreaker.TwoStepCircuitBreaker[any]
	changes chan change
	report  func(change)
	probing atomic.Bool // half open
}

type change struct{ from, to gobreaker.State }

var (
	errOpen     = errors.New("service breaker is open")
	errFailure  = errors.New("failure")  // never leaves the breaker
	errExcluded = errors.New("excluded") // nor does this
)

func newBreaker(cfg Config, class Class, report func(change), observe func(change)) *breaker {
	b := &breaker{changes: make(chan change, 16), report: report}
	ratio := cfg.BreakerRatio
	if class == ClassCritical {
		ratio = cfg.BreakerCriticalRatio
	}
	b.two = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Interval:     10 * time.Second,
		BucketPeriod: time.Second,
		Timeout:      cfg.BreakerOpen,
		MaxRequests:  3, // that many successes in a row close it again
		ReadyToTrip: func(n gobreaker.Counts) bool {
			ended := n.TotalSuccesses + n.TotalFailures
			return ended >= cfg.BreakerCalls && float64(n.TotalFailures) >= ratio*float64(ended)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errExcluded) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.probing.Store(to == gobreaker.StateHalfOpen)
			observe(change{from, to})
			select {
			case b.changes <- change{from, to}:
			default: // a log line lost
			}
		},
	})
	return b
}

// allow asks for a call, and says whether it is a probe. What it returns is for end, exactly once.
func (b *breaker) allow() (done func(error), probe bool, err error) {
	defer b.tell()
	if done, err = b.two.Allow(); err != nil {
		return nil, false, errOpen
	}
	return done, b.probing.Load(), nil
}

// end tells the breaker what a call said about the service.
func (b *breaker) end(done func(error), v verdict) {
	switch v {
	case success:
		done(nil)
	case failure:
		done(errFailure)
	default:
		done(errExcluded)
	}
	b.tell()
}

// tell reports the changes of state since the last time, outside the breaker's mutex.
func (b *breaker) tell() {
	for {
		select {
		case c := <-b.changes:
			b.report(c)
		default:
			return
		}
	}
}
