package payment_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

func (f *shop) refund(t *testing.T, id uuid.UUID, key string, body map[string]any) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "POST", Path: "/v1/payments/" + id.String() + "/refunds", Token: f.admin, Key: key, Body: body})
}

func part(amount int64) map[string]any {
	return map[string]any{"amount": usd(amount), "reason": "it broke"}
}

func TestRefund_ofAllGivesBackMoneyGoodsAndPoints(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 12345)
	var r payment.RefundView
	answer := f.refund(t, c.PaymentID, "all", map[string]any{"reason": "it broke", "restock": true})
	answer.Into(t, 201, &r)
	if r.Amount != usd(12345) || r.Status != payment.Succeeded || !r.Restock || r.PointsBack != 123 || r.SettledAt == nil || r.TransactionID == nil {
		t.Errorf("got %+v", r)
	}
	f.wantWallet(t, token, 12345, 0)
	f.wantMerchant(t, 0, 0)
	f.wantLedgerRight(t)

	actions, refunds := asked[order.Refund](t, f.order)
	if want := (order.Refund{OrderID: c.OrderID, RefundID: r.ID, Amount: usd(12345), Full: true}); len(refunds) != 1 || refunds[0] != want || actions[0] != order.ActionRefund {
		t.Errorf("the order was asked %v %+v, want %+v", actions, refunds, want)
	}
	actions, goods := asked[product.Lines](t, f.product)
	if len(goods) != 1 || goods[0].OrderID != c.OrderID || !slices.Equal(goods[0].Lines, f.lines) || actions[0] != product.ActionRestock {
		t.Errorf("the product was asked %v %+v, want the order's lines", actions, goods)
	}
	actions, points := asked[user.Points](t, f.user)
	if want := (user.Points{UserID: c.UserID, Points: 123, Reference: r.ID.String()}); len(points) != 1 || points[0] != want || actions[0] != user.ActionTakeBack {
		t.Errorf("the user was asked %v %+v, want %+v", actions, points, want)
	}

	var shown payment.RefundView
	f.get(t, token, strings.TrimPrefix(answer.Header.Get("Location"), "/api")).Into(t, 200, &shown)
	if shown.ID != r.ID || shown.Status != payment.Succeeded {
		t.Errorf("at its location is %+v, want %+v", shown, r)
	}
	d := f.detail(t, c.PaymentID)
	if len(d.Refunds) != 1 || d.Refunds[0].ID != r.ID || d.Status != payment.Refunded || d.History[2].Actor == nil {
		t.Errorf("got %+v", d)
	}
	again := f.refund(t, c.PaymentID, "all", map[string]any{"reason": "it broke", "restock": true})
	if again.Status != 201 || string(again.Body) != string(answer.Body) {
		t.Errorf("the repetition got %d %s, want %s", again.Status, again.Body, answer.Body)
	}
	f.refund(t, c.PaymentID, "all", map[string]any{"reason": "another"}).Problem(t, 422, "idempotency_key_reused")
	f.refund(t, c.PaymentID, "more", map[string]any{"reason": "it broke"}).Problem(t, 409, "refund_too_large")
}

// TestRefund_inPartsToTheLastCent takes back, over all parts, exactly the points that the payment has earned.
func TestRefund_inPartsToTheLastCent(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1050)
	var back int64
	for i, amount := range []int64{99, 1, 350, 550, 49, 1} {
		var r payment.RefundView
		f.refund(t, c.PaymentID, uuid.NewString(), part(amount)).Into(t, 201, &r)
		back += r.PointsBack
		if d := f.detail(t, c.PaymentID); (d.Status == payment.Refunded) != (i == 5) {
			t.Errorf("after part %d the payment is %s", i, d.Status)
		}
	}
	f.wantWallet(t, token, 1050, 0)
	f.wantMerchant(t, 0, 0)
	_, points := asked[user.Points](t, f.user)
	sum := int64(0)
	for _, p := range points {
		sum += p.Points
		if p.Points < 1 {
			t.Errorf("a branch of %d points", p.Points)
		}
	}
	if sum != 10 || back != 10 || len(points) != 3 {
		t.Errorf("%d points were taken back in %d branches, and %d shown; want 10 in 3", sum, len(points), back)
	}
	_, refunds := asked[order.Refund](t, f.order)
	for i, r := range refunds {
		if r.Full != (i == len(refunds)-1) {
			t.Errorf("part %d of %d says full=%v", i, len(refunds), r.Full)
		}
	}
	if _, goods := asked[product.Lines](t, f.product); len(goods) != 0 {
		t.Errorf("%+v went back to stock", goods)
	}
	f.refund(t, c.PaymentID, uuid.NewString(), part(1)).Problem(t, 409, "refund_too_large")
	f.wantLedgerRight(t)
}

