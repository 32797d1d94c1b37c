package order_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func (s *shop) pay(t *testing.T, id uuid.UUID, key string) *testkit.Answer {
	t.Helper()
	return s.post(t, s.as(t, s.buyer), "/v1/orders/"+id.String()+"/pay", key, nil)
}

// wantPaid wants a 200 with the order paid, and the order to be so wherever one looks.
func (s *shop) wantPaid(t *testing.T, a *testkit.Answer) order.Order {
	t.Helper()
	var o order.Order
	a.Into(t, http.StatusOK, &o)
	if o.Status != order.Paid || o.PaymentID == nil || o.PaidAt == nil {
		t.Errorf("the answer is %s, want a paid order", a.Body)
	}
	if d := cmp.Diff(s.now(t, o.ID).Order, o); d != "" {
		t.Errorf("the order read back is not the answer: got, want:\n%s", d)
	}
	return o
}

func TestPay_settlesStockMoneyOrderAndPointsTogether(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	cup := o.Lines[0].ProductID
	o = s.wantPaid(t, s.pay(t, o.ID, ""))
	s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)

	begun := s.coordinator.transactions()
	if len(begun) != 1 || begun[0].TimeoutMS != 5000 {
		t.Fatalf("got transactions %+v, want one of 5 s", begun)
	}
	want := map[string]struct {
		action, key string
		payload     any
	}{
		"product": {"sell", o.ID.String(), product.Lines{OrderID: o.ID, Lines: []product.Line{{ProductID: cup, Quantity: 2}}}},
		"payment": {"charge", o.PaymentID.String(), payment.Charge{PaymentID: *o.PaymentID, OrderID: o.ID, UserID: s.buyer, Amount: usd(3998)}},
		"order":   {"pay", o.ID.String(), order.Pay{OrderID: o.ID, PaymentID: *o.PaymentID}},
		"user":    {"earn", s.buyer.String(), user.Points{UserID: s.buyer, Points: 39, Reference: "order " + o.ID.String()}},
	}
	if len(begun[0].Branches) != len(want) {
		t.Errorf("%d branches, want %d", len(begun[0].Branches), len(want))
	}
	for _, b := range begun[0].Branches {
		w := want[b.Service]
		payload, err := json.Marshal(w.payload)
		if err != nil {
			t.Fatal(err)
		}
		if b.Action != w.action || b.Key != w.key || !bytes.Equal(b.Payload, payload) {
			t.Errorf("branch %+v with %s, want %+v with %s", b, b.Payload, w, payload)
		}
	}
}

func TestPay_leavesOutWhatIsZero(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for name, c := range map[string]struct {
		price    int64
		services []string
	}{
		"no points below one unit": {99, []string{"product", "order", "payment"}},
		"nothing to pay":           {0, []string{"product", "order"}},
	} {
		var o order.Order
		s.post(t, s.as(t, s.buyer), "/v1/orders", "", lines{{s.sells("pin", c.price, "USD").ID, 1}}.body()).Into(t, http.StatusCreated, &o)
		s.pay(t, o.ID, "").Into(t, http.StatusOK, &o)
		begun := s.coordinator.transactions()
		var services []string
		for _, b := range begun[len(begun)-1].Branches {
			services = append(services, b.Service)
		}
		if d := cmp.Diff(services, c.services); d != "" || o.Status != order.Paid || (o.PaymentID == nil) != (c.price == 0) {
			t.Errorf("%s: order %+v by %v, want %v", name, o.Brief, services, c.services)
		}
	}
}

// Phase two may not have reached the order when the client is answered; the client reads its own writes nevertheless.
func TestPay_isPaidThoughTheDecisionHasNotReachedTheOrdersBranch(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.coordinator.is(func(c *settler) { c.undone = true })
	o := s.wantPaid(t, s.pay(t, s.placed(t).ID, ""))
	gid := s.coordinator.transactions()[0].GID

	// The message that comes late finds nothing to do.
	var branch int
	if err := s.db.Raw("SELECT branch FROM tx_branch WHERE gid = ?", gid).Scan(&branch).Error; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		state, err := s.order.Participant.Finish(t.Context(), twopc.Decision{GID: gid, Branch: branch, State: coordinator.Committed})
		if err != nil || state != twopc.Committed {
			t.Errorf("got %s, %v, want committed", state, err)
		}
	}
	if d := cmp.Diff(s.now(t, o.ID).Order, o); d != "" {
		t.Errorf("got, want:\n%s", d)
	}
	s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)

	// Nor does it disturb an order that has moved on since.
	moved := s.wantPaid(t, s.pay(t, s.placed(t).ID, ""))
	s.post(t, s.asAdmin(t), "/v1/orders/"+moved.ID.String()+"/ship", "", nil).Into(t, http.StatusOK, nil)
	gid = s.coordinator.transactions()[1].GID
	if state, err := s.order.Participant.Finish(t.Context(), twopc.Decision{GID: gid, Branch: branch, State: coordinator.Committed}); err != nil || state != twopc.Committed {
		t.Errorf("got %s, %v, want committed", state, err)
	}
	s.wantStatus(t, moved.ID, order.Shipped)
}

