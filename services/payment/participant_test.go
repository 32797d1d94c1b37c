package payment_test

import (
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/money"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if !fault.Is(err, fault.Conflict) || !fault.HasCode(err, code) {
		t.Errorf("got %v, want a no with code %s", err, code)
	}
}

func TestCharge_holdsThenMovesToTheMerchant(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	c, gid := chargeOf(id, 700), uuid.New()
	for range 2 { // a repetition changes nothing
		if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
			t.Fatal(err)
		}
		f.wantWallet(t, token, 300, 700)
	}
	if d := f.detail(t, c.PaymentID); d.Status != payment.Authorized || d.TransactionID != gid || d.Amount != usd(700) || d.OrderID != c.OrderID || d.UserID != id {
		t.Errorf("got %+v", d)
	}
	f.wantLedgerRight(t)
	for range 2 {
		if got := f.finish(t, gid, coordinator.Committed); got != twopc.Committed {
			t.Errorf("got %s, want committed", got)
		}
		f.wantWallet(t, token, 300, 0)
		f.wantMerchant(t, 700, 0)
	}
	d := f.detail(t, c.PaymentID)
	if d.Status != payment.Captured || states(d) != ">authorized authorized>captured " || *d.History[0].Actor != id || d.History[1].TransactionID != gid {
		t.Errorf("got %+v", d)
	}
	if got := f.finish(t, gid, coordinator.Aborted); got != twopc.Refused {
		t.Errorf("an abort after the commit got %s, want refused", got)
	}
	f.wantLedgerRight(t)
}

func TestCharge_isGivenBackByAbort(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	c, gid := chargeOf(id, 700), uuid.New()
	if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := f.finish(t, gid, coordinator.Aborted); got != twopc.Aborted {
			t.Errorf("got %s, want aborted", got)
		}
		f.wantWallet(t, token, 1000, 0)
		f.wantMerchant(t, 0, 0)
	}
	if d := f.detail(t, c.PaymentID); d.Status != payment.Voided || states(d) != ">authorized authorized>voided " {
		t.Errorf("got %+v", d)
	}

	// The same checkout may be tried again, under the same payment id.
	again := uuid.New()
	if err := f.prepare(t, again, payment.ActionCharge, c); err != nil {
		t.Fatal(err)
	}
	f.finish(t, again, coordinator.Committed)
	f.wantWallet(t, token, 300, 0)
	if d := f.detail(t, c.PaymentID); states(d) != ">authorized authorized>voided voided>authorized authorized>captured " || d.TransactionID != again {
		t.Errorf("got %+v", d)
	}
	f.wantLedgerRight(t)
}

func TestCharge_saysNo(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	paid, _ := f.paid(t, 500)
	under, voided := chargeOf(id, 100), chargeOf(id, 100)
	if err := f.prepare(t, uuid.New(), payment.ActionCharge, under); err != nil {
		t.Fatal(err)
	}
	gid := uuid.New()
	if err := f.prepare(t, gid, payment.ActionCharge, voided); err != nil {
		t.Fatal(err)
	}
	f.finish(t, gid, coordinator.Aborted)
	with := func(c payment.Charge, edit func(*payment.Charge)) payment.Charge {
		edit(&c)
		return c
	}
	t.Run("cases", func(t *testing.T) { // what comes after looks at what they have left
		for name, c := range map[string]struct {
			charge payment.Charge
			code   string
		}{
			"more than there is":        {chargeOf(id, 901), "insufficient_funds"},
			"no wallet":                 {chargeOf(uuid.New(), 1), "insufficient_funds"},
			"no wallet in the currency": {with(chargeOf(id, 1), func(c *payment.Charge) { c.Amount.Currency = "EUR" }), "insufficient_funds"},
			"zero":                      {chargeOf(id, 0), "invalid_amount"},
			"below zero":                {chargeOf(id, -5), "invalid_amount"},
			"far too much":              {chargeOf(id, 1e18), "invalid_amount"},
			"foreign currency":          {with(chargeOf(id, 1), func(c *payment.Charge) { c.Amount.Currency = "XTS" }), "unknown_currency"},
			"an order that is paid":     {with(chargeOf(id, 1), func(c *payment.Charge) { c.OrderID = paid.OrderID }), "order_not_payable"},
			"an order under way":        {with(chargeOf(id, 1), func(c *payment.Charge) { c.OrderID = under.OrderID }), "busy"},
			"the payment under way":     {under, "busy"},
			"the payment that is made":  {paid, "order_not_payable"},
			"a voided one, more of it":  {with(voided, func(c *payment.Charge) { c.Amount = usd(101) }), "payment_reused"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				gid := uuid.New()
				for range 2 {
					wantCode(t, f.prepare(t, gid, payment.ActionCharge, c.charge), c.code)
				}
				if got := f.finish(t, gid, coordinator.Committed); got != twopc.Refused {
					t.Errorf("a commit after the no got %s, want refused", got)
				}
			})
		}
	})
	f.wantWallet(t, token, 900, 100)
	f.wantMerchant(t, 500, 0)
	f.wantLedgerRight(t)
}

