package payment_test

import (
	"net/http"
	"strings"
	"testing"

	"souk/shared/contract/coordinator"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/testkit"
)

func (f *shop) transfer(t *testing.T, token, key string, points int64, currency string) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "POST", Path: "/v1/transfers", Token: token, Key: key, Body: map[string]any{"points": points, "currency": currency}})
}

func TestTransfer_turnsPointsIntoMoney(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.coordinator.silent = true // the answer shows it all the same
	id, token := f.customer(t)
	_, other := f.customer(t)
	answers := make([]*testkit.Answer, 10)
	parallel(len(answers), func(i int) { answers[i] = f.transfer(t, token, "k", 250, "USD") })
	var made, shown payment.Transfer
	done := 0
	for _, a := range answers {
		if a.Status == 201 {
			done++
		} else {
			a.Problem(t, 409, "busy") // our own register does not make repetitions wait, as the real one does
		}
	}
	answer := f.transfer(t, token, "k", 250, "USD")
	answer.Into(t, 201, &made)
	if made.Points != 250 || made.Amount != usd(250) || made.Status != payment.Succeeded || made.SettledAt == nil || done == 0 {
		t.Errorf("got %+v, and %d of ten done", made, done)
	}
	f.wantWallet(t, token, 250, 0)
	actions, points := asked[user.Points](t, f.user)
	if want := (user.Points{UserID: id, Points: 250, Reference: made.ID.String()}); points[0] != want || actions[0] != user.ActionSpend {
		t.Errorf("the user was asked %v %+v, want %+v", actions, points, want)
	}
	path := strings.TrimPrefix(answer.Header.Get("Location"), "/api")
	f.get(t, token, path).Into(t, 200, &shown)
	if shown.ID != made.ID || shown.Status != made.Status {
		t.Errorf("at its location is %+v, want %+v", shown, made)
	}
	f.get(t, other, path).Problem(t, 404, "not_found")
	f.wantLedgerRight(t)
}

func TestTransfer_refusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	f.user.refuse(fault.New(fault.Conflict, "insufficient_points", "there are not so many points"))
	f.transfer(t, token, "a", 250, "USD").Problem(t, 409, "insufficient_points")
	f.transfer(t, token, "b", 0, "USD").Problem(t, 422, "invalid")
	f.transfer(t, token, "c", -1, "USD").Problem(t, 422, "invalid")
	f.transfer(t, token, "d", 1e18, "USD").Problem(t, 422, "invalid")
	f.transfer(t, token, "e", 1, "XTS").Problem(t, 422, "unknown_currency")
	f.transfer(t, f.admin, "f", 1, "USD").Problem(t, 403, "forbidden")
	f.wantWallet(t, token, 0, 0)
	if n := f.count(t, "SELECT count(*) FROM account"); n != 0 {
		t.Errorf("%d accounts, want none", n)
	}
}

func TestTransfer_whoseOutcomeIsNotKnown(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	f.coordinator.answer = func(do func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error) {
		do()
		panic(http.ErrAbortHandler)
	}
	var first, second payment.Transfer
	answer := f.transfer(t, token, "k", 250, "USD")
	answer.Into(t, 202, &first)
	if first.Status != payment.Pending || !strings.HasSuffix(answer.Header.Get("Location"), first.ID.String()) {
		t.Errorf("got %+v", first)
	}
	f.coordinator.answer = nil
	f.transfer(t, token, "k", 250, "USD").Into(t, 201, &second)
	if second.ID != first.ID || second.Status != payment.Succeeded {
		t.Errorf("the repetition got %+v, want %+v done", second, first)
	}
	f.wantWallet(t, token, 250, 0)
	f.wantLedgerRight(t)
}
