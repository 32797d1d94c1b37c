package order_test

import (
	"encoding/json"
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/fault"
	"souk/shared/money"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

// part is the prepare message of the order's branch, the only one that these tests have.
func part(gid uuid.UUID, action string, payload any) twopc.Prepare {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	return twopc.Prepare{GID: gid, Branch: 2, Action: action, Payload: b, Deadline: time.Now().Add(time.Minute)}
}

func payPart(id, gid, payment uuid.UUID) twopc.Prepare {
	return part(gid, order.ActionPay, order.Pay{OrderID: id, PaymentID: payment})
}

func refundPart(id, gid uuid.UUID, amount money.Money, full bool) twopc.Prepare {
	return part(gid, order.ActionRefund, order.Refund{OrderID: id, RefundID: uuid.New(), Amount: amount, Full: full})
}

// finish tells the order's branch the outcome, and wants it carried out.
func (s *shop) finish(t *testing.T, gid uuid.UUID, outcome coordinator.State) {
	t.Helper()
	s.wantFinish(t, gid, outcome, twopc.BranchState(outcome))
}

func (s *shop) wantFinish(t *testing.T, gid uuid.UUID, outcome coordinator.State, want twopc.BranchState) {
	t.Helper()
	got, err := s.order.Participant.Finish(t.Context(), twopc.Decision{GID: gid, Branch: 2, State: outcome})
	if err != nil || got != want {
		t.Errorf("finish: got %s, %v, want %s", got, err, want)
	}
}

// prepare wants the branch's yes, or its no with the code.
func (s *shop) prepare(t *testing.T, m twopc.Prepare, code string) {
	t.Helper()
	state, err := s.order.Participant.Prepare(t.Context(), m)
	switch {
	case code == "" && (err != nil || state != twopc.Prepared):
		t.Errorf("got %s, %v, want yes", state, err)
	case code != "" && !(fault.Is(err, fault.Conflict) && fault.HasCode(err, code)):
		t.Errorf("got %s, %v, want no with code %s", state, err, code)
	}
}

func (s *shop) wantStatus(t *testing.T, id uuid.UUID, want order.Status) {
	t.Helper()
	if got := s.now(t, id).Status; got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
}

func TestPayBranch_holdsTheOrderAndPaysItOnCommit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o, gid, payment := s.placed(t), uuid.New(), uuid.New()
	m := payPart(o.ID, gid, payment)
	for range 2 { // a repetition changes nothing and has the same answer
		s.prepare(t, m, "")
		s.wantStatus(t, o.ID, order.Paying)
	}
	for range 2 {
		s.finish(t, gid, coordinator.Committed)
	}
	got := s.now(t, o.ID)
	if got.Status != order.Paid || got.PaidAt == nil || got.PaymentID == nil || *got.PaymentID != payment {
		t.Errorf("got %+v, want it paid by %s", got.Brief, payment)
	}
	s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)
	for i, actor := range []string{s.buyer.String(), coordinator.Service} {
		if c := got.History[i+1]; c.Actor != actor || c.GID == nil || *c.GID != gid {
			t.Errorf("history line %d is %+v, want actor %s and gid %s", i+1, c, actor, gid)
		}
	}
	s.wantFinish(t, gid, coordinator.Aborted, twopc.Refused)
	s.wantStatus(t, o.ID, order.Paid)
}

func TestPayBranch_givesTheOrderBackOnAbort(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o, gid := s.placed(t), uuid.New()
	s.prepare(t, payPart(o.ID, gid, uuid.New()), "")
	for range 2 {
		s.finish(t, gid, coordinator.Aborted)
	}
	if got := s.now(t, o.ID); got.Status != order.Created || got.PaymentID != nil || got.PaidAt != nil {
		t.Errorf("got %+v, want it as it was placed", got.Brief)
	}
	s.wantMoves(t, o.ID, order.Created, order.Paying, order.Created)
	s.wantFinish(t, gid, coordinator.Committed, twopc.Refused)

	s.prepare(t, payPart(o.ID, uuid.New(), uuid.New()), "") // it can be paid by another transaction
}

func TestPayBranch_refusesAPrepareThatComesAfterItsAbort(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o, gid := s.placed(t), uuid.New()
	s.finish(t, gid, coordinator.Aborted)
	s.prepare(t, payPart(o.ID, gid, uuid.New()), "aborted")
	s.wantStatus(t, o.ID, order.Created)
}

func TestPayBranch_saysNoToWhatCannotBePaid(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, status := range []order.Status{order.Paying, order.Paid, order.Shipped, order.Delivered, order.Cancelled, order.Refunded} {
		o := s.in(t, status)
		m := payPart(o.ID, uuid.New(), uuid.New())
		s.prepare(t, m, "order_not_payable")
		s.prepare(t, m, "order_not_payable")
		s.finish(t, m.GID, coordinator.Aborted)
		s.wantStatus(t, o.ID, status)
	}
	s.prepare(t, payPart(uuid.New(), uuid.New(), uuid.New()), "order_not_payable")
}

// A request whose first transaction was aborted for a passing reason begins another; the abort may come late.
func TestPayBranch_isBusyUntilTheLastTryOfTheSamePaymentIsUndone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o, payment, first := s.placed(t), uuid.New(), uuid.New()
	s.prepare(t, payPart(o.ID, first, payment), "")
	s.prepare(t, payPart(o.ID, uuid.New(), payment), "busy")
	s.finish(t, first, coordinator.Aborted)
	s.prepare(t, payPart(o.ID, uuid.New(), payment), "")
}

