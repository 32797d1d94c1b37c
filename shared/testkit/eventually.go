package testkit

import (
	"testing"
	"time"
)

// Eventually calls cond every 10 ms until it is true, and fails the test when that takes longer than timeout. It is
// for state in another process or database, which cannot be awaited on a channel; what runs in this process offers
// something better to wait for.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not true within %s", timeout)
		}
		<-tick.C
	}
}
