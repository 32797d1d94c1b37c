package order_test

import (
	"net/http"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// scientist is a token of a data scientist.
func (s *shop) scientist(t *testing.T, location string, clearance int64, roles ...identity.Role) string {
	t.Helper()
	return s.TokenOf(t, identity.Principal{UserID: s.buyer, Roles: append(roles, identity.DataScientist), Location: location, Clearance: clearance})
}

// The buyer's own orders are in the report, and still it is not theirs to read: nobody overrides what is mandatory.
func TestReportCustomers_isForWhoIsClearedForIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.in(t, order.Paid)
	s.placed(t)
	const path = "/v1/orders/reports/customers"
	header := http.Header{"X-User-Location": {"HQ"}, "X-User-Clearance": {"9"}}
	for name, token := range map[string]string{
		"a customer": s.as(t, s.buyer), "an admin": s.asAdmin(t), "somewhere else": s.scientist(t, "Basel", 9),
		"nowhere": s.scientist(t, "", 9), "not cleared": s.scientist(t, "HQ", 1), "no clearance": s.scientist(t, "HQ", 0),
		"an owner who is not cleared": s.scientist(t, "HQ", 1, identity.Customer),
		"cleared without the role":    s.TokenOf(t, identity.Principal{UserID: uuid.New(), Roles: []identity.Role{identity.Customer}, Location: "HQ", Clearance: 9}),
	} {
		answer := s.Do(t, testkit.Request{Method: "GET", Path: path, Token: token, Header: header})
		if answer.Problem(t, 403, "forbidden"); t.Failed() {
			t.Fatal(name)
		}
	}
	var page contract.Page[order.CustomerReport]
	s.get(t, s.scientist(t, "HQ", 2), path).Into(t, 200, &page)
	want := order.CustomerReport{UserID: s.buyer, Orders: 2, Paid: money.Money{Amount: 3998, Currency: "USD"}, Refunded: money.Money{Currency: "USD"}}
	if len(page.Items) != 1 || page.Items[0] != want {
		t.Errorf("got %+v, want %+v", page.Items, want)
	}
	s.get(t, s.scientist(t, "HQ", 2), path+"?page_size=1&page_token="+page.NextPageToken).Into(t, 200, nil)
}
