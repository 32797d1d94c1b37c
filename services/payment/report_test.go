package payment_test

import (
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/identity"

	"github.com/google/uuid"
)

func TestReportDays_isForWhoIsClearedForIt(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, customer := f.paid(t, 5000)
	f.refund(t, c.PaymentID, "k", part(1000)).Into(t, 201, nil)
	scientist := func(location string, clearance int64) string {
		return f.TokenOf(t, identity.Principal{UserID: uuid.New(), Roles: []identity.Role{identity.DataScientist}, Location: location, Clearance: clearance})
	}
	const path = "/v1/payments/reports/days"
	for _, token := range []string{customer, f.admin, scientist("HQ", 0), scientist("Basel", 1), scientist("", 9)} {
		f.get(t, token, path).Problem(t, 403, "forbidden")
	}
	f.get(t, "", path).Problem(t, 401, "unauthenticated")
	var page contract.Page[payment.DayReport]
	f.get(t, scientist("HQ", 1), path).Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].Captured != usd(5000) || page.Items[0].Refunded != usd(1000) || page.Items[0].Payments != 1 {
		t.Errorf("got %+v", page)
	}
}
