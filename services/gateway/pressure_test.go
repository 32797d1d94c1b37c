package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/mesh"
)

// crowded has a hundred windows of requests, as many at a time as are let in and at most n, each answered late if there are
// more than fit.
func crowded(p *pressure, now *time.Time, n int, fit float64) {
	for range 100 {
		in := 0
		for in < n && p.enter(httptest.NewRecorder(), mesh.Critical, 0, *now) == nil {
			in++
		}
		*now = now.Add(windowTime)
		for range max(in, windowLeast) {
			p.learn(*now, float64(in) > fit)
		}
		for range in {
			p.leave()
		}
	}
}

func TestPressure_findsHowMuchFits(t *testing.T) {
	t.Parallel()
	p, now := newPressure(nil), time.Now()
	crowded(p, &now, 10_000, 100)
	if p.limit < leastLimit || p.limit > 130 {
		t.Errorf("100 fit, and %v are let in", p.limit)
	}
	crowded(p, &now, 10_000, 300)
	if p.limit < 150 || p.limit > 400 {
		t.Errorf("300 fit, and %v are let in", p.limit)
	}
	crowded(p, &now, 10_000, 0)
	if p.limit != leastLimit {
		t.Errorf("nothing fits, and %v are let in", p.limit)
	}
}

func TestPressure_doesNotGrowWhileNobodyNeedsIt(t *testing.T) {
	t.Parallel()
	p, now := newPressure(nil), time.Now()
	crowded(p, &now, 10, 1000)
	if p.limit != firstLimit {
		t.Errorf("ten at a time made the limit %v", p.limit)
	}
}

func TestPressure_keepsRoomForWhoPays(t *testing.T) {
	t.Parallel()
	p := newPressure(nil)
	filled := map[mesh.Priority]int{}
	for _, priority := range []mesh.Priority{mesh.Sheddable, mesh.Normal, mesh.Critical} {
		for {
			w := httptest.NewRecorder()
			if err := p.enter(w, priority, 0, time.Time{}); err != nil {
				if !fault.HasCode(err, "overloaded") || w.Header().Get("Retry-After") != "1" {
					t.Errorf("refused with %v and headers %v", err, w.Header())
				}
				break
			}
			filled[priority]++
		}
	}
	if filled[mesh.Sheddable] != 103 || filled[mesh.Normal] != 0 || filled[mesh.Critical] != 25 {
		t.Errorf("of %d: %v", firstLimit, filled)
	}
}

// crush has ten times too many customers ask for some time, and gives the share of the visits that would have been possible
// of which the end came.
func crush(p *pressure, now *time.Time, stalls bool) float64 {
	const (
		customers = 100 // each asks once in a tick
		fit       = 10  // are answered in a tick
		visit     = 5   // requests, one after the other
		ticks     = 2000
		tick      = 10 * time.Millisecond
	)
	var asked [customers]int
	inside, visits, possible := 0, 0, 0
	for n := range ticks {
		*now = now.Add(tick)
		for i := range customers {
			customer := (n*37 + i) % customers // nobody is always the first
			if p.enter(httptest.NewRecorder(), mesh.Normal, float64(customer)/customers, *now) != nil {
				asked[customer] = 0
				continue
			}
			inside++
			if asked[customer]++; asked[customer] == visit {
				asked[customer] = 0
				visits++
			}
		}
		if stalls && n%300 < 30 { // a third of a second in three
			continue
		}
		possible += fit
		for range min(inside, fit) {
			p.leave()
			inside--
		}
	}
	p.taken = 0
	return float64(visits) / (float64(possible) / visit)
}

// In a crush, those who are let in come to the end of their visits, also when the services stand still for a moment.
func TestPressure_letsInByCustomer(t *testing.T) {
	t.Parallel()
	for name, stalls := range map[string]bool{"steady": false, "with stalls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, now := newPressure(nil), time.Now()
			p.limit = leastLimit
			share := crush(p, &now, stalls)
			t.Logf("%.2f", share)
			if share < 0.8 {
				t.Errorf("of the visits that would have been possible %.2f came to their end", share)
			}
			for range 100 { // a few seconds later everybody is let in
				now = now.Add(30 * time.Millisecond)
				if p.admit(mesh.Sheddable, 0.99, now) {
					p.leave()
				}
			}
			if p.open != 1 {
				t.Errorf("long after, %v of the customers are let in", p.open)
			}
		})
	}
}

func TestPriorityOf(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]mesh.Priority{
		"GET /api/v1/products": mesh.Sheddable, "POST /api/v1/orders": mesh.Normal, "POST /api/v1/orders/1/pay": mesh.Critical,
		"POST /api/v1/payments/1/refunds": mesh.Critical, "POST /api/v1/auth/login": mesh.Normal,
	} {
		method, target, _ := strings.Cut(request, " ")
		if got := priorityOf(httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody)); got != want {
			t.Errorf("%s is %s, want %s", request, got, want)
		}
	}
}