func TestCharge_comesTooLate(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	gid := uuid.New()
	f.finish(t, gid, coordinator.Aborted)
	wantCode(t, f.prepare(t, gid, payment.ActionCharge, chargeOf(id, 1)), "aborted")

	_, err := f.payment.Participant.Prepare(t.Context(), twopc.Prepare{
		GID: uuid.New(), Action: payment.ActionCharge, Payload: []byte("{}"), Deadline: f.clock.now().Add(-time.Second),
	})
	wantCode(t, err, "deadline")
	f.wantWallet(t, token, 1000, 0)
}

// TestCharge_neverMoreThanTheWalletHas has 20 checkouts that together exceed one wallet.
func TestCharge_neverMoreThanTheWalletHas(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	gids, errs := make([]uuid.UUID, 20), make([]error, 20)
	parallel(len(gids), func(i int) {
		gids[i] = uuid.New()
		errs[i] = f.prepare(t, gids[i], payment.ActionCharge, chargeOf(id, 150))
	})
	yes := 0
	for _, err := range errs {
		if err == nil {
			yes++
		} else {
			wantCode(t, err, "insufficient_funds")
		}
	}
	if yes != 6 {
		t.Errorf("%d said yes, want 6", yes)
	}
	f.wantWallet(t, token, 100, 900)
	parallel(len(gids), func(i int) {
		if errs[i] == nil {
			f.finish(t, gids[i], coordinator.Committed)
		}
	})
	f.wantWallet(t, token, 100, 0)
	f.wantMerchant(t, 900, 0)
	f.wantLedgerRight(t)
}

// TestCharge_onePaymentPerOrder has two transactions race for one order.
func TestCharge_onePaymentPerOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	order := uuid.New()
	errs := make([]error, 10)
	parallel(len(errs), func(i int) {
		c := chargeOf(id, 100)
		c.OrderID = order
		errs[i] = f.prepare(t, uuid.New(), payment.ActionCharge, c)
	})
	yes := 0
	for _, err := range errs {
		if err == nil {
			yes++
		} else {
			wantCode(t, err, "busy")
		}
	}
	if yes != 1 {
		t.Errorf("%d said yes, want 1", yes)
	}
	f.wantWallet(t, token, 900, 100)
}

func TestCharge_inOnePhase(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	state, err := f.payment.Participant.Prepare(t.Context(), twopc.Prepare{
		GID: uuid.New(), Action: payment.ActionCharge, Payload: marshal(t, chargeOf(id, 700)), Deadline: f.clock.now().Add(time.Second), OnePhase: true,
	})
	if err != nil || state != twopc.Committed {
		t.Errorf("got %s %v, want committed", state, err)
	}
	f.wantWallet(t, token, 300, 0)
	f.wantMerchant(t, 700, 0)
	f.wantLedgerRight(t)
}

func refundOf(c payment.Charge, amount int64) payment.Refund {
	return payment.Refund{RefundID: uuid.New(), PaymentID: c.PaymentID, Amount: usd(amount), Reason: "it broke"}
}

func TestRefundBranch_holdsThenMovesBack(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	aborted, part, rest := uuid.New(), uuid.New(), uuid.New()

	r := refundOf(c, 400)
	if err := f.prepare(t, aborted, payment.ActionRefund, r); err != nil {
		t.Fatal(err)
	}
	f.wantMerchant(t, 600, 400)
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, refundOf(c, 1)), "busy") // refunds take turns
	f.finish(t, aborted, coordinator.Aborted)
	f.wantMerchant(t, 1000, 0)
	f.wantWallet(t, token, 0, 0)

	if err := f.prepare(t, part, payment.ActionRefund, r); err != nil { // the same refund, tried again
		t.Fatal(err)
	}
	for range 2 {
		f.finish(t, part, coordinator.Committed)
		f.wantMerchant(t, 600, 0)
		f.wantWallet(t, token, 400, 0)
	}
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, r), "illegal_state")
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, refundOf(c, 601)), "refund_too_large")
	if err := f.prepare(t, rest, payment.ActionRefund, refundOf(c, 600)); err != nil {
		t.Fatal(err)
	}
	f.finish(t, rest, coordinator.Committed)
	f.wantMerchant(t, 0, 0)
	f.wantWallet(t, token, 1000, 0)
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, refundOf(c, 1)), "illegal_state")
	d := f.detail(t, c.PaymentID)
	if d.Status != payment.Refunded || d.Refunded != usd(1000) || len(d.Refunds) != 2 ||
		states(d) != ">authorized authorized>captured captured>partially_refunded partially_refunded>refunded " {
		t.Errorf("got %+v", d)
	}
	f.wantLedgerRight(t)
}

