package shopper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

// tokenLife is half of what an access token lives: a rush may take longer.
const tokenLife = 5 * time.Minute

// purchasePatience is what one purchase may take, with everything that is broken meanwhile.
const purchasePatience = time.Minute

// Rush is customers who buy without a pause while something is done to the shop. A purchase whose outcome is not known is
// asked for again under the same key until it is.
type Rush struct {
	paid, requests, failed atomic.Int64

	stop context.CancelFunc
	over sync.WaitGroup

	mu     sync.Mutex
	errors []error // what a purchase ended with that was not paid
	bad    string  // the first request that failed
}

// StartRush sends that many new customers, with the given amount each, to buy one piece after the other of the product.
// More than a handful are more than the gateway lets sign in from one address.
func StartRush(ctx context.Context, gateway string, customers int, wallet money.Money, productID uuid.UUID) (*Rush, error) {
	r := new(Rush)
	people := make([]*Person, customers)
	for i := range people {
		p, err := Customer(ctx, gateway, wallet)
		if err != nil {
			return nil, fmt.Errorf("customer %d: %w", i+1, err)
		}
		p.Client = &http.Client{Transport: counted{p, r}, Timeout: patience}
		people[i] = p
	}
	ctx = context.WithoutCancel(ctx) // a purchase that was begun is seen to its end
	stopping, stop := context.WithCancel(ctx)
	r.stop = stop
	for _, p := range people {
		r.over.Go(func() {
			signedIn := time.Now()
			for stopping.Err() == nil {
				err := r.again(ctx, p, &signedIn)
				if err == nil {
					err = buyOne(ctx, p, productID)
				}
				if err != nil {
					r.mu.Lock()
					r.errors = append(r.errors, err)
					r.mu.Unlock()
					return
				}
				r.paid.Add(1)
			}
		})
	}
	return r, nil
}

// Paid is how many purchases have been paid so far.
func (r *Rush) Paid() int { return int(r.paid.Load()) }

// Requests is how many requests were made so far, and how many of them got a 429, a 5xx or no answer at all.
func (r *Rush) Requests() (all, failed int) { return int(r.requests.Load()), int(r.failed.Load()) }

// Await waits until that many more purchases have been paid than when it was called.
func (r *Rush) Await(ctx context.Context, more int) error {
	want := r.Paid() + more
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for r.Paid() < want {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d purchases were paid: %w", r.Paid(), want, errors.Join(append(r.sofar(), ctx.Err())...))
		case <-tick.C:
		}
	}
	return nil
}

// Stop lets everybody finish what they are buying, and gives what went wrong: purchases that could not be paid. Requests
// that failed and were repeated are not among them.
func (r *Rush) Stop() error {
	r.stop()
	r.over.Wait()
	return errors.Join(r.sofar()...)
}

// FirstFailure tells of the first request that failed; "" if there was none.
func (r *Rush) FirstFailure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad
}

func (r *Rush) sofar() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.errors...)
}

// again signs p in once more when it is time.
func (r *Rush) again(ctx context.Context, p *Person, signedIn *time.Time) error {
	if time.Since(*signedIn) < tokenLife {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, purchasePatience)
	defer cancel()
	*signedIn = time.Now()
	return untilKnown(ctx, passes, func(ctx context.Context) (known bool, err error) { return true, p.SignIn(ctx, p.Email, Password) })
}

func buyOne(ctx context.Context, p *Person, productID uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, purchasePatience)
	defer cancel()
	_, err := p.buy(ctx, productID, 1, passes)
	return err
}

// passes reports whether the same request, under the same key, may succeed a moment later: nobody answered, or the shop was
// away, too busy, or at something that has to end first. A conflict of the last kind is told by its code.
func passes(err error) bool {
	answer, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return true
	}
	switch answer.Kind {
	case fault.Unavailable, fault.Deadline, fault.Exhausted:
		return true
	case fault.Conflict:
		return answer.Code == "busy" || answer.Code == "request_in_progress" || answer.Code == string(fault.Deadline)
	default:
		return false
	}
}

// counted counts the requests of a person.
type counted struct {
	next *Person
	rush *Rush
}

// RoundTrip is part of http.RoundTripper.
func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.rush.requests.Add(1)
	resp, err := c.next.RoundTrip(r)
	switch {
	case err != nil:
		c.rush.fail("%s %s: %v", r.Method, r.URL.Path, err)
	case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
		c.rush.fail("%s %s: %s, request %s", r.Method, r.URL.Path, resp.Status, resp.Header.Get("X-Request-Id"))
	}
	return resp, err
}

func (r *Rush) fail(format string, args ...any) {
	r.failed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad == "" {
		r.bad = fmt.Sprintf(format, args...)
	}
}