func TestPay_tellsWhichBranchRefused(t *testing.T) {
	t.Parallel()
	for service, no := range map[string]*fault.Error{
		product.Service: fault.New(fault.Conflict, "out_of_stock", "there is no cup left"),
		payment.Service: fault.New(fault.Conflict, "insufficient_funds", "your wallet holds 1.00 USD"),
	} {
		t.Run(no.Code, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			o := s.placed(t)
			s.siblings[service].says(no)
			for range 2 {
				answer := s.pay(t, o.ID, "k")
				answer.Problem(t, 409, no.Code)
				if !bytes.Contains(answer.Body, []byte(no.Message)) {
					t.Errorf("got %s, want the branch's own words", answer.Body)
				}
			}
			s.wantStatus(t, o.ID, order.Created)
			s.wantMoves(t, o.ID, order.Created, order.Paying, order.Created)
			if n := len(s.coordinator.transactions()); n != 1 {
				t.Errorf("%d transactions, want 1: the same key is the same checkout", n)
			}

			s.siblings[service].says(nil)
			s.wantPaid(t, s.pay(t, o.ID, "another-key"))
		})
	}
}

// Nothing has happened when a service was away, too busy or too late, and the same key tries again.
func TestPay_triesAgainAfterAPassingReason(t *testing.T) {
	t.Parallel()
	for _, no := range []*fault.Error{
		fault.New(fault.Unavailable, "unavailable", "the database is not available"),
		fault.New(fault.Conflict, "busy", "others are changing the same thing; try again"),
		fault.New(fault.Conflict, "deadline", "the transaction's deadline is over"),
	} {
		t.Run(no.Code, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			o := s.placed(t)
			s.siblings[user.Service].says(no)
			s.pay(t, o.ID, "k").Problem(t, no.Kind.Status(), no.Code)
			s.wantStatus(t, o.ID, order.Created)
			s.siblings[user.Service].says(nil)
			s.wantPaid(t, s.pay(t, o.ID, "k"))
			if n := len(s.coordinator.transactions()); n != 2 {
				t.Errorf("%d transactions, want 2", n)
			}
		})
	}
}

func TestPay_refusesWhatCannotBePaid(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, status := range []order.Status{order.Paying, order.Paid, order.Shipped, order.Delivered, order.Cancelled, order.Refunded} {
		o := s.in(t, status)
		before := len(s.coordinator.transactions())
		s.pay(t, o.ID, "").Problem(t, 409, "order_not_payable")
		s.wantStatus(t, o.ID, status)
		if after := len(s.coordinator.transactions()); after != before {
			t.Errorf("%s: a transaction was begun for nothing", status)
		}
	}
	path := "/v1/orders/" + s.placed(t).ID.String() + "/pay"
	s.Do(t, testkit.Request{Method: "POST", Path: path, Token: s.as(t, s.buyer)}).Problem(t, 400, "idempotency_key_required")
	s.post(t, s.asAdmin(t), path, "", nil).Problem(t, 403, "forbidden")
	s.post(t, "", path, "", nil).Problem(t, 401, "unauthenticated")
	s.post(t, s.Token(t, s.buyer, identity.Customer), "/v1/orders/x/pay", "", nil).Problem(t, 422, "invalid")
}

func TestPay_isOneCheckoutForParallelRepetitions(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"phase two in time": false, "phase two late": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.coordinator.is(func(c *settler) { c.undone = late })
			o := s.placed(t)
			answers := parallel(20, func(int) *testkit.Answer { return s.pay(t, o.ID, "k") })
			for _, a := range answers {
				if a.Status != http.StatusOK || !bytes.Equal(a.Body, answers[0].Body) {
					t.Errorf("got %d %s, want 200 %s", a.Status, a.Body, answers[0].Body)
				}
			}
			s.wantPaid(t, answers[0])
			s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)
			if n := len(s.coordinator.transactions()); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
		})
	}
}

func TestPay_isPaidOnceUnderManyKeys(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	paid := 0
	for _, a := range parallel(10, func(int) *testkit.Answer { return s.pay(t, o.ID, "") }) {
		if a.Status == http.StatusOK {
			paid++
			continue
		}
		a.Problem(t, 409, "order_not_payable")
	}
	if paid != 1 {
		t.Errorf("paid %d times, want once", paid)
	}
	s.wantStatus(t, o.ID, order.Paid)
	s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)
}

func TestPay_refusesAnotherKeyWhileItIsBeingPaid(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	var other, cancel *testkit.Answer
	s.coordinator.is(func(c *settler) {
		c.between = func() {
			s.wantStatus(t, o.ID, order.Paying)
			other = s.pay(t, o.ID, "another-key")
			cancel = s.post(t, s.as(t, s.buyer), "/v1/orders/"+o.ID.String()+"/cancel", "", nil)
		}
	})
	s.wantPaid(t, s.pay(t, o.ID, "k"))
	other.Problem(t, 409, "order_not_payable")
	cancel.Problem(t, 409, "illegal_transition")
}