func TestPayBranch_isPaidByOneOfManyTransactions(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	errs := parallel(10, func(int) error {
		_, err := s.order.Participant.Prepare(t.Context(), payPart(o.ID, uuid.New(), uuid.New()))
		return err
	})
	wantOne(t, errs, "order_not_payable")
	s.wantMoves(t, o.ID, order.Created, order.Paying)
}

// wantOne wants one success, and everything else refused with the code.
func wantOne(t *testing.T, errs []error, code string) {
	t.Helper()
	yes := 0
	for _, err := range errs {
		if err == nil {
			yes++
		} else if !fault.HasCode(err, code) {
			t.Errorf("got %v, want code %s", err, code)
		}
	}
	if yes != 1 {
		t.Errorf("%d were successful, want 1", yes)
	}
}

func TestPayBranch_learnsTheOutcomeThatNobodyToldIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o, gid := s.placed(t), uuid.New()
	s.prepare(t, payPart(o.ID, gid, uuid.New()), "")
	f := &flight{outcome: coordinator.Outcome{GID: gid, State: coordinator.Committed}, finished: true}
	s.coordinator.is(func(c *settler) { c.flights[gid] = f })
	// As if it had waited longer than the participant's patience.
	if err := s.db.Exec("UPDATE tx_branch SET prepared_at = now() - interval '1 minute'").Error; err != nil {
		t.Fatal(err)
	}
	if err := s.order.Participant.Inquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantStatus(t, o.ID, order.Paid)
}

func TestRefundBranch_givesBackInPartsUntilTheOrderIsRefunded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.in(t, order.Delivered) // 39.98
	refund := func(minor int64, full bool, outcome coordinator.State) {
		t.Helper()
		m := refundPart(o.ID, uuid.New(), usd(minor), full)
		s.prepare(t, m, "")
		s.prepare(t, m, "")
		s.finish(t, m.GID, outcome)
		s.finish(t, m.GID, outcome)
	}
	want := func(status order.Status, refunded int64) {
		t.Helper()
		if got := s.now(t, o.ID); got.Status != status || got.Refunded != usd(refunded) {
			t.Errorf("it is %s with %s refunded, want %s with %s", got.Status, got.Refunded, status, usd(refunded))
		}
	}
	refund(1000, false, coordinator.Committed)
	want(order.Delivered, 1000)
	refund(2998, true, coordinator.Aborted)
	want(order.Delivered, 1000)
	refund(2998, true, coordinator.Committed)
	want(order.Refunded, 3998)

	history := s.now(t, o.ID).History
	part, last := history[len(history)-2], history[len(history)-1]
	if part.From != order.Delivered || part.To != order.Delivered || part.Note != "refunded 10.00 USD" || part.Actor != "payment" {
		t.Errorf("the history tells of the first part as %+v", part)
	}
	if last.From != order.Delivered || last.To != order.Refunded || last.Note != "refunded 29.98 USD" || last.GID == nil {
		t.Errorf("the history tells of the last part as %+v", last)
	}
}

func TestRefundBranch_saysNoToWhatCannotBeRefunded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, status := range []order.Status{order.Created, order.Paying, order.Cancelled, order.Refunded} {
		o := s.in(t, status)
		s.prepare(t, refundPart(o.ID, uuid.New(), usd(1), false), "order_not_refundable")
		s.wantStatus(t, o.ID, status)
	}
	s.prepare(t, refundPart(uuid.New(), uuid.New(), usd(1), false), "order_not_refundable")

	o := s.in(t, order.Paid)
	s.prepare(t, refundPart(o.ID, uuid.New(), money.Money{Amount: 1, Currency: "EUR"}, false), "currency_mismatch")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(3999), false), "refund_too_large")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(1<<62), false), "refund_too_large")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(0), false), "refund_too_small")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(-5), false), "refund_too_small")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(1), true), "refund_not_full")
}

func TestRefundBranch_countsWhatIsNotDecidedYet(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.in(t, order.Paid)
	half := refundPart(o.ID, uuid.New(), usd(1999), false)
	s.prepare(t, half, "")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(2000), false), "refund_in_progress")
	s.prepare(t, refundPart(o.ID, uuid.New(), usd(1999), true), "refund_in_progress")
	otherHalf := refundPart(o.ID, uuid.New(), usd(1999), false)
	s.prepare(t, otherHalf, "")

	// Both halves are all of it, though neither knew: the goods stay here, and it ends refunded.
	s.post(t, s.asAdmin(t), "/v1/orders/"+o.ID.String()+"/ship", "", nil).Problem(t, 409, "refund_in_progress")
	s.finish(t, half.GID, coordinator.Committed)
	s.wantStatus(t, o.ID, order.Paid)
	s.finish(t, otherHalf.GID, coordinator.Committed)
	s.wantStatus(t, o.ID, order.Refunded)
}

func TestRefundBranch_isNeverFullTwice(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.in(t, order.Paid)
	errs := parallel(10, func(int) error {
		_, err := s.order.Participant.Prepare(t.Context(), refundPart(o.ID, uuid.New(), usd(3998), true))
		return err
	})
	wantOne(t, errs, "refund_in_progress")
}
