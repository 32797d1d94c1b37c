package order_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"souk/migrations"
	service "souk/services/order"
	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/httpapi"
	"souk/shared/seal"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// payee gives the shop a payment service that has a letterbox, and the keys to open it.
func (s *shop) payee(t *testing.T) *seal.Letterbox {
	t.Helper()
	keys := seal.New(payment.Service, testkit.Postgres(t, migrations.Seal()), testkit.KEK(t))
	box := seal.NewLetterbox(keys, "payout")
	if err := keys.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	httpapi.Handle(s.siblings[payment.Service].server, payment.GetLetterbox, func(context.Context, *contract.None) (*contract.Body[payment.Letterbox], error) {
		address, err := box.Address()
		return &contract.Body[payment.Letterbox]{Body: payment.Letterbox{Address: address}}, err
	})
	return box
}

// What a customer writes is nowhere in the database in the clear, and what is for the payment service alone is nothing that
// the order service could open: it is carried in the checkout as it was written down.
func TestSealed_whatCustomersWrite(t *testing.T) {
	t.Parallel()
	s := setup(t)
	box := s.payee(t)
	const note, iban = "a surprise for Planted Person", "CH93 0076 2011 6238 5295 7"
	offer := s.sells("Bowl", 1999, "USD")
	token := s.Token(t, s.buyer, "customer")
	key := uuid.NewString()
	place := testkit.Request{Method: "POST", Path: "/v1/orders", Token: token, Key: key, Body: map[string]any{
		"lines": []map[string]any{{"product_id": offer.ID, "quantity": 1}}, "note": note, "payout_reference": iban,
	}}
	var placed, again order.Order
	s.Do(t, place).Into(t, 201, &placed)
	s.Do(t, place).Into(t, 201, &again)
	if placed.Note != note || again.ID != placed.ID || again.Note != note {
		t.Errorf("got %+v, and again %+v", placed, again)
	}
	var got order.Detail
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/orders/" + placed.ID.String(), Token: token}).Into(t, 200, &got)
	var list contract.Page[order.Brief]
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/orders", Token: token}).Into(t, 200, &list)
	if got.Note != note || len(list.Items) != 1 || list.Items[0].Note != note {
		t.Errorf("got %q and %+v", got.Note, list.Items)
	}
	answer := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/orders/" + placed.ID.String() + "/pay", Token: token, Key: uuid.NewString()})
	answer.Into(t, 200, nil)
	if bytes.Contains(answer.Body, []byte("CH93")) {
		t.Errorf("the answer tells the reference: %s", answer.Body)
	}

	var rows []string
	for _, table := range []string{"orders", "idempotency_key", "tx_branch", "order_history"} {
		var some []string
		if err := s.db.Raw("SELECT t::text FROM " + table + " t").Scan(&some).Error; err != nil {
			t.Fatal(err)
		}
		rows = append(rows, some...)
	}
	all := strings.Join(rows, "\n")
	for _, text := range []string{"Planted", "CH93"} {
		if strings.Contains(all, text) || strings.Contains(all, hex.EncodeToString([]byte(text))) {
			t.Errorf("%q is in the database", text)
		}
	}
	var letter []byte
	if err := s.db.Raw("SELECT payout_letter FROM orders WHERE id = ?", placed.ID).Row().Scan(&letter); err != nil {
		t.Fatal(err)
	}
	if text, err := box.Open(t.Context(), payment.AboutOrder(placed.ID), letter); err != nil || text != iban {
		t.Errorf("the payment service reads %q, %v", text, err)
	}
	if _, err := box.Open(t.Context(), payment.AboutOrder(uuid.New()), letter); err == nil {
		t.Error("the letter opens as another order's")
	}
}

// Without a letterbox to write to, nothing is placed; without anything to write, none is needed.
func TestSealed_aReferenceNeedsThePaymentService(t *testing.T) {
	t.Parallel()
	s := setup(t)
	offer := s.sells("Bowl", 1999, "USD")
	body := map[string]any{"lines": []map[string]any{{"product_id": offer.ID, "quantity": 1}}, "payout_reference": "CH93"}
	place := func() *testkit.Answer {
		return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/orders", Token: s.Token(t, s.buyer, "customer"), Key: uuid.NewString(), Body: body})
	}
	if a := place(); a.Status != 503 {
		t.Errorf("got %d %s", a.Status, a.Body)
	}
	delete(body, "payout_reference")
	place().Into(t, 201, nil)
}

func TestSealed_takesOverPlainNotes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := uuid.New()
	if err := s.db.Exec(`INSERT INTO orders (id, user_id, status, currency, total_minor, note, created_at, updated_at)
		VALUES (?, ?, 'created', 'USD', 100, 'an old note', now(), now())`, id, s.buyer).Error; err != nil {
		t.Fatal(err)
	}
	if _, err := service.New(t.Context(), service.Deps{
		DB: s.db, Keys: seal.New(order.Service, s.db, s.kek), Mesh: s.hosts.Client(), Log: s.Log, Metrics: prometheus.NewRegistry(), Now: time.Now,
	}); err != nil {
		t.Fatal(err)
	}
	var got order.Detail
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/orders/" + id.String(), Token: s.Token(t, s.buyer, "customer")}).Into(t, 200, &got)
	var plain string
	if err := s.db.Raw("SELECT note FROM orders WHERE id = ?", id).Row().Scan(&plain); err != nil || plain != "" || got.Note != "an old note" {
		t.Errorf("got %q, and %q is plain, %v", got.Note, plain, err)
	}
}
