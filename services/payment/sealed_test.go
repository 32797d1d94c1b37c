package payment_test

import (
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/seal"

	"github.com/google/uuid"
)

// A payout reference is opened for who may see the payment, and lies in the database as it came.
func TestSealed_aLetterThatCameWithAnOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	id, token := f.customer(t)
	f.fund(t, token, 500)
	out, err := f.payment.Letterbox(t.Context(), &contract.None{})
	if err != nil {
		t.Fatal(err)
	}
	pay := func(about uuid.UUID, c payment.Charge) {
		t.Helper()
		if c.PayoutLetter, err = seal.Write(out.Body.Address, payment.AboutOrder(about), "CH93 0076"); err != nil {
			t.Fatal(err)
		}
		if err := f.prepare(t, uuid.New(), payment.ActionCharge, c); err != nil {
			t.Fatal(err)
		}
	}
	own := chargeOf(id, 100)
	pay(own.OrderID, own)
	if d := f.detail(t, own.PaymentID); d.PayoutReference != "CH93 0076" {
		t.Errorf("got %+v", d)
	}
	if strings.Contains(string(f.get(t, token, "/v1/payments").Body), "CH93") {
		t.Error("the list tells it too")
	}
	if n := f.count(t, "SELECT count(*) FROM payment p WHERE p::text LIKE '%CH93%' OR encode(payout_letter, 'escape') LIKE '%CH93%'"); n != 0 {
		t.Error("it is in the clear in the database")
	}

	other := chargeOf(id, 100)
	pay(own.OrderID, other) // another order's letter
	f.get(t, token, "/v1/payments/"+other.PaymentID.String()).Problem(t, 500, "internal")
}