func TestRefund_refusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	id, other := f.customer(t)
	f.fund(t, other, 50)
	held := chargeOf(id, 50)
	if err := f.prepare(t, uuid.New(), payment.ActionCharge, held); err != nil {
		t.Fatal(err)
	}
	with := func(b map[string]any, key string, v any) map[string]any { b[key] = v; return b }
	t.Run("cases", func(t *testing.T) { // what comes after looks at what they have left
		for name, r := range map[string]struct {
			id     uuid.UUID
			body   map[string]any
			status int
			code   string
		}{
			"too much":         {c.PaymentID, part(1001), 409, "refund_too_large"},
			"zero":             {c.PaymentID, part(0), 422, "invalid_amount"},
			"negative":         {c.PaymentID, part(-1), 422, "invalid"},
			"another currency": {c.PaymentID, with(part(1), "amount", money.Money{Amount: 1, Currency: "EUR"}), 422, "currency_mismatch"},
			"goods for a part": {c.PaymentID, with(part(1), "restock", true), 422, "restock_needs_full_refund"},
			"no reason":        {c.PaymentID, map[string]any{"amount": usd(1)}, 422, "invalid"},
			"a long reason":    {c.PaymentID, with(part(1), "reason", strings.Repeat("a", 201)), 422, "invalid"},
			"unknown field":    {c.PaymentID, with(part(1), "points", 5), 422, "invalid"},
			"no payment":       {uuid.New(), part(1), 404, "not_found"},
			"not captured":     {held.PaymentID, part(1), 409, "illegal_state"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f.refund(t, r.id, uuid.NewString(), r.body).Problem(t, r.status, r.code)
			})
		}
	})
	f.Do(t, testkit.Request{Method: "POST", Path: "/v1/payments/" + c.PaymentID.String() + "/refunds", Token: token, Key: "k", Body: part(1)}).
		Problem(t, 403, "forbidden")
	if n := f.count(t, "SELECT count(*) FROM refund"); n != 0 {
		t.Errorf("%d refunds, want none", n)
	}
	f.wantMerchant(t, 1000, 0)
}

func TestRefund_aRefusalAnywhereLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	for code, b := range map[string]*sibling{"order_not_refundable": f.order, "no_such_account": f.user} {
		b.refuse(fault.New(fault.Conflict, code, "no"))
		f.refund(t, c.PaymentID, code, part(400)).Problem(t, 409, code)
		b.refuse(nil)
		f.refund(t, c.PaymentID, code, part(400)).Problem(t, 409, code) // the transaction of this key has aborted for good
	}
	f.wantMerchant(t, 1000, 0)
	f.wantWallet(t, token, 0, 0)
	d := f.detail(t, c.PaymentID)
	for _, r := range d.Refunds {
		if r.Status != payment.Failed {
			t.Errorf("got %+v, want it failed", r)
		}
	}
	if d.Status != payment.Captured || d.Refunded != usd(0) {
		t.Errorf("got %+v", d)
	}

	// A service that is away is a passing reason: the same key may be used again.
	f.order.refuse(fault.New(fault.Unavailable, "", "away"))
	f.refund(t, c.PaymentID, "passing", part(400)).Problem(t, 503, "unavailable")
	f.order.refuse(nil)
	f.refund(t, c.PaymentID, "passing", part(400)).Into(t, 201, nil)
	f.wantMerchant(t, 600, 0)

	// The goods' lines are asked for before anything is begun.
	delete(f.mesh, order.Service)
	f.refund(t, c.PaymentID, "lines", map[string]any{"reason": "x", "restock": true}).Problem(t, 503, "unavailable")
	f.wantMerchant(t, 600, 0)
	f.wantLedgerRight(t)
}

