package payment_test

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	payments "souk/services/payment"
	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

func TestTopUp_movesMoneyFromTheCardIntoTheWallet(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	f.wantWallet(t, token, 0, 0)

	answer := f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(5000), good))
	var made, got payment.TopUp
	answer.Into(t, 201, &made)
	if made.Status != payment.Succeeded || made.Amount != usd(5000) || made.CardBrand != "visa" || made.CardLast4 != "4242" || made.SettledAt == nil {
		t.Errorf("got %+v", made)
	}
	location := answer.Header.Get("Location")
	f.get(t, token, strings.TrimPrefix(location, "/api")).Into(t, 200, &got)
	if location != "/api/v1/top-ups/"+made.ID.String() || got.ID != made.ID || got.Status != made.Status {
		t.Errorf("at %s is %+v, want %+v", location, got, made)
	}
	f.wantWallet(t, token, 5000, 0)
	f.wantLedgerRight(t)

	var entries contract.Page[payment.Entry]
	f.get(t, token, "/v1/wallets/USD/entries").Into(t, 200, &entries)
	if len(entries.Items) != 1 || entries.Items[0].Amount != 5000 || entries.Items[0].Kind != "top_up" || entries.Items[0].Reference != made.ID {
		t.Errorf("got entries %+v", entries.Items)
	}
}

func TestTopUp_declinedStaysToBeSeenAndMovesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	for _, card := range []string{declined, stranger} {
		f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(5000), card)).Problem(t, 409, "card_declined")
	}
	var list contract.Page[payment.TopUp]
	f.get(t, token, "/v1/top-ups").Into(t, 200, &list)
	if len(list.Items) != 2 {
		t.Fatalf("got %+v, want two failed top-ups", list.Items)
	}
	for _, item := range list.Items {
		var got payment.TopUp
		f.get(t, token, "/v1/top-ups/"+item.ID.String()).Into(t, 200, &got)
		if got.Status != payment.Failed || got.FailureCode != "card_declined" {
			t.Errorf("got %+v, want a failed top-up", got)
		}
	}
	f.wantWallet(t, token, 0, 0)
	if n := f.count(t, "SELECT count(*) FROM movement"); n != 0 {
		t.Errorf("%d movements, want none", n)
	}
}

func TestTopUp_refusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	change := func(amount money.Money, card string, edit func(card map[string]any)) map[string]any {
		b := topUpBody(amount, card)
		if edit != nil {
			edit(b["card"].(map[string]any))
		}
		return b
	}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
		code   string
	}{
		"check digit":      {"/v1/wallets/USD/top-ups", topUpBody(usd(1), "4242424242424241"), 422, "invalid_card"},
		"expired":          {"/v1/wallets/USD/top-ups", change(usd(1), good, func(c map[string]any) { c["exp_year"] = 2020 }), 422, "invalid_card"},
		"month":            {"/v1/wallets/USD/top-ups", change(usd(1), good, func(c map[string]any) { c["exp_month"] = 13 }), 422, "invalid"},
		"cvc":              {"/v1/wallets/USD/top-ups", change(usd(1), good, func(c map[string]any) { c["cvc"] = "12x" }), 422, "invalid"},
		"letters":          {"/v1/wallets/USD/top-ups", topUpBody(usd(1), "4242-4242-4242-4242"), 422, "invalid"},
		"unknown field":    {"/v1/wallets/USD/top-ups", change(usd(1), good, func(c map[string]any) { c["pin"] = "1234" }), 422, "invalid"},
		"zero":             {"/v1/wallets/USD/top-ups", topUpBody(usd(0), good), 422, "invalid_amount"},
		"negative":         {"/v1/wallets/USD/top-ups", topUpBody(usd(-5), good), 422, "invalid"},
		"too much":         {"/v1/wallets/USD/top-ups", topUpBody(usd(payment.MaxTopUp+1), good), 422, "invalid_amount"},
		"another currency": {"/v1/wallets/USD/top-ups", topUpBody(money.Money{Amount: 1, Currency: "EUR"}, good), 422, "currency_mismatch"},
		"foreign currency": {"/v1/wallets/XTS/top-ups", topUpBody(money.Money{Amount: 1, Currency: "XTS"}, good), 422, "unknown_currency"},
		"no body":          {"/v1/wallets/USD/top-ups", nil, 400, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := f.post(t, token, c.path, c.body)
			answer.Problem(t, c.status, c.code)
			if strings.Contains(string(answer.Body), "4242") || strings.Contains(string(answer.Body), "12x") {
				t.Errorf("the answer tells card data: %s", answer.Body)
			}
		})
	}
	t.Run("who", func(t *testing.T) {
		body := topUpBody(usd(1), good)
		f.post(t, "", "/v1/wallets/USD/top-ups", body).Problem(t, 401, "unauthenticated")
		f.post(t, f.admin, "/v1/wallets/USD/top-ups", body).Problem(t, 403, "forbidden")
		f.Do(t, testkit.Request{Method: "POST", Path: "/v1/wallets/USD/top-ups", Token: token, Body: body}).Problem(t, 400, "idempotency_key_required")
	})
	t.Cleanup(func() {
		if n := f.count(t, "SELECT (SELECT count(*) FROM top_up) + (SELECT count(*) FROM sandbox_charge) + (SELECT count(*) FROM account)"); n != 0 {
			t.Errorf("%d rows were written, want none", n)
		}
	})
}