func TestPay_answers202WhileTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm   func(*settler)
		mend   func(*settler)
		status order.Status // meanwhile
	}{
		"the coordinator is away": {
			func(c *settler) { c.away = true }, func(c *settler) { c.away = false }, order.Created,
		},
		"its answer is lost, and nobody has been told": {
			func(c *settler) { c.mute, c.undone = true, true }, func(c *settler) { c.mute = false }, order.Paying,
		},
		"its answer is lost": {
			func(c *settler) { c.mute = true }, func(c *settler) { c.mute = false }, order.Paid,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			o := s.placed(t)
			s.coordinator.is(c.harm)
			s.want202(t, s.pay(t, o.ID, "k"), o.ID, c.status)
			if c.status != order.Paid { // where it is paid already, the order itself tells the repetition
				s.want202(t, s.pay(t, o.ID, "k"), o.ID, c.status)
			}
			s.coordinator.is(c.mend)
			s.wantPaid(t, s.pay(t, o.ID, "k"))
			s.wantPaid(t, s.pay(t, o.ID, "k"))
			if n := len(s.coordinator.transactions()); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
			s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)
		})
	}
}

func (s *shop) want202(t *testing.T, a *testkit.Answer, id uuid.UUID, status order.Status) {
	t.Helper()
	var o order.Order
	a.Into(t, http.StatusAccepted, &o)
	if o.ID != id || o.Status != status || a.Header.Get("Location") != "/api/v1/orders/"+id.String() {
		t.Errorf("got %s at %q, want the order %s", a.Body, a.Header.Get("Location"), status)
	}
}

// The client's patience may end before the coordinator's; what it is told then is still not a guess.
func TestPay_answers202WhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	h := testkit.NewService(t, coordinator.Service)
	httpapi.Handle(h.Server, coordinator.BeginTransaction, func(ctx context.Context, _ *coordinator.BeginInput) (*coordinator.BeginOutput, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	s.hosts[coordinator.Service] = h.Handler()
	s.want202(t, s.Do(t, testkit.Request{
		Method: "POST", Path: "/v1/orders/" + o.ID.String() + "/pay", Token: s.as(t, s.buyer), Key: "k",
		Header: http.Header{httpapi.RequestTimeout: {"300"}},
	}), o.ID, order.Created)
}

func TestPay_orCancelWinsAndNeverBoth(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range 10 {
		o := s.placed(t)
		answers := parallel(2, func(i int) *testkit.Answer {
			if i == 0 {
				return s.pay(t, o.ID, "")
			}
			return s.post(t, s.as(t, s.buyer), "/v1/orders/"+o.ID.String()+"/cancel", "", nil)
		})
		pay, cancel := answers[0], answers[1]
		switch {
		case pay.Status == http.StatusOK:
			cancel.Problem(t, 409, "illegal_transition")
			s.wantMoves(t, o.ID, order.Created, order.Paying, order.Paid)
		case cancel.Status == http.StatusOK:
			pay.Problem(t, 409, "order_not_payable")
			s.wantMoves(t, o.ID, order.Created, order.Cancelled)
		default:
			t.Errorf("neither won: %s and %s", pay.Body, cancel.Body)
		}
	}
}

// A repetition whose stored answer was lost, in a crash say, finds what the first try has done.
func TestPay_findsItsOwnWorkWhenTheAnswerWasLost(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	s.wantPaid(t, s.pay(t, o.ID, "k"))
	if err := s.db.Exec("DELETE FROM idempotency_key").Error; err != nil {
		t.Fatal(err)
	}
	s.coordinator.is(func(c *settler) { c.away = true })
	s.wantPaid(t, s.pay(t, o.ID, "k"))

	if err := s.db.Exec("DELETE FROM idempotency_key").Error; err != nil {
		t.Fatal(err)
	}
	s.post(t, s.asAdmin(t), "/v1/orders/"+o.ID.String()+"/ship", "", nil).Into(t, http.StatusOK, nil)
	s.pay(t, o.ID, "k").Into(t, http.StatusOK, &o)
	if o.Status != order.Shipped {
		t.Errorf("got %s, want what is true by now: shipped", o.Status)
	}
}

// Nothing is charged for what costs nothing, so it is the order that must see to it that a key pays one order.
func TestPay_oneKeyPaysOneOrder(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gift := s.sells("sticker", 0, "USD")
	var first, second order.Order
	for _, o := range []*order.Order{&first, &second} {
		s.post(t, s.as(t, s.buyer), "/v1/orders", "", lines{{gift.ID, 1}}.body()).Into(t, http.StatusCreated, o)
	}
	var meanwhile *testkit.Answer
	s.coordinator.is(func(c *settler) {
		c.between = sync.OnceFunc(func() {
			s.coordinator.is(func(c *settler) { c.between = nil })
			meanwhile = s.pay(t, second.ID, "k")
		})
	})
	s.pay(t, first.ID, "k").Into(t, http.StatusOK, nil)
	meanwhile.Problem(t, 409, "order_not_payable")
	s.wantStatus(t, first.ID, order.Paid)
	s.wantStatus(t, second.ID, order.Created)
}
