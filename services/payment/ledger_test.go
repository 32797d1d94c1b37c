package payment_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/contract/payment"

	"github.com/google/uuid"
)

func marshal(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLedger_isHeldByTheDatabase tries, past all our code, what must never be.
func TestLedger_isHeldByTheDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c, _ := f.paid(t, 500)
	id, token := f.customer(t)
	f.fund(t, token, 100)
	const movement = `INSERT INTO movement (movement_id, kind, reference, request_id, created_at) VALUES ('00000000-0000-7000-8000-00000000000a', 'credit', gen_random_uuid(), '', now()); `
	entry := func(kind, owner, currency, amount string) string {
		return "INSERT INTO entry (movement_id, kind, owner, currency, amount) VALUES ('00000000-0000-7000-8000-00000000000a', '" +
			kind + "', '" + owner + "', '" + currency + "', " + amount + "); "
	}
	nobody := uuid.Nil.String()
	for name, sql := range map[string]string{
		"no entries":               movement,
		"one entry":                movement + entry("merchant", nobody, "USD", "1"),
		"unbalanced":               movement + entry("merchant", nobody, "USD", "1") + entry("wallet", id.String(), "USD", "-2"),
		"an entry of zero":         movement + entry("merchant", nobody, "USD", "0") + entry("wallet", id.String(), "USD", "0"),
		"no such account":          movement + entry("merchant", nobody, "EUR", "1") + entry("wallet", id.String(), "EUR", "-1"),
		"two currencies":           "INSERT INTO account (kind, currency) VALUES ('merchant', 'EUR'); " + movement + entry("merchant", nobody, "EUR", "1") + entry("wallet", id.String(), "USD", "-1"),
		"an entry more":            "INSERT INTO entry (movement_id, kind, owner, currency, amount) SELECT movement_id, kind, owner, currency, 1 FROM entry LIMIT 1",
		"another amount":           "UPDATE entry SET amount = amount * 2",
		"entries gone":             "DELETE FROM entry",
		"movements gone":           "DELETE FROM movement",
		"movements changed":        "UPDATE movement SET created_at = now()",
		"all gone":                 "TRUNCATE movement, entry",
		"history gone":             "DELETE FROM payment_move",
		"a wallet below zero":      "UPDATE account SET available = -1 WHERE kind = 'wallet'",
		"the merchant below zero":  "UPDATE account SET available = -1 WHERE kind = 'merchant'",
		"less than nothing held":   "UPDATE account SET held = -1 WHERE kind = 'clearing'",
		"a wallet of nobody":       "INSERT INTO account (kind, currency) VALUES ('wallet', 'USD')",
		"somebody's merchant":      "INSERT INTO account (kind, owner, currency) VALUES ('merchant', gen_random_uuid(), 'USD')",
		"a capture twice":          "INSERT INTO movement SELECT gen_random_uuid(), kind, reference, gid, request_id, now() FROM movement WHERE kind = 'capture'",
		"refunded more than taken": "UPDATE payment SET status = 'refunded', refunded = amount + 1",
		"refunded and captured":    "UPDATE payment SET refunded = 1",
		"an order paid twice":      "INSERT INTO payment SELECT gen_random_uuid(), gid, order_id, user_id, amount, currency, status, refunded, NULL, now(), now() FROM payment",
		"a whole card number":      "UPDATE top_up SET card_last4 = '" + good + "'",
	} {
		if err := f.db.Exec("DO $$ BEGIN " + strings.TrimSuffix(strings.TrimSpace(sql), ";") + "; SET CONSTRAINTS ALL IMMEDIATE; END $$").Error; err == nil {
			t.Errorf("%s: the database let it happen", name)
		}
	}
	if d := f.detail(t, c.PaymentID); d.Status != payment.Captured {
		t.Errorf("got %+v", d)
	}
	f.wantLedgerRight(t)

	// And the check would see it: a balance that entries do not explain.
	if err := f.db.Exec("UPDATE account SET available = available + 7 WHERE kind = 'wallet' AND owner = ?", id).Error; err != nil {
		t.Fatal(err)
	}
	var check payment.LedgerCheck
	f.get(t, f.admin, "/v1/ledger/check").Into(t, 200, &check)
	if want := (payment.CurrencyCheck{Currency: "USD", AccountsSum: 7, MismatchedAccounts: 1}); len(check.Currencies) != 1 || check.Currencies[0] != want {
		t.Errorf("got %+v, want %+v", check.Currencies, want)
	}
}

