package payment_test

import (
	"strings"
	"sync"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// staff is somebody with roles, and their token.
func (f *shop) staff(t *testing.T, roles ...identity.Role) (uuid.UUID, string) {
	t.Helper()
	id := uuid.New()
	return id, f.Token(t, id, roles...)
}

// ask asks for a refund, decide for what is to become of it.
func (f *shop) ask(t *testing.T, token string, id uuid.UUID, body map[string]any) *testkit.Answer {
	t.Helper()
	return f.post(t, token, "/v1/payments/"+id.String()+"/refunds", body)
}

func (f *shop) decide(t *testing.T, token string, r payment.RefundView, word string) *testkit.Answer {
	t.Helper()
	return f.post(t, token, "/v1/payments/"+r.PaymentID.String()+"/refunds/"+r.ID.String()+"/"+word, nil)
}

// What comes to more than the limit moves no money until somebody else has said yes.
func TestRefund_aboveTheLimitNeedsTwoPeople(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, customer := f.paid(t, 250_000)
	askedBy, support := f.staff(t, identity.Support)
	approvedBy, finance := f.staff(t, identity.Finance)

	var r payment.RefundView
	answer := f.ask(t, support, c.PaymentID, map[string]any{"reason": "it broke", "restock": true})
	answer.Into(t, 201, &r)
	if r.Status != payment.Requested || r.Amount != usd(250_000) || r.SettledAt != nil || r.RequestedBy == nil || *r.RequestedBy != askedBy || r.DecidedBy != nil {
		t.Errorf("got %+v", r)
	}
	f.wantWallet(t, customer, 0, 0)
	f.wantMerchant(t, 250_000, 0)

	var page contract.Page[payment.RefundView]
	f.get(t, finance, "/v1/refund-requests").Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].ID != r.ID {
		t.Errorf("got %+v", page)
	}
	f.decide(t, support, r, "approve").Problem(t, 403, "forbidden")
	f.decide(t, customer, r, "approve").Problem(t, 403, "forbidden")
	f.decide(t, "", r, "approve").Problem(t, 401, "unauthenticated")
	f.wantMerchant(t, 250_000, 0)

	f.decide(t, finance, r, "approve").Into(t, 201, &r)
	if r.Status != payment.Succeeded || r.DecidedBy == nil || *r.DecidedBy != approvedBy || *r.RequestedBy != askedBy || r.PointsBack != 2500 {
		t.Errorf("got %+v", r)
	}
	f.wantWallet(t, customer, 250_000, 0)
	f.wantMerchant(t, 0, 0)
	f.wantLedgerRight(t)
	f.decide(t, finance, r, "approve").Into(t, 201, &r) // as it stands
	f.decide(t, finance, r, "reject").Problem(t, 409, "illegal_state")
	f.get(t, finance, "/v1/refund-requests").Into(t, 200, &page)
	if len(page.Items) != 0 {
		t.Errorf("it still waits: %+v", page)
	}
}

// Whatever roles somebody has, what they asked for is decided on by another, and so is what would be theirs.
func TestRefund_nobodyIsBothPeople(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, _ := f.paid(t, 250_000)
	both := f.Token(t, uuid.New(), identity.Admin, identity.Support, identity.Finance)
	var r payment.RefundView
	f.ask(t, both, c.PaymentID, map[string]any{"reason": "for me"}).Into(t, 201, &r)
	for _, word := range []string{"approve", "reject"} {
		f.decide(t, both, r, word).Problem(t, 403, "not_your_own")
	}
	buyer := f.Token(t, c.UserID, identity.Customer, identity.Admin)
	f.decide(t, buyer, r, "approve").Problem(t, 403, "not_your_own")
	f.ask(t, buyer, c.PaymentID, map[string]any{"reason": "for me"}).Problem(t, 403, "not_for_yourself")
	f.ask(t, buyer, c.PaymentID, part(1)).Problem(t, 403, "not_for_yourself")
	f.wantMerchant(t, 250_000, 0)
	if err := f.db.Exec("UPDATE refund SET decided_by = actor, decided_at = now()").Error; err == nil || !strings.Contains(err.Error(), "check constraint") {
		t.Errorf("the database lets one person do both: %v", err)
	}
	f.decide(t, f.admin, r, "approve").Into(t, 201, nil)
	f.wantMerchant(t, 0, 0)
}

