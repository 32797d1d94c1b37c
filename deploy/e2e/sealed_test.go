package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"

	"github.com/google/uuid"
)

const (
	plantedNote   = "a surprise for planted grandmother"
	plantedIBAN   = "CH93 0076 2011 6238 5295 7"
	plantedStreet = "17 Planted Street"
)

// buyWithWords has p keep an address, and buy something with a word to the shop and one to the payment service alone.
func (p *person) buyWithWords(t *testing.T, productID uuid.UUID) order.Order {
	t.Helper()
	address := new(user.AddAddressInput)
	address.Body = user.AddressFields{Label: "Home", Recipient: "Planted Person", Line1: plantedStreet, City: "Plantedville", Country: "CH", Phone: "+41 61 555 99 17"}
	if _, err := user.AddAddress.Call(t.Context(), p.client, address); err != nil {
		t.Fatal(err)
	}
	in := new(order.PlaceInput)
	in.Body.Lines = []order.PlaceLine{{ProductID: productID, Quantity: 1}}
	in.Body.Note, in.Body.PayoutReference = plantedNote, plantedIBAN
	placed, err := order.Place.Call(t.Context(), p.client, in)
	if err != nil {
		t.Fatal(err)
	}
	paid, err := p.payUntilKnown(t, placed.Body.ID, uuid.NewString())
	if err != nil {
		t.Fatal(err)
	}
	return paid.Body
}

// Whoever has a dump of any database learns no password, no token, no card, and not who anybody is; what was written to the
// payment service alone, only that opens.
func TestSealed_aDumpTellsNothing(t *testing.T) {
	a := admin(t)
	p := customer(t, 100_00)
	paid := p.buyWithWords(t, a.goods(t, 10_00, 5))
	if paid.Note != plantedNote {
		t.Errorf("the note is %q", paid.Note)
	}
	d, err := payment.GetPayment.Call(t.Context(), p.client, &contract.ByID{ID: *paid.PaymentID})
	if err != nil || d.Body.PayoutReference != plantedIBAN {
		t.Errorf("the payment service reads %+v, %v", d, err)
	}
	secrets := []string{
		password, p.email, p.token, p.token[strings.LastIndexByte(p.token, '.')+1:], "4242424242424242", "alice@souk.example",
		plantedNote, plantedIBAN, plantedStreet, "Planted Person", "Plantedville", "+41 61 555 99 17",
	}
	for service := range databases(t) {
		dump, err := exec.CommandContext(t.Context(), "pg_dump", shop.Postgres.SuperuserURL(service)).Output()
		if err != nil || !bytes.Contains(dump, []byte("COPY public.")) {
			t.Fatalf("dump %s: %v", service, err)
		}
		for _, secret := range secrets {
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")} {
				if bytes.Contains(dump, []byte(form)) {
					t.Errorf("the database of %s has %q in it", service, form)
				}
			}
		}
	}
}

// The keys change while people sign in, look and buy, and none of them is turned away.
func TestSealed_keysChangeWhileTheShopSells(t *testing.T) {
	a := admin(t)
	goods := a.goods(t, 10_00, 1000)
	p := customer(t, 100_00)
	first := p.buyWithWords(t, goods)
	ctx, stop := context.WithCancel(t.Context())
	var did atomic.Int64
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				me, err := user.GetMe.Call(t.Context(), p.client, &contract.None{})
				if err != nil || me.Body.Email != p.email {
					t.Errorf("read oneself: %v", err)
				}
				o, err := order.Get.Call(t.Context(), p.client, &contract.ByID{ID: first.ID})
				if err != nil || o.Body.Note != plantedNote {
					t.Errorf("read an order: %v", err)
				}
				in := new(order.PlaceInput)
				in.Body.Lines, in.Body.Note = []order.PlaceLine{{ProductID: goods, Quantity: 1}}, plantedNote
				if _, err := order.Place.Call(t.Context(), p.client, in); err != nil {
					t.Errorf("place an order: %v", err)
				}
				did.Add(3)
			}
		})
	}
	for _, what := range []string{"check", "rotate", "rewrap", "rotate", "rewrap"} {
		var out bytes.Buffer
		if err := shop.Keys(t.Context(), what, &out); err != nil {
			t.Errorf("keys %s: %v\n%s", what, err, out.String())
		}
	}
	stop()
	crowd.Wait()
	var out bytes.Buffer
	if err := shop.Keys(t.Context(), "rewrap", &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := shop.Keys(t.Context(), "check", &out); err != nil || strings.Count(out.String(), "stale=0 broken=0") != 3 {
		t.Errorf("%v\n%s", err, out.String())
	}
	if n := did.Load(); n < 50 {
		t.Errorf("only %d things were done meanwhile", n)
	}
	t.Logf("%d requests while keys changed twice", did.Load())
}