// TestRefund_whoseOutcomeIsNotKnown is answered 202, and the repetition finds what became of it.
func TestRefund_whoseOutcomeIsNotKnown(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(do func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error){
		"lost": func(do func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error) {
			do()
			panic(http.ErrAbortHandler)
		},
		"undecided": func(do func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error) {
			o := do()
			return &coordinator.BeginOutput{Status: 202, Body: coordinator.Outcome{GID: o.Body.GID, State: coordinator.Pending}}, nil
		},
		"never begun": func(func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error) {
			return nil, fault.New(fault.Unavailable, "", "away")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			c, token := f.paid(t, 1000)
			f.coordinator.answer = answer
			all := map[string]any{"reason": "it broke"} // what is left is fixed by the first try
			first := f.refund(t, c.PaymentID, "k", all)
			var r, shown payment.RefundView
			first.Into(t, 202, &r)
			if r.Status != payment.Pending || r.Amount != usd(1000) {
				t.Errorf("got %+v, want pending", r)
			}
			location := strings.TrimPrefix(first.Header.Get("Location"), "/api")
			f.get(t, token, location).Into(t, 200, &shown)
			if want := map[bool]string{true: payment.Pending, false: payment.Succeeded}[name == "never begun"]; shown.Status != want {
				t.Errorf("at its location is %+v, want it %s", shown, want)
			}
			if name == "never begun" {
				f.clock.add(2 * time.Minute)
				f.get(t, token, location).Into(t, 200, &shown)
				if shown.Status != payment.Failed {
					t.Errorf("got %+v, want that it never will be", shown)
				}
			}

			f.coordinator.answer = nil
			f.refund(t, c.PaymentID, "k", all).Into(t, 201, &shown)
			if shown.ID != r.ID || shown.Status != payment.Succeeded || shown.Amount != usd(1000) {
				t.Errorf("the repetition got %+v, want %+v done", shown, r)
			}
			f.wantWallet(t, token, 1000, 0)
			f.wantMerchant(t, 0, 0)
			f.wantLedgerRight(t)
		})
	}
}

// TestRefund_isSeenAtOnce has a coordinator that answers before it has told anybody.
func TestRefund_isSeenAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.coordinator.silent = true
	c, token := f.paid(t, 1000)
	var r payment.RefundView
	f.refund(t, c.PaymentID, "k", part(400)).Into(t, 201, &r)
	if r.Status != payment.Succeeded {
		t.Errorf("got %+v, want it done", r)
	}
	f.wantWallet(t, token, 400, 0)
	if got := f.finish(t, *r.TransactionID, coordinator.Committed); got != "committed" {
		t.Errorf("the late message got %s", got)
	}
	f.wantWallet(t, token, 400, 0)
}

// TestRefund_race has refunds that together exceed the payment, and one key used many times.
func TestRefund_race(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	parallel(12, func(int) {
		a := f.refund(t, c.PaymentID, uuid.NewString(), part(300))
		if a.Status != 201 && a.Status != 409 {
			t.Errorf("got %d %s", a.Status, a.Body)
		}
	})
	d := f.detail(t, c.PaymentID)
	if d.Refunded.Amount > 900 || d.Refunded.Amount < 300 {
		t.Errorf("%s are refunded, want 3.00 to 9.00", d.Refunded)
	}
	f.wantWallet(t, token, d.Refunded.Amount, 0)
	f.wantMerchant(t, 1000-d.Refunded.Amount, 0)

	left := 1000 - d.Refunded.Amount
	parallel(8, func(int) { f.refund(t, c.PaymentID, "rest", part(left)) })
	f.refund(t, c.PaymentID, "rest", part(left)).Into(t, 201, nil)
	f.wantWallet(t, token, 1000, 0)
	f.wantMerchant(t, 0, 0)
	_, points := asked[user.Points](t, f.user)
	if len(points) == 0 {
		t.Error("no points were taken back")
	}
	f.wantLedgerRight(t)
}

func TestGetRefund_ofAnotherPersonIsNone(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, token := f.paid(t, 1000)
	_, other := f.customer(t)
	var r payment.RefundView
	f.refund(t, c.PaymentID, "k", part(400)).Into(t, 201, &r)
	path := "/v1/payments/" + c.PaymentID.String() + "/refunds/" + r.ID.String()
	f.get(t, token, path).Into(t, 200, nil)
	f.get(t, f.admin, path).Into(t, 200, nil)
	f.get(t, other, path).Problem(t, 404, "not_found")
	f.get(t, token, "/v1/payments/"+uuid.NewString()+"/refunds/"+r.ID.String()).Problem(t, 404, "not_found")
	f.get(t, token, "/v1/payments/"+c.PaymentID.String()+"/refunds/"+uuid.NewString()).Problem(t, 404, "not_found")
}
