package e2e

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/product"
	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// A process is killed, as by a power cut, at a point inside the protocol while a customer pays. When it is back, the
// purchase is wholly done or wholly undone within ten seconds, and nothing is held.
func TestCrash_aPurchaseIsWholeOrNotAtAll(t *testing.T) {
	for name, c := range map[string]struct {
		instances []string // those that die; all of a service, so that whoever is asked dies
		point     string
		status    order.Status // what it must become
	}{
		"coordinator before the decision":                   {[]string{"coordinator-1"}, crash.BeforeDecision, order.Created},
		"coordinator after the decision, nobody told":       {[]string{"coordinator-1"}, crash.AfterDecision, order.Paid},
		"product after its vote":                            {[]string{"product-1", "product-2"}, crash.AfterVote, order.Created},
		"payment between prepare and commit":                {[]string{"payment-1", "payment-2"}, crash.BeforeFinish, order.Paid},
		"product between prepare and commit":                {[]string{"product-1", "product-2"}, crash.BeforeFinish, order.Paid},
		"order, which began it, between prepare and commit": {[]string{"order-1"}, crash.BeforeFinish, order.Paid},
		"user between prepare and commit":                   {[]string{"user-1"}, crash.BeforeFinish, order.Paid},
	} {
		t.Run(name, func(t *testing.T) {
			boss, ann := admin(t), customer(t, 100_00)
			bowl := boss.goods(t, 30_00, 10)
			placed := ann.place(t, bowl, 2)
			for _, in := range c.instances {
				restart(t, in, "SOUK_CRASH_AT="+c.point)
			}

			key := uuid.NewString()
			if out, err := ann.pay(t.Context(), placed.ID, key); err == nil && out.Status == http.StatusOK && c.status != order.Paid {
				t.Errorf("the customer was told that it is paid")
			}
			testkit.Eventually(t, restTime, func() bool { return dead(c.instances) > 0 })
			begin := time.Now()
			for _, in := range c.instances {
				if dead([]string{in}) == 1 {
					start(t, in)
				} else {
					restart(t, in)
				}
			}
			atRest(t)
			t.Logf("at rest %.1f s after the restart began", time.Since(begin).Seconds())

			got, wallet, stock := ann.order(t, placed.ID).Status, ann.wallet(t).Available, boss.stock(t, bowl)
			paid := got == order.Paid && wallet == usd(40_00) && stock == product.Counts{Available: 8, Sold: 2} && ann.points(t) == 60
			unpaid := got == order.Created && wallet == usd(100_00) && stock == product.Counts{Available: 10} && ann.points(t) == 0
			if !paid && !unpaid || got != c.status {
				t.Errorf("order %s (want %s), wallet %s, stock %+v, points %d", got, c.status, wallet, stock, ann.points(t))
			}

			// The customer asks again with the same key, and gets it done, once.
			if out, err := ann.payUntilKnown(t, placed.ID, key); err != nil || out.Body.Status != order.Paid {
				t.Errorf("asked again: %+v, %v", out, err)
			}
			atRest(t)
			if got := ann.wallet(t).Available; got != usd(40_00) {
				t.Errorf("charged other than once: %s is left of 100.00", got)
			}
		})
	}
}

func restart(t *testing.T, instance string, env ...string) {
	t.Helper()
	if err := shop.Stop(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	start(t, instance, env...)
}

func start(t *testing.T, instance string, env ...string) {
	t.Helper()
	if err := shop.Start(t.Context(), instance, env...); err != nil {
		t.Fatal(err)
	}
	if err := shop.WaitReady(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
}

// revive sees to it that a server that a test has killed runs again for the next one, however the test ends.
func revive(t *testing.T, server string) {
	t.Helper()
	t.Cleanup(func() {
		_ = shop.Start(context.WithoutCancel(t.Context()), server) // it runs already where the test came to its end
	})
}

func dead(instances []string) (n int) {
	for _, in := range shop.Instances("") {
		for _, name := range instances {
			if in.Name == name && !in.Running {
				n++
			}
		}
	}
	return n
}

// One of two product instances is killed under load: the customers who look do not notice, and the instance gets its
// share again once it is back.
func TestCrash_oneOfTwoInstancesUnderLoad(t *testing.T) {
	var asked, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := nobody()
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				asked.Add(1)
				if _, err := product.ListProducts.Call(t.Context(), p.client, &product.ListInput{Paging: contract.Paging{Size: 5}, MaxPrice: product.MaxAmount}); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	served := func(instance string) float64 {
		return metric(t, instance, "mesh_server_requests_total", `route="/v1/products"`)
	}
	more := func(n int64) {
		from := asked.Load()
		testkit.Eventually(t, 30*time.Second, func() bool { return asked.Load() >= from+n })
	}

	more(100)
	if err := shop.Kill(t.Context(), "product-2"); err != nil {
		t.Fatal(err)
	}
	more(300)
	if err := shop.Start(t.Context(), "product-2"); err != nil {
		t.Fatal(err)
	}
	if err := shop.WaitReady(t.Context(), "product-2"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 30*time.Second, func() bool { return served("product-2") >= 20 })
	close(stop)
	wg.Wait()
	t.Logf("%d reads, %d failed; product-2 has served %.0f since it is back", asked.Load(), failed.Load(), served("product-2"))
	if failed.Load() != 0 {
		t.Errorf("%d of %d reads failed", failed.Load(), asked.Load())
	}
	atRest(t)
}

// Without Consul the shop goes on: callers keep the last good set of instances, also of a service that they have not
// called yet.
func TestCrash_consulIsAway(t *testing.T) {
	restart(t, "gateway-1")
	boss, ann := admin(t), customer(t, 100_00)
	bowl := boss.goods(t, 10_00, 10)
	if err := shop.Kill(t.Context(), "consul"); err != nil {
		t.Fatal(err)
	}
	revive(t, "consul")
	for range 5 {
		if out, err := ann.pay(t.Context(), ann.place(t, bowl, 1).ID, uuid.NewString()); err != nil || out.Status != http.StatusOK {
			t.Errorf("without Consul: %+v, %v", out, err)
		}
	}
	if err := shop.Start(t.Context(), "consul"); err != nil {
		t.Fatal(err)
	}
	for _, in := range shop.Instances("") {
		if err := shop.WaitReady(t.Context(), in.Name); err != nil {
			t.Errorf("%s did not come back to Consul: %v", in.Name, err)
		}
	}
	atRest(t)
}

// PostgreSQL is killed and restarted between purchases: the services find it again by themselves.
func TestCrash_postgresIsRestarted(t *testing.T) {
	boss, ann := admin(t), customer(t, 100_00)
	bowl := boss.goods(t, 10_00, 10)
	placed := ann.place(t, bowl, 1)
	if err := shop.Kill(t.Context(), "postgres"); err != nil {
		t.Fatal(err)
	}
	revive(t, "postgres")
	key := uuid.NewString()
	if _, err := ann.pay(t.Context(), placed.ID, key); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Deadline) {
		t.Errorf("without a database: %v", err)
	}
	if err := shop.Start(t.Context(), "postgres"); err != nil {
		t.Fatal(err)
	}
	for _, in := range shop.Instances("") {
		if err := shop.WaitReady(t.Context(), in.Name); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := ann.payUntilKnown(t, placed.ID, key); err != nil || out.Body.Status != order.Paid {
		t.Errorf("when it is back: %+v, %v", out, err)
	}
	atRest(t)
}