func TestTopUp_aKeyChargesOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	answers := make([]*testkit.Answer, 20)
	parallel(len(answers), func(i int) {
		answers[i] = f.Do(t, testkit.Request{Method: "POST", Path: "/v1/wallets/USD/top-ups", Token: token, Key: "once", Body: topUpBody(usd(700), good)})
	})
	for _, a := range answers {
		if a.Status != 201 || string(a.Body) != string(answers[0].Body) {
			t.Errorf("got %d %s, want %d %s", a.Status, a.Body, answers[0].Status, answers[0].Body)
		}
	}
	f.wantWallet(t, token, 700, 0)
	f.Do(t, testkit.Request{Method: "POST", Path: "/v1/wallets/USD/top-ups", Token: token, Key: "once", Body: topUpBody(usd(701), good)}).
		Problem(t, 422, "idempotency_key_reused")

	// A refusal is not stored, but its top-up is there: the key cannot be used for another one.
	for _, want := range []struct {
		amount int64
		status int
		code   string
	}{{5, 409, "card_declined"}, {5, 409, "card_declined"}, {6, 422, "idempotency_key_reused"}} {
		f.Do(t, testkit.Request{Method: "POST", Path: "/v1/wallets/USD/top-ups", Token: token, Key: "twice", Body: topUpBody(usd(want.amount), declined)}).
			Problem(t, want.status, want.code)
	}
	if n := f.count(t, "SELECT count(*) FROM top_up"); n != 2 {
		t.Errorf("%d top-ups, want 2", n)
	}
}

func TestTopUp_lateCardIsCreditedOnceByItsWebhook(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	var made payment.TopUp
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(300), late)).Into(t, 201, &made)
	if made.Status != payment.Pending {
		t.Fatalf("got %+v, want pending", made)
	}
	send := func() {
		if err := f.sandbox.SendDue(t.Context()); err != nil {
			t.Errorf("send: %v", err)
		}
	}
	send()
	f.wantWallet(t, token, 0, 0) // it is not due yet

	// Twenty instances of the provider send the same event at once.
	f.clock.add(2 * time.Second)
	parallel(20, func(int) { send() })
	f.wantWallet(t, token, 300, 0)
	if n := f.count(t, "SELECT count(*) FROM sandbox_charge WHERE due_at IS NOT NULL"); n != 0 {
		t.Errorf("%d webhooks are not acknowledged", n)
	}
	f.wantLedgerRight(t)
}

