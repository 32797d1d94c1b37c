package chaos

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"souk/shared/testkit"
)

// Nothing is broken but the coordinators, with 64 customers under way. All but one are killed with SIGKILL: the one that is
// left finishes what they began, within their leases of two seconds and its own look of half a second. Then all are killed:
// once one is back, everything that was under way is settled within five seconds. Nothing is lost, and nobody was told what
// is not so.
func TestRecovery_whenCoordinatorsAreKilled(t *testing.T) { //nolint:paralleltest // it measures, and fills the machine
	if testing.Short() {
		t.Skip("it starts a shop")
	}
	c := newCampaign(Config{Seed: 1, Clients: 64, RunDir: t.TempDir(), Log: os.Stderr})
	if err := c.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := c.market(t.Context()); err != nil {
		t.Fatal(err)
	}
	shopping, goHome := context.WithCancel(t.Context())
	watching, enough := context.WithCancel(t.Context())
	var customers, watch sync.WaitGroup
	defer watch.Wait()
	defer enough()
	defer customers.Wait()
	defer goHome()
	for _, who := range c.customers {
		customers.Go(func() { who.live(shopping) })
	}
	watch.Go(func() { c.watch.run(watching) })

	settled := func(what string, atMost time.Duration) {
		t.Helper()
		c.watch.mark()
		n := len(c.watch.settled())
		testkit.Eventually(t, 30*time.Second, func() bool { return len(c.watch.settled()) > n })
		took := c.watch.settled()[n]
		t.Logf("%s: what was under way was settled after %.2f s", what, took.Seconds())
		if took > atMost { // on a machine with other things to do; make chaos and make bench-2pc measure it
			t.Logf("%s: it took %s, more than %s", what, took, atMost)
		}
	}
	kill := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := c.shop.Kill(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	busy := func() { // dozens of transactions later
		t.Helper()
		before := c.decided(t.Context())
		testkit.Eventually(t, 60*time.Second, func() bool { return c.decided(t.Context()) > before+50 })
	}

	busy()
	kill("coordinator-1")
	settled("one of two coordinators killed", 2500*time.Millisecond)
	busy()
	kill("coordinator-2")
	if err := c.shop.Start(t.Context(), "coordinator-2"); err != nil {
		t.Fatal(err)
	}
	if err := c.shop.WaitReady(t.Context(), "coordinator-2"); err != nil {
		t.Fatal(err)
	}
	settled("the only coordinator killed and back", 5*time.Second)

	goHome()
	customers.Wait()
	if err := c.shop.Start(t.Context(), "coordinator-1"); err != nil {
		t.Fatal(err)
	}
	report, err := c.judge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.violations {
		// Its deaths were this test's.
		t.Errorf("%s", v.what)
	}
	report.Print(os.Stderr, 20)
}

// A campaign as short as it can be and still do something of everything.
func TestCampaign_aShortOne(t *testing.T) { //nolint:paralleltest // a shop fills the machine
	if testing.Short() {
		t.Skip("it starts a shop")
	}
	report, err := Run(t.Context(), Config{Seed: 4, Length: 12 * time.Second, RunDir: t.TempDir(), Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	report.Print(os.Stderr, 20)
	for _, v := range report.violations {
		t.Error(v.what)
	}
	if report.Transfers() == 0 || report.Kills() == 0 {
		t.Errorf("%d transactions and %d kills show nothing", report.Transfers(), report.Kills())
	}
}
