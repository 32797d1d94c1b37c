package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"souk/deploy/shopper"
	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/money"

	"github.com/google/uuid"
)

// customers are how many shop at a time: a little load, on a machine that may have other work.
const customers = 4

// happen lets customers come and go for half a minute, while processes die, so that every panel has something to show. A
// customer hears of that; what counts is that the shop is right afterwards.
func (c *check) happen(ctx context.Context) error {
	admin, err := shopper.Admin(ctx, c.shop.Gateway)
	if err != nil {
		return err
	}
	bowl, err := admin.Goods(ctx, "Tea bowl for looking at", money.Money{Amount: 12_50, Currency: "USD"}, 1_000_000)
	if err != nil {
		return err
	}
	shopping, close := context.WithCancel(ctx)
	defer close()
	var bought, refunded, refused atomic.Int64
	var group sync.WaitGroup
	for range customers {
		ann, err := shopper.Customer(ctx, c.shop.Gateway, money.Money{Amount: 10_000_00, Currency: "USD"})
		if err != nil {
			return err
		}
		group.Go(func() {
			for shopping.Err() == nil {
				_, err := ann.Browse(ctx, "tea")
				if err == nil {
					_, err = ann.Browse(ctx, "")
				}
				if err == nil {
					err = buy(ctx, ann, admin, bowl, &bought, &refunded)
				}
				if err != nil {
					refused.Add(1)
				}
				_ = pause(shopping, 100*time.Millisecond)
			}
		})
	}
	err = c.disturb(ctx)
	close()
	group.Wait()
	if err != nil {
		return err
	}
	c.say("customers bought %d times, %d of them changed their mind, %d were told to come back", bought.Load(), refunded.Load(), refused.Load())
	violations, err := shopper.AtRest(ctx, c.shop, 30*time.Second)
	for _, v := range violations {
		c.fail("after the faults: %v", v)
	}
	return err
}

// buy buys, and sometimes changes its mind.
func buy(ctx context.Context, ann, admin *shopper.Person, bowl uuid.UUID, bought, refunded *atomic.Int64) error {
	paid, err := ann.Buy(ctx, bowl, 1)
	if err != nil {
		return err
	}
	if bought.Add(1)%5 != 0 {
		return nil
	}
	refunded.Add(1)
	return admin.Refund(ctx, *paid.PaymentID)
}

// disturb makes what dashboards are for. While both of payment's instances are gone, callers see refused connections, eject
// them, and open their breakers; the coordinator cannot tell them what was decided, and recovery has to. An admin who looks
// at payments meanwhile is what opens the breaker for reads.
func (c *check) disturb(ctx context.Context) error {
	if err := pause(ctx, 6*time.Second); err != nil {
		return err
	}
	c.say("killing payment-1, payment-2 and product-2")
	for _, name := range []string{"payment-1", "payment-2", "product-2"} {
		if err := c.shop.Kill(ctx, name); err != nil {
			return err
		}
	}
	ann, err := shopper.Admin(ctx, c.shop.Gateway)
	if err != nil {
		return err
	}
	for range 60 {
		_, _ = payment.ListPayments.Call(ctx, ann.Client, new(payment.ListPaymentsInput)) // it cannot be answered
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	c.say("starting them again")
	var errs []error
	for _, name := range []string{"payment-1", "payment-2", "product-2"} {
		errs = append(errs, c.shop.Start(ctx, name))
	}
	for _, name := range []string{"payment-1", "payment-2", "product-2"} {
		errs = append(errs, c.shop.WaitReady(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// A breaker probes after 5 s; then customers go on as if nothing had been.
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	if _, err := payment.CheckLedger.Call(ctx, ann.Client, new(contract.None)); err != nil {
		return fmt.Errorf("payment does not answer after it came back: %w", err)
	}
	return nil
}