func TestSandbox_sendsAWebhookUntilItIsAcknowledged(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(300), late)).Into(t, 201, nil)

	handler := f.mesh[payment.Service]
	delete(f.mesh, payment.Service)
	for range 3 {
		f.clock.add(time.Minute)
		if err := f.sandbox.SendDue(t.Context()); err == nil {
			t.Error("a webhook was acknowledged by nobody")
		}
	}
	f.wantWallet(t, token, 0, 0)

	// A sandbox that starts afresh goes on where the last one stopped.
	f.mesh[payment.Service] = handler
	restarted := payments.NewSandbox(payments.SandboxConfig{Secret: secret},
		payments.SandboxDeps{DB: f.db, Mesh: f.mesh.Client(), Now: f.clock.now, Log: f.Log})
	f.clock.add(time.Minute)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- restarted.Run(ctx) }()
	testkit.Eventually(t, 5*time.Second, func() bool { return f.count(t, "SELECT count(*) FROM movement") == 1 })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.wantWallet(t, token, 300, 0)
}

func TestReconcile_settlesWhatStaysPending(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	var quiet, slow, got payment.TopUp
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(100), silent)).Into(t, 201, &quiet)
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(200), late)).Into(t, 201, &slow)
	reconcile := func() {
		t.Helper()
		if err := f.payment.Reconcile(t.Context()); err != nil {
			t.Error(err)
		}
	}
	reconcile() // nothing is due
	if n := f.count(t, "SELECT count(*) FROM top_up WHERE status = 'pending'"); n != 2 {
		t.Fatalf("%d pending, want 2", n)
	}

	f.clock.add(time.Minute)
	parallel(5, func(int) { reconcile() })
	f.get(t, token, "/v1/top-ups/"+quiet.ID.String()).Into(t, 200, &got)
	if got.Status != payment.Failed || got.FailureCode != "timed_out" {
		t.Errorf("got %+v, want it timed out", got)
	}
	f.wantWallet(t, token, 0, 0) // the late one is still processing

	delete(f.mesh, payment.Service) // its webhook never arrives
	if err := f.sandbox.SendDue(t.Context()); err == nil {
		t.Error("the webhook was acknowledged by nobody")
	}
	f.clock.add(time.Minute)
	parallel(5, func(int) { reconcile() })
	f.wantWallet(t, token, 200, 0)
	f.wantLedgerRight(t)

	// What was recalled before it came can never be charged: the repeated request finds it failed.
	outcome, err := f.sandbox.Charge(t.Context(), quiet.ID, usd(100), payment.Card{Number: good})
	if err != nil || outcome != payments.Cancelled {
		t.Errorf("got %s %v, want the charge cancelled", outcome, err)
	}
}

// providerFuncs is a provider made of functions.
type providerFuncs struct {
	charge func(ctx context.Context) (payments.Outcome, error)
	recall func() (payments.Outcome, error)
}

func (p providerFuncs) Charge(ctx context.Context, _ uuid.UUID, _ money.Money, _ payment.Card) (payments.Outcome, error) {
	return p.charge(ctx)
}

func (p providerFuncs) Recall(context.Context, uuid.UUID) (payments.Outcome, error) {
	return p.recall()
}

func TestTopUp_isPendingWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	away := errors.New("connection reset")
	outcome := payments.Outcome("")
	f := setup(t, providerFuncs{
		charge: func(context.Context) (payments.Outcome, error) { return "", away },
		recall: func() (payments.Outcome, error) {
			if outcome == "" {
				return "", away
			}
			return outcome, nil
		},
	})
	_, token := f.customer(t)
	var made, got payment.TopUp
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(100), good)).Into(t, 201, &made)
	for _, step := range []struct {
		says payments.Outcome
		want string
	}{{"", payment.Pending}, {"what?", payment.Pending}, {payments.Processing, payment.Pending}, {payments.Declined, payment.Failed}, {payments.Succeeded, payment.Failed}} {
		outcome = step.says
		f.clock.add(time.Minute)
		if err := f.payment.Reconcile(t.Context()); err != nil {
			t.Error(err)
		}
		f.get(t, token, "/v1/top-ups/"+made.ID.String()).Into(t, 200, &got)
		if got.Status != step.want {
			t.Errorf("the provider says %q: got %s, want %s", step.says, got.Status, step.want)
		}
	}
	f.wantWallet(t, token, 0, 0)
}

