package order_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"souk/shared/contract/order"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func usd(minor int64) money.Money { return money.Money{Amount: minor, Currency: "USD"} }

func TestPlace_takesPricesFromTheCatalogueAndSumsLinesOfOneProduct(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cup, tea := s.sells("cup", 1999, "USD"), s.sells("tea", 350, "USD")
	answer := s.post(t, s.as(t, s.buyer), "/v1/orders", "", map[string]any{
		"lines": lines{{cup.ID, 2}, {tea.ID, 1}, {cup.ID, 3}}, "note": "no hurry",
	})
	var got order.Order
	answer.Into(t, http.StatusCreated, &got)

	want := order.Order{
		Brief: order.Brief{
			ID: got.ID, UserID: s.buyer, Status: order.Created, Total: usd(5*1999 + 350), Refunded: usd(0), Note: "no hurry",
			CreatedAt: got.CreatedAt, UpdatedAt: got.CreatedAt,
		},
		Lines: []order.Line{
			{ProductID: cup.ID, SKU: cup.SKU, Name: "cup", UnitPrice: usd(1999), Quantity: 5, Total: usd(9995)},
			{ProductID: tea.ID, SKU: tea.SKU, Name: "tea", UnitPrice: usd(350), Quantity: 1, Total: usd(350)},
		},
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("got, want:\n%s", d)
	}
	if l := answer.Header.Get("Location"); l != "/api/v1/orders/"+got.ID.String() {
		t.Errorf("Location is %q", l)
	}
	detail := s.now(t, got.ID)
	if d := cmp.Diff(detail.Order, want); d != "" {
		t.Errorf("the order read back: got, want:\n%s", d)
	}
	wantHistory := []order.Change{{
		To: order.Created, Actor: s.buyer.String(), RequestID: answer.Header.Get("X-Request-Id"), At: got.CreatedAt,
	}}
	if d := cmp.Diff(detail.History, wantHistory); d != "" {
		t.Errorf("history: got, want:\n%s", d)
	}
}

func TestPlace_keepsWhatWasOrderedWhateverBecomesOfTheProduct(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	offer := s.catalogue.offers[o.Lines[0].ProductID]
	offer.Name, offer.Price, offer.Archived = "mug", usd(1), true
	s.catalogue.set(offer)
	if d := cmp.Diff(s.now(t, o.ID).Order, o); d != "" {
		t.Errorf("got, want:\n%s", d)
	}
}

func TestPlace_refusesWhatCannotBeOrdered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cup, euro := s.sells("cup", 1999, "USD"), s.sells("euro", 100, "EUR")
	gone := s.sells("gone", 100, "USD")
	gone.Archived = true
	s.catalogue.set(gone)
	dear, dearest := s.sells("dear", 1_000_000_000_000, "USD"), s.sells("dearest", 1<<62, "USD")
	nonsense := s.sells("nonsense", -1, "USD")
	unknown := uuid.New()
	tooMany := make(lines, 101)
	for i := range tooMany {
		tooMany[i] = line{uuid.New(), 1}
	}
	t.Cleanup(func() { // when all of the cases are through
		for _, table := range []string{"orders", "order_line", "order_history", "idempotency_key"} {
			if n := s.count(t, table); n != 0 {
				t.Errorf("%d rows in %s, want none", n, table)
			}
		}
	})
	id := cup.ID.String()
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"a price":              {`{"lines":[{"product_id":"` + id + `","quantity":1,"price":{"amount":1,"currency":"USD"}}]}`, 422, "invalid"},
		"a total":              {`{"lines":[{"product_id":"` + id + `","quantity":1}],"total":1}`, 422, "invalid"},
		"an id of text":        {`{"lines":[{"product_id":"cup","quantity":1}]}`, 422, "invalid"},
		"quantity of text":     {`{"lines":[{"product_id":"` + id + `","quantity":"1"}]}`, 422, "invalid"},
		"no quantity":          {`{"lines":[{"product_id":"` + id + `"}]}`, 422, "invalid"},
		"negative":             {lines{{cup.ID, -1}}.body(), 422, "invalid"},
		"zero":                 {lines{{cup.ID, 0}}.body(), 422, "invalid"},
		"1e18":                 {`{"lines":[{"product_id":"` + id + `","quantity":1000000000000000000}]}`, 422, "invalid"},
		"1e18 in short":        {`{"lines":[{"product_id":"` + id + `","quantity":1e18}]}`, 422, "invalid"},
		"half":                 {`{"lines":[{"product_id":"` + id + `","quantity":0.5}]}`, 422, "invalid"},
		"1001 of one":          {lines{{cup.ID, 1001}}.body(), 422, "invalid"},
		"1001 in two lines":    {lines{{cup.ID, 1000}, {cup.ID, 1}}.body(), 422, "quantity_too_large"},
		"no lines":             {lines{}.body(), 422, "invalid"},
		"lines are null":       {`{"lines":null}`, 422, "invalid"},
		"no body":              {nil, 400, "malformed"},
		"101 lines":            {tooMany.body(), 422, "invalid"},
		"a long note":          {map[string]any{"lines": lines{{cup.ID, 1}}, "note": string(bytes.Repeat([]byte("a"), 501))}, 422, "invalid"},
		"an unknown product":   {lines{{cup.ID, 1}, {unknown, 1}}.body(), 422, "unknown_product"},
		"no product at all":    {lines{{uuid.Nil, 1}}.body(), 422, "unknown_product"},
		"an archived one":      {lines{{gone.ID, 1}}.body(), 422, "product_unavailable"},
		"two currencies":       {lines{{cup.ID, 1}, {euro.ID, 1}}.body(), 422, "currency_mismatch"},
		"an overflow":          {lines{{dearest.ID, 3}}.body(), 422, "amount_too_large"},
		"an overflowing sum":   {lines{{dearest.ID, 1}, {cup.ID, 1}, {s.sells("too", 1<<62, "USD").ID, 1}}.body(), 422, "amount_too_large"},
		"more than a trillion": {lines{{dear.ID, 2}}.body(), 422, "amount_too_large"},
		"a negative price":     {lines{{nonsense.ID, 1}}.body(), 502, "upstream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := s.post(t, s.as(t, s.buyer), "/v1/orders", "", c.body)
			answer.Problem(t, c.status, c.code)
			if c.code == "unknown_product" && name != "no product at all" && !bytes.Contains(answer.Body, []byte(unknown.String())) {
				t.Errorf("it does not say which product: %s", answer.Body)
			}
		})
	}
}

