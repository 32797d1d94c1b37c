package order_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"souk/shared/contract/order"
	"souk/shared/testkit"
)

// Every status and every action that a person can ask for: what is not in the table is refused, and changes nothing.
func TestMove_followsTheTransitionTable(t *testing.T) {
	t.Parallel()
	allowed := map[order.Status]map[string]order.Status{
		order.Created: {"cancel": order.Cancelled},
		order.Paid:    {"ship": order.Shipped},
		order.Shipped: {"deliver": order.Delivered},
	}
	for _, from := range []order.Status{
		order.Created, order.Paying, order.Paid, order.Shipped, order.Delivered, order.Cancelled, order.Refunded,
	} {
		t.Run(string(from), func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			for _, action := range []string{"cancel", "ship", "deliver"} {
				o := s.in(t, from)
				before := s.moves(t, o.ID)
				answer := s.post(t, s.asAdmin(t), "/v1/orders/"+o.ID.String()+"/"+action, "", nil)
				if to, ok := allowed[from][action]; ok {
					answer.Into(t, http.StatusOK, &o)
					s.wantMoves(t, o.ID, append(before, to)...)
					if last := s.now(t, o.ID).History[len(before)]; o.Status != to || last.From != from || last.Actor != s.admin.String() {
						t.Errorf("%s: got %s and history %+v", action, o.Status, last)
					}
					continue
				}
				answer.Problem(t, 409, "illegal_transition")
				if !bytes.Contains(answer.Body, []byte("that is "+string(from)+" cannot become ")) {
					t.Errorf("%s: it does not say from where to where: %s", action, answer.Body)
				}
				s.wantMoves(t, o.ID, before...)
			}
		})
	}
}

func TestCancel_isTheOwnersToo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	path := "/v1/orders/" + o.ID.String() + "/cancel"
	first := s.post(t, s.as(t, s.buyer), path, "k", nil)
	first.Into(t, http.StatusOK, &o)
	if o.Status != order.Cancelled || len(o.Lines) != 1 {
		t.Errorf("got %+v", o)
	}
	if again := s.post(t, s.as(t, s.buyer), path, "k", nil); !bytes.Equal(again.Body, first.Body) {
		t.Errorf("the repetition got %s, want %s", again.Body, first.Body)
	}
	s.wantMoves(t, o.ID, order.Created, order.Cancelled)
	s.Do(t, testkit.Request{Method: "POST", Path: path, Token: s.as(t, s.buyer)}).Problem(t, 400, "idempotency_key_required")
}

func TestShip_remembersHowTheOrderTravels(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.in(t, order.Paid)
	path := "/v1/orders/" + o.ID.String() + "/ship"
	s.post(t, s.as(t, s.buyer), path, "", nil).Problem(t, 403, "forbidden")
	s.post(t, s.asAdmin(t), path, "", `{"carrier":"a","price":1}`).Problem(t, 422, "invalid")
	s.post(t, s.asAdmin(t), path, "", order.Shipment{Carrier: strings.Repeat("a", 101)}).Problem(t, 422, "invalid")
	s.wantStatus(t, o.ID, order.Paid)

	s.post(t, s.asAdmin(t), path, "", order.Shipment{Carrier: "Swallow Post", Tracking: "SW1"}).Into(t, http.StatusOK, nil)
	if got := s.now(t, o.ID); got.Status != order.Shipped || got.Carrier != "Swallow Post" || got.Tracking != "SW1" {
		t.Errorf("got %+v", got.Brief)
	}
	s.post(t, s.as(t, s.buyer), "/v1/orders/"+o.ID.String()+"/deliver", "", nil).Problem(t, 403, "forbidden")
}