// TestTopUp_isCreditedOnceHoweverManyTellOfIt has the answer, the webhooks and reconciliation arrive at the same time.
func TestTopUp_isCreditedOnceHoweverManyTellOfIt(t *testing.T) {
	t.Parallel()
	for range 3 {
		begun, all := make(chan struct{}), make(chan struct{})
		f := setup(t, providerFuncs{
			charge: func(context.Context) (payments.Outcome, error) {
				close(begun)
				<-all
				return payments.Succeeded, nil
			},
			recall: func() (payments.Outcome, error) { return payments.Succeeded, nil },
		})
		_, token := f.customer(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(100), good)).Into(t, 201, nil)
		})
		<-begun
		var id uuid.UUID
		if err := f.db.Raw("SELECT id FROM top_up").Row().Scan(&id); err != nil {
			t.Fatal(err)
		}
		f.clock.add(time.Minute)
		for range 4 {
			event := payment.Event{ID: uuid.New(), Type: payment.EventSucceeded, Reference: id, Amount: usd(100)}
			wg.Go(func() {
				<-all
				f.webhook(t, event, f.clock.now(), secret).Into(t, 200, nil)
			})
			wg.Go(func() {
				<-all
				if err := f.payment.Reconcile(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		close(all)
		wg.Wait()
		f.wantWallet(t, token, 100, 0)
		f.wantLedgerRight(t)
	}
}

func TestTopUp_isSeenByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	_, other := f.customer(t)
	f.fund(t, token, 100)
	var list contract.Page[payment.TopUp]
	f.get(t, token, "/v1/top-ups").Into(t, 200, &list)
	theirs := f.get(t, other, "/v1/top-ups/"+list.Items[0].ID.String())
	theirs.Problem(t, 404, "not_found")
	none := f.get(t, other, "/v1/top-ups/"+uuid.NewString())
	if a, b := anonymous(theirs), anonymous(none); a != b {
		t.Errorf("another's is %s, none is %s", a, b)
	}
	f.get(t, other, "/v1/top-ups").Into(t, 200, &list)
	if len(list.Items) != 0 {
		t.Errorf("another's list has %+v", list.Items)
	}
}

// TestTopUp_keepsNoCardData looks for the card in every table, and in the log of a whole server.
func TestTopUp_keepsNoCardData(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	key := newKey(t)
	f.Service = &testkit.Service{Server: httpapi.New(httpapi.Config{
		Service: "payment", Version: "test", Log: slog.New(slog.NewJSONHandler(f.log, nil)), Metrics: prometheus.NewRegistry(), Verifier: key.verifier(),
	}), Log: f.Log}
	f.payment.Routes(f.Server)
	token := key.token(t, identity.Customer)
	for _, number := range []string{good, declined, late, silent, stranger, "4242424242424241"} {
		f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(100), number))
	}
	f.post(t, token, "/v1/wallets/USD/top-ups", map[string]any{"card": good, "cvc": "987"})
	if !strings.Contains(f.log.String(), "/v1/wallets/{currency}/top-ups") {
		t.Fatalf("the log does not tell of the requests: %s", f.log)
	}

	seen := f.log.String()
	var tables []string
	if err := f.db.Raw("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").Scan(&tables).Error; err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		var rows []string
		if err := f.db.Raw("SELECT r::text FROM " + table + " r").Scan(&rows).Error; err != nil {
			t.Fatal(err)
		}
		seen += strings.Join(rows, "\n")
	}
	for _, number := range []string{good, declined, late, silent, stranger, `"987"`, "cvc"} {
		if strings.Contains(seen, number) || strings.Contains(seen, hex.EncodeToString([]byte(number))) {
			t.Errorf("%s is in a table or in the log", number)
		}
	}
	if !strings.Contains(seen, "4242") {
		t.Error("the last four digits are nowhere: did the test look?")
	}
}

func TestCard_hidesItself(t *testing.T) {
	t.Parallel()
	var log buffer
	card := payment.Card{Number: good, CVC: "987"}
	slog.New(slog.NewTextHandler(&log, nil)).Info("card", "card", card)
	for _, shown := range []string{log.String(), sprint("%v", card), sprint("%+v", card), sprint("%#v", card), sprint("%s", &card)} {
		if strings.Contains(shown, good) || strings.Contains(shown, "987") {
			t.Errorf("the card shows itself: %s", shown)
		}
	}
}