func TestPlace_isForCustomersWhoHaveSignedIn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := lines{{s.sells("cup", 1, "USD").ID, 1}}.body()
	s.post(t, "", "/v1/orders", "", body).Problem(t, 401, "unauthenticated")
	s.post(t, s.asAdmin(t), "/v1/orders", "", body).Problem(t, 403, "forbidden")
	s.post(t, s.Token(t, s.buyer, identity.Role("guest")), "/v1/orders", "", body).Problem(t, 403, "forbidden")
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/orders", Token: s.as(t, s.buyer), Body: body}).Problem(t, 400, "idempotency_key_required")
}

func TestPlace_saysWhenTheCatalogueIsAway(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := lines{{s.sells("cup", 1, "USD").ID, 1}}.body()
	s.catalogue.leave()
	s.post(t, s.as(t, s.buyer), "/v1/orders", "", body).Problem(t, 503, "unavailable")
}

// A repetition gets the stored answer, even when the same request would be refused by now.
func TestPlace_answersARepetitionWithTheSameOrder(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cup := s.sells("cup", 1999, "USD")
	body := lines{{cup.ID, 2}}.body()
	first := s.post(t, s.as(t, s.buyer), "/v1/orders", "k", body)
	first.Into(t, http.StatusCreated, nil)

	cup.Archived = true
	s.catalogue.set(cup)
	s.catalogue.leave()
	again := s.post(t, s.as(t, s.buyer), "/v1/orders", "k", body)
	if again.Status != first.Status || !bytes.Equal(again.Body, first.Body) || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("got %d %s, want %d %s", again.Status, again.Body, first.Status, first.Body)
	}
	s.post(t, s.as(t, s.buyer), "/v1/orders", "k", lines{{cup.ID, 3}}.body()).Problem(t, 422, "idempotency_key_reused")
	if n := s.count(t, "orders"); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

func TestPlace_makesOneOrderOfParallelRepetitions(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := lines{{s.sells("cup", 1999, "USD").ID, 2}}.body()
	answers := parallel(20, func(int) *testkit.Answer { return s.post(t, s.as(t, s.buyer), "/v1/orders", "k", body) })
	for _, a := range answers {
		if a.Status != http.StatusCreated || !bytes.Equal(a.Body, answers[0].Body) {
			t.Errorf("got %d %s, want 201 %s", a.Status, a.Body, answers[0].Body)
		}
	}
	if n := s.count(t, "orders"); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// parallel runs do n times at once.
func parallel[T any](n int, do func(i int) T) []T {
	out := make([]T, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			out[i] = do(i)
		})
	}
	close(start)
	all.Wait()
	return out
}