// TestLedger_sumsToZeroAfterAnything has workers do everything at once, in an order that the seed gives.
func TestLedger_sumsToZeroAfterAnything(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	seed := rand.Uint64() //nolint:gosec // dice, not secrets
	t.Logf("seed %d", seed)
	type buyer struct {
		id    uuid.UUID
		token string
	}
	buyers := make([]buyer, 3)
	for i := range buyers {
		buyers[i].id, buyers[i].token = f.customer(t)
	}
	var mu sync.Mutex
	var captured []payment.Charge
	const workers, steps = 6, 40
	parallel(workers, func(w int) {
		r := rand.New(rand.NewPCG(seed, uint64(w))) //nolint:gosec // dice, not secrets
		outcome := func() coordinator.State {
			if r.IntN(3) == 0 {
				return coordinator.Aborted
			}
			return coordinator.Committed
		}
		for range steps {
			b := buyers[r.IntN(len(buyers))]
			gid := uuid.New()
			switch r.IntN(5) {
			case 0:
				f.post(t, b.token, "/v1/wallets/USD/top-ups", topUpBody(usd(1+r.Int64N(500)), []string{good, declined}[r.IntN(2)]))
			case 1:
				c := payment.Credit{TransferID: uuid.New(), UserID: b.id, Points: 1 + r.Int64N(50)}
				c.Amount = usd(c.Points)
				if f.prepare(t, gid, payment.ActionCredit, c) == nil {
					f.finish(t, gid, outcome())
				}
			case 2, 3:
				c := chargeOf(b.id, 1+r.Int64N(300))
				if f.prepare(t, gid, payment.ActionCharge, c) != nil {
					continue
				}
				o := outcome()
				f.finish(t, gid, o)
				if o == coordinator.Committed {
					mu.Lock()
					captured = append(captured, c)
					mu.Unlock()
				}
			case 4:
				mu.Lock()
				if len(captured) == 0 {
					mu.Unlock()
					continue
				}
				c := captured[r.IntN(len(captured))]
				mu.Unlock()
				if f.prepare(t, gid, payment.ActionRefund, refundOf(c, 1+r.Int64N(c.Amount.Amount))) == nil {
					f.finish(t, gid, outcome())
				}
			}
		}
	})
	f.wantLedgerRight(t)
	for query, what := range map[string]string{
		"SELECT count(*) FROM account WHERE held <> 0":                            "accounts with something held",
		"SELECT count(*) FROM account WHERE available < 0 AND kind = 'wallet'":    "wallets below zero",
		"SELECT count(*) FROM payment WHERE status = 'authorized'":                "payments not settled",
		"SELECT count(*) FROM refund WHERE status NOT IN ('succeeded', 'failed')": "refunds not settled",
		"SELECT count(*) FROM tx_branch WHERE state = 'prepared'":                 "branches in doubt",
		"SELECT count(*) FROM tx_heuristic":                                       "contradictions",
	} {
		if n := f.count(t, query); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	if n := f.count(t, `SELECT count(*) FROM payment p WHERE refunded <> (SELECT coalesce(sum(amount), 0) FROM refund WHERE payment_id = p.id AND status = 'succeeded')`); n != 0 {
		t.Errorf("%d payments are refunded by something else than their refunds", n)
	}
	if n := f.count(t, "SELECT count(*) FROM movement WHERE kind = 'capture'"); n != len(captured) {
		t.Errorf("%d captures, want %d", n, len(captured))
	}
}

// pages gives the items of all pages of a list.
func pages[T any](t *testing.T, f *shop, token, path string) (items []T) {
	t.Helper()
	for next := ""; ; {
		var p contract.Page[T]
		f.get(t, token, path+"&page_token="+url.QueryEscape(next)).Into(t, 200, &p)
		items = append(items, p.Items...)
		if next = p.NextPageToken; next == "" {
			return items
		}
	}
}

func TestLedger_isListedInPagesToWhoManagesPayments(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for range 3 {
		f.paid(t, 100)
	}
	seen := pages[payment.Account](t, f, f.admin, "/v1/ledger/accounts?page_size=2")
	kinds := map[string]int{}
	for _, a := range seen {
		kinds[a.Kind]++
		if (a.UserID != nil) != (a.Kind == payment.KindWallet) {
			t.Errorf("got %+v", a)
		}
	}
	if kinds[payment.KindWallet] != 3 || kinds[payment.KindMerchant] != 1 || kinds[payment.KindClearing] != 1 || len(seen) != 5 {
		t.Errorf("got %v", kinds)
	}
	f.wantMerchant(t, 300, 0)

	_, token := f.customer(t)
	for path, want := range map[string]struct {
		token  string
		status int
		code   string
	}{
		"/v1/ledger/accounts":                  {token, 403, "forbidden"},
		"/v1/ledger/check":                     {token, 403, "forbidden"},
		"/v1/ledger/accounts?page_token=!":     {f.admin, 400, "invalid_page_token"},
		"/v1/ledger/accounts?kind=secret":      {f.admin, 422, "invalid"},
		"/v1/ledger/accounts?currency=XTS":     {f.admin, 422, "unknown_currency"},
		"/v1/wallets/usd":                      {token, 422, "unknown_currency"},
		"/v1/wallets/USD/entries?page_token=x": {token, 400, "invalid_page_token"},
		"/v1/wallets/XTS/entries":              {token, 422, "unknown_currency"},
		"/v1/payments?page_token=bm90IGpzb24":  {token, 400, "invalid_page_token"},
		"/v1/payments?order_id=drop":           {token, 422, "invalid"},
		"/v1/top-ups?page_token=e30.":          {token, 400, "invalid_page_token"},
		"/v1/wallets":                          {"", 401, "unauthenticated"},
		"/v1/payments/" + uuid.NewString():     {token, 404, "not_found"},
		"/v1/transfers/" + uuid.NewString():    {token, 404, "not_found"},
		"/v1/top-ups/not-an-id":                {token, 422, "invalid"},
	} {
		f.get(t, want.token, path).Problem(t, want.status, want.code)
	}
}

func TestWallets_listWhatIsMineInPages(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	_, other := f.customer(t)
	for i := range int64(5) {
		f.fund(t, token, i+1)
	}
	f.post(t, token, "/v1/wallets/EUR/top-ups", map[string]any{
		"amount": map[string]any{"amount": 9, "currency": "EUR"},
		"card":   map[string]any{"number": good, "exp_month": 1, "exp_year": 2090, "cvc": "1234"},
	}).Into(t, 201, nil)
	var wallets contract.Page[payment.Wallet]
	f.get(t, token, "/v1/wallets").Into(t, 200, &wallets)
	if len(wallets.Items) != 2 || wallets.Items[0].Currency != "EUR" || wallets.Items[1].Available != usd(15) || wallets.NextPageToken != "" {
		t.Errorf("got %+v", wallets)
	}
	f.get(t, other, "/v1/wallets").Into(t, 200, &wallets)
	if len(wallets.Items) != 0 {
		t.Errorf("got %+v, want none", wallets)
	}

	var amounts []int64
	for _, e := range pages[payment.Entry](t, f, token, "/v1/wallets/USD/entries?page_size=2") {
		amounts = append(amounts, e.Amount)
	}
	if len(amounts) != 5 || amounts[0] != 5 || amounts[4] != 1 {
		t.Errorf("got entries of %v, want 5 to 1", amounts)
	}
	var all contract.Page[payment.TopUp]
	f.get(t, token, "/v1/top-ups?page_size=10000").Into(t, 200, &all)
	if len(all.Items) != 6 {
		t.Errorf("got %d top-ups, want 6", len(all.Items))
	}
}
