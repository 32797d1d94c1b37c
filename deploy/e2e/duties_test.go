package e2e

import (
	"net/http"
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// staff is somebody new with these roles.
func staff(t *testing.T, boss *person, roles ...identity.Role) *person {
	t.Helper()
	p := register(t)
	p.give(t, boss, roles...)
	return p
}

// A large refund is asked for by one and made by another, in all services or in none.
func TestDuties_aLargeRefundTakesTwoPeople(t *testing.T) {
	boss, ann := admin(t), customer(t, 300_000)
	asks, approves := staff(t, boss, identity.Support), staff(t, boss, identity.Finance)
	vase := boss.goods(t, 250_000, 1)
	placed := ann.place(t, vase, 1)
	paid, err := ann.payUntilKnown(t, placed.ID, uuid.NewString())
	if err != nil {
		t.Fatal(err)
	}
	in := &payment.RefundInput{ByID: contract.ByID{ID: *paid.Body.PaymentID}}
	in.Body.Reason, in.Body.Restock = "it is the wrong blue", true
	asked, err := payment.RefundPayment.Call(t.Context(), asks.client, in)
	if err != nil || asked.Body.Status != payment.Requested {
		t.Fatalf("asked for: %+v, %v", asked, err)
	}
	this := &payment.RefundByID{ByID: in.ByID, RefundID: asked.Body.ID}
	for name, p := range map[string]*person{"who asked": asks, "the customer": ann} {
		if _, err := payment.ApproveRefund.Call(t.Context(), p.client, this); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s approves: %v", name, err)
		}
	}
	// Nor with all the roles that can be had at once: it is the person who counts.
	asks.give(t, boss, identity.Admin, identity.Support)
	if _, err := payment.ApproveRefund.Call(t.Context(), asks.client, this); !fault.HasCode(err, "not_your_own") {
		t.Errorf("who asked, an admin by now, approves: %v", err)
	}
	if got := ann.wallet(t); got.Available != usd(50_000) {
		t.Errorf("before anybody approved, the wallet has %+v", got)
	}
	done, err := payment.ApproveRefund.Call(t.Context(), approves.client, this)
	if err != nil || done.Body.Status != payment.Succeeded || *done.Body.DecidedBy != approves.id || *done.Body.RequestedBy != asks.id {
		t.Fatalf("approved: %+v, %v", done, err)
	}
	if got := ann.wallet(t); got.Available != usd(300_000) {
		t.Errorf("the wallet has %+v", got)
	}
	if got := ann.order(t, placed.ID); got.Status != order.Refunded {
		t.Errorf("the order is %s", got.Status)
	}
	if got := boss.stock(t, vase); got.Available != 1 {
		t.Errorf("the stock is %+v", got)
	}
	atRest(t)
}

// What is shared is seen until the owner takes it back; to everybody else it is not there.
func TestDuties_anOrderIsSharedAndTakenBack(t *testing.T) {
	boss, ann, friend, stranger := admin(t), customer(t, 0), register(t), register(t)
	placed := ann.place(t, boss.goods(t, 1000, 5), 1)
	get := func(p *person, id uuid.UUID) (int, string) {
		status, _, body := p.raw(t, http.MethodGet, "/api/v1/orders/"+id.String(), "", contract.RequestID, "same")
		text := strings.ReplaceAll(string(body), id.String(), "ID")
		if i := strings.Index(text, `"trace_id"`); i >= 0 { // each request has its own
			text = text[:i]
		}
		return status, text
	}
	share := &order.ShareInput{SharedWith: order.SharedWith{ByID: contract.ByID{ID: placed.ID}, UserID: friend.id}}
	share.Body.May = "read"
	if _, err := order.ShareOrder.Call(t.Context(), ann.client, share); err != nil {
		t.Fatal(err)
	}
	if status, body := get(friend, placed.ID); status != http.StatusOK {
		t.Errorf("the friend gets %d %s", status, body)
	}
	if _, err := order.Cancel.Call(t.Context(), friend.client, &contract.ByID{ID: placed.ID}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("the friend cancels: %v", err)
	}
	if _, err := order.UnshareOrder.Call(t.Context(), ann.client, &share.SharedWith); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*person{"the friend": friend, "a stranger": stranger} {
		status, there := get(p, placed.ID)
		_, missing := get(p, uuid.New())
		if status != http.StatusNotFound || there != missing {
			t.Errorf("%s: got %d %s, and for one that is not there %s", name, status, there, missing)
		}
	}
}

// Sensitive data is for whom their account clears, and no longer than it does: an old token is of no use.
func TestDuties_sensitiveDataFollowsTheAccount(t *testing.T) {
	boss := admin(t)
	p := staff(t, boss, identity.DataScientist)
	attributes := func(location string, clearance int64) {
		t.Helper()
		in := &user.SetAttributesInput{ByID: contract.ByID{ID: p.id}, Body: user.Attributes{Location: location, Clearance: clearance}}
		if _, err := user.SetAttributes.Call(t.Context(), boss.client, in); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() map[string]error {
		_, people := user.ExportPeople.Call(t.Context(), p.client, new(user.ExportInput))
		_, orders := order.ReportCustomers.Call(t.Context(), p.client, new(order.ReportInput))
		_, days := payment.ReportDays.Call(t.Context(), p.client, new(payment.ReportInput))
		return map[string]error{"export-people": people, "report-customers": orders, "report-days": days}
	}
	for _, c := range []struct {
		location  string
		clearance int64
		may       string
	}{
		{"", 0, ""},
		{"Basel", 9, ""},
		{"HQ", 0, ""},
		{"HQ", 1, "report-days"},
		{"HQ", 2, "report-days report-customers"},
		{"HQ", 3, "report-days report-customers export-people"},
	} {
		attributes(c.location, c.clearance)
		p.signIn(t, p.email, password)
		for what, err := range ask() {
			if may := strings.Contains(c.may, what); may != (err == nil) || !may && !fault.Is(err, fault.Forbidden) {
				t.Errorf("at %q with clearance %d, %s: %v", c.location, c.clearance, what, err)
			}
		}
	}
	attributes("Basel", 3) // the token still says HQ
	for what, err := range ask() {
		if !fault.HasCode(err, "token_revoked") {
			t.Errorf("with the token of before, %s: %v", what, err)
		}
	}
}
