package shopper

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/fault"

	"github.com/google/uuid"
)

// till answers requests with one problem, one 202, and then 200. Nil for a problem hangs up.
type till struct {
	problem *fault.Error
	keys    []string
}

var errHungUp = errors.New("connection reset by peer")

func (t *till) RoundTrip(r *http.Request) (*http.Response, error) {
	t.keys = append(t.keys, r.Header.Get("Idempotency-Key"))
	w := httptest.NewRecorder()
	switch {
	case len(t.keys) == 1 && t.problem == nil:
		return nil, errHungUp
	case len(t.keys) == 1:
		http.Error(w, `{"code":"`+t.problem.Code+`"}`, t.problem.Kind.Status())
	case len(t.keys) == 2:
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.WriteString("{}")
	default:
		_, _ = w.WriteString("{}")
	}
	return w.Result(), nil
}

// What passes is asked for again, under the same key; what does not is told at once.
func TestUntilKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first *fault.Error
		final bool
	}{
		"nobody answered":              {},
		"a service is away":            {first: fault.New(fault.Unavailable, "unavailable", "")},
		"too late":                     {first: fault.New(fault.Deadline, "deadline", "")},
		"too many":                     {first: fault.New(fault.Exhausted, "exhausted", "")},
		"an earlier try is undone":     {first: fault.New(fault.Conflict, "busy", "")},
		"the first request runs still": {first: fault.New(fault.Conflict, "request_in_progress", "")},
		"the transaction was late":     {first: fault.New(fault.Conflict, "deadline", "")},
		"out of stock":                 {first: fault.New(fault.Conflict, "out_of_stock", ""), final: true},
		"a bug":                        {first: fault.New(fault.Internal, "internal", ""), final: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shop := &till{problem: c.first}
				err := untilKnown(t.Context(), passes, func(ctx context.Context) (known bool, err error) {
					paid, err := order.PayFor.Call(ctx, &http.Client{Transport: shop}, new(contract.ByID))
					if err != nil {
						return true, err
					}
					return paid.Status == http.StatusOK, nil
				})
				k := shop.keys
				if c.final {
					if !fault.HasCode(err, c.first.Code) || len(k) != 1 {
						t.Errorf("%d requests, and %v", len(k), err)
					}
					return
				}
				if err != nil || len(k) != 3 || k[0] == "" || k[0] != k[1] || k[1] != k[2] {
					t.Errorf("requests under %q, and %v; want three under one key", k, err)
				}
			})
		})
	}
}

// A crowd must hear at once that it is refused; only an earlier try that is being undone is waited for.
func TestBuy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first *fault.Error
		tries int
	}{
		"nobody answered":          {tries: 1},
		"a service is away":        {fault.New(fault.Unavailable, "unavailable", ""), 1},
		"too many":                 {fault.New(fault.Exhausted, "exhausted", ""), 1},
		"out of stock":             {fault.New(fault.Conflict, "out_of_stock", ""), 1},
		"an earlier try is undone": {fault.New(fault.Conflict, "busy", ""), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shop := &till{problem: c.first}
				p := Somebody("http://souk.example")
				p.Over(roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/api/v1/orders" {
						w := httptest.NewRecorder()
						w.WriteHeader(http.StatusCreated)
						_, _ = w.WriteString("{}")
						return w.Result(), nil
					}
					return shop.RoundTrip(r)
				}))
				_, err := p.Buy(t.Context(), uuid.New(), 1)
				if k := shop.keys; len(k) != c.tries || len(slices.Compact(slices.Clone(k))) != 1 {
					t.Errorf("asked for payment under %q, want %d times under one key", shop.keys, c.tries)
				}
				switch {
				case c.tries > 1 && err != nil, c.tries == 1 && err == nil:
					t.Errorf("got %v", err)
				case c.first == nil && !errors.Is(err, errHungUp):
					t.Errorf("got %v, want what hung up", err)
				}
			})
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
