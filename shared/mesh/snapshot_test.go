package mesh

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"souk/shared/testkit"
)

// Every duration falls into the bucket whose bounds enclose it.
func TestHistogram_bucketsHaveTheirBounds(t *testing.T) {
	t.Parallel()
	bounds := HistogramBounds()
	if bounds[0] != 64*time.Microsecond || bounds[1] != 96*time.Microsecond || bounds[2] != 128*time.Microsecond {
		t.Errorf("the bounds begin with %v", bounds[:3])
	}
	check := func(d time.Duration) {
		b := bucketOf(d)
		if b > 0 && d < bounds[b-1] || b < len(bounds) && d >= bounds[b] {
			t.Errorf("%v is in bucket %d", d, b)
		}
	}
	for _, d := range bounds {
		check(d)
		check(d - time.Microsecond)
	}
	for range 10_000 {
		check(rand.N(time.Duration(1) << rand.N(40)))
	}
	if got := bucketOf(-time.Second); got != 0 {
		t.Errorf("a clock that went back is in bucket %d", got)
	}
	if got := bucketOf(time.Hour); got != HistogramBuckets-1 {
		t.Errorf("an hour is in bucket %d", got)
	}
}

func TestHistogram_addsUp(t *testing.T) {
	t.Parallel()
	a, b := Histogram{1, 2}, Histogram{0, 3, 4}
	sum := a
	sum.Add(&b)
	if sum != (Histogram{1, 5, 4}) || sum.Since(&a) != b {
		t.Errorf("sum %v, less one of them %v", sum, sum.Since(&a))
	}
}

// What was done to a callee is in the snapshot, whole and once: calls by how they ended, the tries that they took, and the
// instance that failed.
func TestSnapshot_tellsWhatHappened(t *testing.T) {
	t.Parallel()
	good, bad := serve(t, status(http.StatusOK)), serve(t, status(http.StatusInternalServerError))
	m, names := newMesh(t, Config{EjectAfter: 1}, good)
	for range 5 {
		_, _ = get(m)
	}
	s := m.Snapshot()
	if len(s.Callees) != 1 || s.Callees[0].Name != "product" {
		t.Fatalf("callees are %+v", s.Callees)
	}
	c := s.Callees[0]
	measured := uint64(0)
	for _, n := range c.Latency {
		measured += n
	}
	if c.Calls["success"] != 5 || len(c.Calls) != 1 || c.Tries != (Tries{OK: 5}) || measured != 5 || c.Retries != 0 {
		t.Errorf("got %+v", c)
	}
	if len(c.Instances) != 1 || c.Instances[0].State != "in_service" || c.Instances[0].EWMAMs <= 0 || c.Instances[0].Failure != nil {
		t.Errorf("instances are %+v", c.Instances)
	}

	names.list(good.Listener.Addr().String(), bad.Listener.Addr().String())
	testkit.Eventually(t, 10*time.Second, func() bool {
		_, _ = get(m)
		return len(m.Snapshot().Events) > 0
	})
	s = m.Snapshot()
	e := s.Events[0]
	if e.Seq != 1 || e.Kind != "ejected" || e.Instance != bad.Listener.Addr().String() || e.Callee != "product" || e.ForMs <= 0 {
		t.Errorf("event %+v", e)
	}
	for _, in := range s.Callees[0].Instances {
		if in.ID != e.Instance {
			continue
		}
		if in.State != "ejected" || in.Until.IsZero() || in.Tries.Failed == 0 || in.Failure == nil || in.Failure.Outcome != "server_error" {
			t.Errorf("the ejected one is %+v", in)
		}
	}
	after, calls := s.Callees[0], uint64(0)
	for _, n := range after.Calls {
		calls += n
	}
	if after.Tries.Failed == 0 || after.Calls["failure"] > after.Tries.Failed || after.Tries.OK+after.Tries.Failed != calls+after.Retries {
		t.Errorf("calls are %v, tries %+v, retries %d", after.Calls, after.Tries, after.Retries)
	}
}

func TestSnapshot_tellsOfBreakers(t *testing.T) {
	t.Parallel()
	m, _ := newMesh(t, Config{BreakerCalls: 3}, serve(t, status(http.StatusInternalServerError)))
	for range 3 {
		_, _ = get(m)
	}
	for _, b := range m.Snapshot().Callees[0].Breakers {
		if read := b.Class == "read"; read != (b.State == "open") || read != !b.Since.IsZero() || read != b.Probe.After(b.Since) {
			t.Errorf("breaker %+v", b)
		}
	}
	if events := m.Snapshot().Events; len(events) != 1 || events[0].Kind != "breaker" || events[0].From != "closed" || events[0].To != "open" {
		t.Errorf("events are %+v", events)
	}
}

// The journal forgets the oldest, and tells which are new.
func TestJournal_keepsTheLast(t *testing.T) {
	t.Parallel()
	var j journal
	if got := j.read(); len(got) != 0 {
		t.Errorf("an empty journal has %v", got)
	}
	for range eventsKept + 10 {
		j.add(Event{})
	}
	got := j.read()
	if len(got) != eventsKept || got[0].Seq != 11 || got[len(got)-1].Seq != eventsKept+10 {
		t.Errorf("%d events, %d to %d", len(got), got[0].Seq, got[len(got)-1].Seq)
	}
}