// Many small refunds are not a way round the limit.
func TestRefund_inPartsIsStillAboveTheLimit(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, _ := f.paid(t, 250_000)
	_, support := f.staff(t, identity.Support)
	var r payment.RefundView
	f.ask(t, support, c.PaymentID, part(60_000)).Into(t, 201, &r)
	if r.Status != payment.Succeeded {
		t.Errorf("below the limit: %+v", r)
	}
	f.ask(t, support, c.PaymentID, part(40_000)).Into(t, 201, &r)
	if r.Status != payment.Succeeded {
		t.Errorf("up to the limit: %+v", r)
	}
	f.ask(t, support, c.PaymentID, part(1)).Into(t, 201, &r)
	if r.Status != payment.Requested {
		t.Errorf("a cent above the limit: %+v", r)
	}
	f.wantMerchant(t, 150_000, 0)
}

func TestRefund_rejectedMovesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, _ := f.paid(t, 250_000)
	_, support := f.staff(t, identity.Support)
	rejectedBy, finance := f.staff(t, identity.Finance)
	var r payment.RefundView
	f.ask(t, support, c.PaymentID, part(200_000)).Into(t, 201, &r)
	f.decide(t, finance, r, "reject").Into(t, 200, &r)
	if r.Status != payment.Rejected || *r.DecidedBy != rejectedBy || r.SettledAt == nil {
		t.Errorf("got %+v", r)
	}
	for _, word := range []string{"approve", "reject"} {
		f.decide(t, finance, r, word).Problem(t, 409, "illegal_state")
	}
	f.wantMerchant(t, 250_000, 0)

	// A small one waits for nobody, so nobody approves it; one of another payment, or of none, is not there.
	var small payment.RefundView
	f.ask(t, support, c.PaymentID, part(100)).Into(t, 201, &small)
	f.decide(t, finance, small, "approve").Problem(t, 409, "illegal_state")
	for _, missing := range []payment.RefundView{{ID: uuid.New(), PaymentID: c.PaymentID}, {ID: r.ID, PaymentID: uuid.New()}} {
		f.decide(t, finance, missing, "approve").Problem(t, 404, "not_found")
	}
}

// An approval that cannot be carried out may be given again, and asking again is not approving.
func TestRefund_approvedAgainAfterItFailed(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, customer := f.paid(t, 250_000)
	_, support := f.staff(t, identity.Support)
	_, finance := f.staff(t, identity.Finance)
	ask := testkit.Request{Method: "POST", Path: "/v1/payments/" + c.PaymentID.String() + "/refunds", Token: support, Key: "ask", Body: part(200_000)}
	var r payment.RefundView
	f.Do(t, ask).Into(t, 201, &r)
	if err := f.db.Exec("UPDATE account SET available = available - 150000, held = held + 150000 WHERE kind = 'merchant'").Error; err != nil {
		t.Fatal(err)
	}
	f.decide(t, finance, r, "approve").Problem(t, 409, "insufficient_funds")
	if err := f.db.Exec("DELETE FROM idempotency_key").Error; err != nil { // the stored answer is forgotten after a day
		t.Fatal(err)
	}
	f.Do(t, ask).Into(t, 201, &r)
	if r.Status == payment.Succeeded {
		t.Errorf("asking again made it: %+v", r)
	}
	f.wantWallet(t, customer, 0, 0)
	if err := f.db.Exec("UPDATE account SET available = available + 150000, held = held - 150000 WHERE kind = 'merchant'").Error; err != nil {
		t.Fatal(err)
	}
	f.Do(t, ask).Into(t, 201, nil)
	f.wantWallet(t, customer, 0, 0)
	f.decide(t, finance, r, "approve").Into(t, 201, &r)
	if r.Status != payment.Succeeded {
		t.Errorf("got %+v", r)
	}
	f.wantWallet(t, customer, 200_000, 0)
	f.wantLedgerRight(t)
}

// Several who approve at once give the money back once.
func TestRefund_approvedByManyIsMadeOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, customer := f.paid(t, 250_000)
	_, support := f.staff(t, identity.Support)
	var r payment.RefundView
	f.ask(t, support, c.PaymentID, part(150_000)).Into(t, 201, &r)
	var wg sync.WaitGroup
	for range 6 {
		_, finance := f.staff(t, identity.Finance)
		wg.Go(func() { f.decide(t, finance, r, "approve") })
	}
	wg.Wait()
	f.decide(t, f.admin, r, "approve").Into(t, 201, &r)
	if r.Status != payment.Succeeded {
		t.Errorf("got %+v", r)
	}
	f.wantWallet(t, customer, 150_000, 0)
	f.wantMerchant(t, 100_000, 0)
	f.wantLedgerRight(t)
}
