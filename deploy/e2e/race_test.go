package e2e

import (
	"encoding/json"
	"sync"
	"testing"

	"souk/shared/contract/order"
	"souk/shared/contract/product"
	"souk/shared/fault"

	"github.com/google/uuid"
)

// together runs f for 0…n-1, all at the same time.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func TestRace_fiftyBuyersForTheLastPiece(t *testing.T) {
	const buyers = 50
	boss := admin(t)
	last := boss.goods(t, 10_00, 1)
	merchant := boss.merchant(t)
	people, orders := make([]*person, buyers), make([]order.Order, buyers)
	for i := range people {
		people[i] = customer(t, 10_00)
		orders[i] = people[i].place(t, last, 1)
	}

	errs := make([]error, buyers)
	together(buyers, func(i int) {
		_, errs[i] = people[i].pay(t.Context(), orders[i].ID, uuid.NewString())
	})

	paid, out, wallets := 0, 0, int64(0)
	for i, err := range errs {
		switch {
		case err == nil:
			paid++
		case fault.Is(err, fault.Conflict) && fault.HasCode(err, "out_of_stock"):
			out++
		default:
			t.Errorf("buyer %d: %v", i, err)
		}
	}
	if paid != 1 || out != buyers-1 {
		t.Errorf("%d paid and %d were told out_of_stock, want 1 and %d", paid, out, buyers-1)
	}
	atRest(t)
	if got := boss.stock(t, last); got != (product.Counts{Sold: 1}) {
		t.Errorf("stock %+v, want 0/0/1", got)
	}
	statuses := map[order.Status]int{}
	for i, p := range people {
		wallets += p.wallet(t).Available.Amount
		statuses[p.order(t, orders[i].ID).Status]++
	}
	if statuses[order.Paid] != 1 || statuses[order.Created] != buyers-1 {
		t.Errorf("orders %v", statuses)
	}
	if got := boss.merchant(t) - merchant; wallets+got != buyers*10_00 || got != 10_00 {
		t.Errorf("wallets have %d and the merchant got %d of %d", wallets, got, buyers*10_00)
	}
}

func TestRace_twentyCheckoutsThatTogetherExceedOneWallet(t *testing.T) {
	const checkouts, fit = 20, 7
	boss := admin(t)
	things := boss.goods(t, 10_00, checkouts)
	ann := customer(t, fit*10_00+9_99)
	orders := make([]order.Order, checkouts)
	for i := range orders {
		orders[i] = ann.place(t, things, 1)
	}
	errs := make([]error, checkouts)
	together(checkouts, func(i int) { _, errs[i] = ann.pay(t.Context(), orders[i].ID, uuid.NewString()) })

	paid := 0
	for i, err := range errs {
		switch {
		case err == nil:
			paid++
		case !fault.Is(err, fault.Conflict) || !fault.HasCode(err, "insufficient_funds"):
			t.Errorf("checkout %d: %v", i, err)
		}
	}
	atRest(t)
	wallet := ann.wallet(t)
	if paid != fit || wallet.Available != usd(9_99) {
		t.Errorf("%d were paid, want %d; wallet %+v", paid, fit, wallet)
	}
	if got := boss.stock(t, things); got != (product.Counts{Available: checkouts - fit, Sold: fit}) {
		t.Errorf("stock %+v", got)
	}
}

func TestRace_onePaymentSentTwentyTimes(t *testing.T) {
	boss, ann := admin(t), customer(t, 100_00)
	placed := ann.place(t, boss.goods(t, 10_00, 5), 1)
	key := uuid.NewString()
	answers := make([]string, 20)
	together(len(answers), func(i int) {
		out, err := ann.pay(t.Context(), placed.ID, key)
		if err != nil {
			t.Error(err)
			return
		}
		b, err := json.Marshal(out)
		if err != nil {
			t.Error(err)
		}
		answers[i] = string(b)
	})
	for i, a := range answers {
		if a != answers[0] {
			t.Errorf("answer %d differs:\n%s\n%s", i, a, answers[0])
		}
	}
	atRest(t)
	if got := ann.wallet(t); got.Available != usd(90_00) {
		t.Errorf("wallet %+v, want one charge", got)
	}
	if again, err := ann.pay(t.Context(), placed.ID, uuid.NewString()); !fault.Is(err, fault.Conflict) {
		t.Errorf("paid again under another key: %+v, %v", again, err)
	}
}