func TestRefundBranch_saysNo(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	id, other := f.customer(t)
	f.fund(t, other, 50)
	held := chargeOf(id, 50)
	if err := f.prepare(t, uuid.New(), payment.ActionCharge, held); err != nil {
		t.Fatal(err)
	}
	euro := refundOf(c, 5)
	euro.Amount = money.Money{Amount: 5, Currency: "EUR"}
	t.Run("cases", func(t *testing.T) { // what comes after looks at what they have left
		for name, r := range map[string]struct {
			refund payment.Refund
			code   string
		}{
			"too much":         {refundOf(c, 1001), "refund_too_large"},
			"zero":             {refundOf(c, 0), "invalid_amount"},
			"another currency": {euro, "currency_mismatch"},
			"no payment":       {refundOf(payment.Charge{PaymentID: uuid.New()}, 1), "not_found"},
			"not captured":     {refundOf(held, 1), "illegal_state"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, r.refund), r.code)
			})
		}
	})
	f.wantMerchant(t, 1000, 0)
	f.wantWallet(t, token, 0, 0)

	// What the merchant does not have cannot be held: here a payout has taken it.
	if err := f.db.Exec("UPDATE account SET available = 10 WHERE kind = 'merchant'").Error; err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionRefund, refundOf(c, 11)), "insufficient_funds")
}

func TestCreditBranch_paysWhatPointsAreWorth(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	c := payment.Credit{TransferID: uuid.New(), UserID: id, Points: 250, Amount: usd(250)}
	first, second := uuid.New(), uuid.New()
	if err := f.prepare(t, first, payment.ActionCredit, c); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionCredit, c), "busy")
	f.wantWallet(t, token, 0, 0)
	f.finish(t, first, coordinator.Aborted)
	f.wantWallet(t, token, 0, 0)

	if err := f.prepare(t, second, payment.ActionCredit, c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.finish(t, second, coordinator.Committed)
		f.wantWallet(t, token, 250, 0)
	}
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionCredit, c), "transfer_reused")
	c.TransferID, c.Amount = uuid.New(), usd(251)
	wantCode(t, f.prepare(t, uuid.New(), payment.ActionCredit, c), "invalid_amount")
	if n := f.count(t, "SELECT available FROM account WHERE kind = 'rewards' AND currency = 'USD'"); n != -250 {
		t.Errorf("the rewards account has %d, want -250", n)
	}
	f.wantLedgerRight(t)
}

// Under one key two payments are refunded at once: the plan of the one is written over that of the other while the other
// is prepared.
func TestRefundBranch_isWhatIsPlannedToTheLast(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, _ := f.paid(t, 1000)
	another, _ := f.paid(t, 1000)
	r := refundOf(c, 300)
	if err := f.db.Exec(`INSERT INTO refund (id, payment_id, amount, currency, reason, refunded_before, restock, status, planned_at, created_at)
		VALUES (?, ?, 300, 'USD', 'it broke', 0, false, 'planned', now(), now())`, r.RefundID, c.PaymentID).Error; err != nil {
		t.Fatal(err)
	}
	other := f.db.Begin()
	defer other.Rollback()
	if err := other.Exec("UPDATE refund SET payment_id = ?, amount = 1000 WHERE id = ?", another.PaymentID, r.RefundID).Error; err != nil {
		t.Fatal(err)
	}
	voted := make(chan error, 1)
	go func() { voted <- f.prepare(t, uuid.New(), payment.ActionRefund, r) }()
	testkit.Eventually(t, 5*time.Second, func() bool {
		return f.count(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	if err := other.Commit().Error; err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-voted, "refund_reused")
	f.wantMerchant(t, 2000, 0)
	if n := f.count(t, "SELECT count(*) FROM refund WHERE status <> 'planned'"); n != 0 {
		t.Error("the other payment's refund was begun")
	}
}
