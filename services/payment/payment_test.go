package payment_test

import (
	"testing"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/payment"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

func TestPayments_areSeenByWhoPaidAndWhoManagesThem(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	_, other := f.customer(t)
	f.fund(t, token, 1000)
	var made []payment.Charge
	for range 5 {
		c, gid := chargeOf(id, 100), uuid.New()
		if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
			t.Fatal(err)
		}
		f.finish(t, gid, coordinator.Committed)
		made = append(made, c)
	}
	theirs, _ := f.paid(t, 50)

	mine := pages[payment.Payment](t, f, token, "/v1/payments?page_size=2")
	if len(mine) != 5 || mine[0].ID != made[4].PaymentID || mine[4].ID != made[0].PaymentID {
		t.Errorf("got %+v, want my five, newest first", mine)
	}
	if all := pages[payment.Payment](t, f, f.admin, "/v1/payments?page_size=4"); len(all) != 6 {
		t.Errorf("got %d, want all 6", len(all))
	}
	for token, want := range map[string]int{token: 0, f.admin: 1} {
		if got := pages[payment.Payment](t, f, token, "/v1/payments?order_id="+theirs.OrderID.String()); len(got) != want {
			t.Errorf("got %+v, want %d", got, want)
		}
	}

	path := "/v1/payments/" + made[0].PaymentID.String()
	var d payment.Detail
	f.get(t, token, path).Into(t, 200, &d)
	if d.ID != made[0].PaymentID || d.Refunds == nil || len(d.History) != 2 {
		t.Errorf("got %+v", d)
	}
	notMine, none := f.get(t, other, path), f.get(t, other, "/v1/payments/"+uuid.NewString())
	notMine.Problem(t, 404, "not_found")
	if a, b := anonymous(notMine), anonymous(none); a != b {
		t.Errorf("another's is %s, none is %s", a, b)
	}
}

func (f *shop) void(t *testing.T, token string, id uuid.UUID) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "POST", Path: "/v1/payments/" + id.String() + "/void", Token: token, Key: uuid.NewString()})
}

func TestVoid_givesBackWhatIsNotCaptured(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	c, gid := chargeOf(id, 700), uuid.New()
	if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
		t.Fatal(err)
	}
	f.void(t, token, c.PaymentID).Problem(t, 403, "forbidden")

	var d payment.Detail
	answer := f.Do(t, testkit.Request{Method: "POST", Path: "/v1/payments/" + c.PaymentID.String() + "/void", Token: f.admin, Key: "v"})
	answer.Into(t, 200, &d)
	if d.Status != payment.Voided || states(d) != ">authorized authorized>voided " || d.History[1].Actor == nil || *d.History[1].Actor == id {
		t.Errorf("got %+v, want it voided by the admin", d)
	}
	f.wantWallet(t, token, 1000, 0)
	again := f.Do(t, testkit.Request{Method: "POST", Path: "/v1/payments/" + c.PaymentID.String() + "/void", Token: f.admin, Key: "v"})
	if string(again.Body) != string(answer.Body) {
		t.Errorf("got %s, want %s", again.Body, answer.Body)
	}
	f.void(t, f.admin, c.PaymentID).Into(t, 200, nil) // it is what was asked for
	if got := f.coordinator.decide(gid, coordinator.Committed); got.State != coordinator.Aborted {
		t.Errorf("the register says %s, want aborted", got.State)
	}
	f.wantLedgerRight(t)
}

func TestVoid_cannotTakeBackWhatIsDecided(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	captured, _ := f.paid(t, 100)
	f.void(t, f.admin, captured.PaymentID).Problem(t, 409, "already_captured")

	// The register says committed, and we have not been told yet.
	id, token := f.customer(t)
	f.fund(t, token, 1000)
	c, gid := chargeOf(id, 700), uuid.New()
	if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
		t.Fatal(err)
	}
	f.coordinator.decide(gid, coordinator.Committed)
	f.void(t, f.admin, c.PaymentID).Problem(t, 409, "already_captured")
	f.wantWallet(t, token, 300, 0)
	if d := f.detail(t, c.PaymentID); d.Status != payment.Captured {
		t.Errorf("got %+v, want it captured", d)
	}

	f.void(t, f.admin, uuid.New()).Problem(t, 404, "not_found")
	undecided := chargeOf(id, 300)
	if err := f.prepare(t, uuid.New(), payment.ActionCharge, undecided); err != nil {
		t.Fatal(err)
	}
	delete(f.mesh, coordinator.Service)
	f.void(t, f.admin, undecided.PaymentID).Problem(t, 503, "unavailable")
	f.wantWallet(t, token, 0, 300)
	f.wantLedgerRight(t)
}

// TestVoid_againstItsOwnCommit has a void and the commit race; whoever the register says has won, money is in one place.
func TestVoid_againstItsOwnCommit(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	for range 10 {
		f.fund(t, token, 100)
		c, gid := chargeOf(id, 100), uuid.New()
		if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
			t.Fatal(err)
		}
		parallel(2, func(i int) {
			if i == 0 {
				f.finish(t, gid, f.coordinator.decide(gid, coordinator.Committed).State)
			} else {
				f.void(t, f.admin, c.PaymentID)
			}
		})
		var w payment.Wallet
		f.get(t, token, "/v1/wallets/USD").Into(t, 200, &w)
		want := map[string]int64{payment.Captured: 0, payment.Voided: 100}
		d := f.detail(t, c.PaymentID)
		if amount, ok := want[d.Status]; !ok || w.Available.Amount != amount || w.Held.Amount != 0 {
			t.Fatalf("a payment that is %s leaves %+v", d.Status, w)
		}
		if w.Available.Amount > 0 { // start the next round with nothing
			spend, gid := chargeOf(id, w.Available.Amount), uuid.New()
			if err := f.prepare(t, gid, payment.ActionCharge, spend); err != nil {
				t.Fatal(err)
			}
			f.finish(t, gid, coordinator.Committed)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM tx_heuristic"); n != 0 {
		t.Errorf("%d contradictions", n)
	}
	f.wantLedgerRight(t)
}
