package product_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"souk/services/product"
	shapes "souk/shared/contract"
	contract "souk/shared/contract/product"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

func TestNew_refusesACurrencyTheShopDoesNotTradeIn(t *testing.T) {
	t.Parallel()
	_, err := product.New(product.Config{Currency: "DOGE"}, product.Deps{Metrics: prometheus.NewRegistry()})
	if got := code(err); got != "unknown_currency" {
		t.Errorf("got %q, want unknown_currency", got)
	}
}

func TestCreateProduct(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := testkit.Request{Method: http.MethodPost, Path: "/v1/products", Token: b.admin, Key: "k1", Body: entry("LAM-1", "Brass lantern", 1999)}
	a := b.Do(t, r)
	var got contract.Product
	a.Into(t, http.StatusCreated, &got)
	want := contract.Product{
		ID: got.ID, SKU: "LAM-1", Name: "Brass lantern", Description: "A thing.", Category: "lamps", Price: usd(1999), Version: 1,
		CreatedAt: got.CreatedAt, UpdatedAt: got.CreatedAt,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, want := a.Header.Get("Location"), "/api/v1/products/"+got.ID.String(); got != want {
		t.Errorf("got Location %q, want %q", got, want)
	}
	if got := a.Header.Get("ETag"); got != `"1"` {
		t.Errorf("got ETag %s, want \"1\"", got)
	}

	again := b.Do(t, r)
	if string(again.Body) != string(a.Body) || again.Header.Get("ETag") != a.Header.Get("ETag") || again.Status != a.Status {
		t.Errorf("the repetition got %d %s, want %d %s", again.Status, again.Body, a.Status, a.Body)
	}
	if n := b.count(t, "product"); n != 1 {
		t.Errorf("got %d products, want 1", n)
	}

	var shown contract.Product
	a = b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products/" + got.ID.String()})
	a.Into(t, http.StatusOK, &shown)
	if d := cmp.Diff(want, shown); d != "" {
		t.Error(d)
	}
	if got := a.Header.Get("ETag"); got != `"1"` {
		t.Errorf("got ETag %s, want \"1\"", got)
	}
}

func TestCreateProduct_refusesWhatItCannotTake(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stocked(t, "LAM-1", 0)
	with := func(field string, value any) map[string]any {
		e := entry("LAM-2", "Lamp", 5)
		e[field] = value
		return e
	}
	price := func(amount any, currency string) map[string]any {
		return with("price", map[string]any{"amount": amount, "currency": currency})
	}
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"a SKU that is taken":      {with("sku", "LAM-1"), 409, "sku_taken"},
		"a SKU in small letters":   {with("sku", "lam-2"), 422, "invalid"},
		"an unknown category":      {with("category", "ghosts"), 422, "unknown_category"},
		"an unknown currency":      {price(5, "XXX"), 422, "unknown_currency"},
		"a negative price":         {price(-1, "USD"), 422, "invalid"},
		"a price beyond all":       {price(1e18, "USD"), 422, "invalid"},
		"a fraction of a cent":     {price(1.5, "USD"), 422, "invalid"},
		"an empty name":            {with("name", ""), 422, "invalid"},
		"a blank name":             {with("name", "  "), 422, "invalid"},
		"a name in two lines":      {with("name", "a\nb"), 422, "invalid"},
		"a NUL in the name":        {with("name", "a\x00b"), 422, "invalid"},
		"a NUL in the description": {with("description", "a\x00b"), 422, "invalid"},
		"a name too long":          {with("name", strings.Repeat("a", 121)), 422, "invalid"},
		"an unknown field":         {with("available", 5), 422, "invalid"},
		"no price":                 {map[string]any{"sku": "A", "name": "A", "category": "lamps"}, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.post(t, "/v1/products", c.body).Problem(t, c.status, c.code)
		})
	}
}

func TestRoutes_areForThoseWhoMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 3).String()
	customer := b.Token(t, uuid.New(), identity.Customer)
	for _, r := range []testkit.Request{
		{Method: http.MethodPost, Path: "/v1/products", Key: "k", Body: entry("LAM-2", "Lamp", 5)},
		{Method: http.MethodPatch, Path: "/v1/products/" + id, Body: map[string]any{"name": "Mine"}},
		{Method: http.MethodPost, Path: "/v1/products/" + id + "/archive", Key: "k"},
		{Method: http.MethodGet, Path: "/v1/products/" + id + "/history"},
		{Method: http.MethodGet, Path: "/v1/products/" + id + "/stock"},
		{Method: http.MethodPost, Path: "/v1/products/" + id + "/stock/adjustments", Key: "k", Body: map[string]any{"delta": 1, "reason": "r"}},
		{Method: http.MethodGet, Path: "/v1/products/" + id + "/stock/adjustments"},
		{Method: http.MethodGet, Path: "/v1/products/" + id + "/stock/adjustments/" + id},
		{Method: http.MethodPost, Path: "/v1/categories", Key: "k", Body: map[string]any{"slug": "a", "name": "A"}},
	} {
		t.Run(r.Method+" "+strings.ReplaceAll(r.Path, id, "id"), func(t *testing.T) {
			t.Parallel()
			b.Do(t, r).Problem(t, 401, "unauthenticated")
			r.Token = customer
			b.Do(t, r).Problem(t, 403, "forbidden")
			if r.Key != "" {
				r.Token, r.Key = b.admin, ""
				b.Do(t, r).Problem(t, 400, "idempotency_key_required")
			}
		})
	}
}

func TestMissingThings_areNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 1).String()
	other := b.stocked(t, "LAM-2", 1).String()
	var moves shapes.Page[contract.Movement]
	b.get(t, "/v1/products/"+other+"/stock/adjustments").Into(t, http.StatusOK, &moves)
	none := uuid.NewString()
	for name, a := range map[string]*testkit.Answer{
		"product":                     b.get(t, "/v1/products/"+none),
		"history":                     b.get(t, "/v1/products/"+none+"/history"),
		"stock":                       b.get(t, "/v1/products/"+none+"/stock"),
		"movements":                   b.get(t, "/v1/products/"+none+"/stock/adjustments"),
		"movement":                    b.get(t, "/v1/products/"+id+"/stock/adjustments/"+none),
		"a movement of another's":     b.get(t, "/v1/products/"+id+"/stock/adjustments/"+moves.Items[0].ID.String()),
		"adjustment":                  b.adjust(t, uuid.MustParse(none), 1),
		"adjustment that takes":       b.adjust(t, uuid.MustParse(none), -1),
		"archive":                     b.post(t, "/v1/products/"+none+"/archive", nil),
		"category":                    b.get(t, "/v1/categories/none"),
		"update of a missing product": b.patch(t, none, `"1"`, map[string]any{"name": "A"}),
	} {
		t.Run(name, func(t *testing.T) { a.Problem(t, 404, "not_found") })
	}
	b.get(t, "/v1/products/7").Problem(t, 422, "invalid")
}

func (b *bundle) patch(t *testing.T, id, ifMatch string, body any) *testkit.Answer {
	t.Helper()
	h := http.Header{}
	if ifMatch != "" {
		h.Set("If-Match", ifMatch)
	}
	return b.Do(t, testkit.Request{Method: http.MethodPatch, Path: "/v1/products/" + id, Token: b.admin, Header: h, Body: body})
}

func TestUpdateProduct_changesWhatIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post(t, "/v1/categories", map[string]any{"slug": "books", "name": "Books"}).Into(t, 201, nil)
	id := b.stocked(t, "LAM-1", 7)
	var before, after contract.Product
	b.get(t, "/v1/products/"+id.String()).Into(t, 200, &before)

	a := b.patch(t, id.String(), `"1"`, map[string]any{"name": "New name", "price": map[string]any{"amount": 0, "currency": "EUR"}})
	a.Into(t, 200, &after)
	want := before
	want.Name, want.Price.Amount, want.Price.Currency, want.Version = "New name", 0, "EUR", 2
	if d := cmp.Diff(want, after, cmpopts.IgnoreFields(contract.Product{}, "UpdatedAt")); d != "" {
		t.Error(d)
	}
	if !after.UpdatedAt.After(before.UpdatedAt) || a.Header.Get("ETag") != `"2"` {
		t.Errorf("got updated_at %s and ETag %s, want later than %s and \"2\"", after.UpdatedAt, a.Header.Get("ETag"), before.UpdatedAt)
	}
	// Everything else, an empty description included; and a bare version will do.
	b.patch(t, id.String(), "2", map[string]any{"description": "", "category": "books"}).Into(t, 200, &after)
	if after.Description != "" || after.Category != "books" || after.Name != "New name" || after.Version != 3 || after.Available != 7 {
		t.Errorf("got %+v", after)
	}

	var history shapes.Page[contract.Change]
	b.get(t, "/v1/products/"+id.String()+"/history?page_size=2").Into(t, 200, &history)
	if len(history.Items) != 2 || history.Items[0].Version != 3 || history.Items[0].Category != "books" || history.Items[1].Price.Currency != "EUR" ||
		history.Items[0].Change != "updated" || history.Items[0].Actor == nil || *history.Items[0].Actor != b.adminID || history.Items[0].RequestID == "" {
		t.Errorf("got %+v", history)
	}
	b.get(t, "/v1/products/"+id.String()+"/history?page_size=2&page_token="+history.NextPageToken).Into(t, 200, &history)
	if len(history.Items) != 1 || history.Items[0].Change != "created" || history.Items[0].Name != before.Name || history.NextPageToken != "" {
		t.Errorf("got %+v", history)
	}
}

func TestUpdateProduct_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 0).String()
	name := map[string]any{"name": "Other"}
	for what, c := range map[string]struct {
		ifMatch string
		body    any
		status  int
		code    string
	}{
		"no If-Match":         {"", name, 400, "if_match_required"},
		"an old version":      {`"0"`, name, 412, "version_mismatch"},
		"a version to come":   {`"2"`, name, 412, "version_mismatch"},
		"another's ETag":      {`"abc"`, name, 412, "version_mismatch"},
		"a weak ETag":         {`W/"1"`, name, 412, "version_mismatch"},
		"nothing to change":   {`"1"`, map[string]any{}, 422, "nothing_to_change"},
		"an unknown field":    {`"1"`, map[string]any{"sku": "LAM-9"}, 422, "invalid"},
		"an unknown category": {`"1"`, map[string]any{"category": "ghosts"}, 422, "unknown_category"},
		"an unknown currency": {`"1"`, map[string]any{"price": map[string]any{"amount": 1, "currency": "XXX"}}, 422, "unknown_currency"},
		"a negative price":    {`"1"`, map[string]any{"price": map[string]any{"amount": -1, "currency": "USD"}}, 422, "invalid"},
		"a null is nothing":   {`"1"`, map[string]any{"name": nil}, 422, "nothing_to_change"},
	} {
		t.Run(what, func(t *testing.T) { b.patch(t, id, c.ifMatch, c.body).Problem(t, c.status, c.code) })
	}
	var p contract.Product
	b.get(t, "/v1/products/"+id).Into(t, 200, &p)
	if p.Version != 1 || p.Name != "Lamp LAM-1" || b.count(t, "product_change") != 1 {
		t.Errorf("a refusal changed the product: %+v", p)
	}
}

// Of many who saw the same version, one changes it.
func TestUpdateProduct_oneOfManyWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 0).String()
	const people = 16
	statuses := make([]int, people)
	var wg sync.WaitGroup
	for i := range people {
		wg.Go(func() { statuses[i] = b.patch(t, id, `"1"`, map[string]any{"name": "Renamed"}).Status })
	}
	wg.Wait()
	won := 0
	for _, s := range statuses {
		switch s {
		case http.StatusOK:
			won++
		case http.StatusPreconditionFailed:
		default:
			t.Errorf("got status %d", s)
		}
	}
	if won != 1 || b.count(t, "product_change") != 2 {
		t.Errorf("%d won, and %d versions; want 1 and 2", won, b.count(t, "product_change"))
	}
}

func TestArchiveProduct(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 4).String()
	var p contract.Product
	a := b.post(t, "/v1/products/"+id+"/archive", nil)
	a.Into(t, 200, &p)
	if !p.Archived || p.Version != 2 || a.Header.Get("ETag") != `"2"` {
		t.Errorf("got %+v", p)
	}
	// It is out of the list, but can be shown to who ordered it once.
	var list shapes.Page[contract.Product]
	b.get(t, "/v1/products").Into(t, 200, &list)
	if len(list.Items) != 0 {
		t.Errorf("got %+v, want no products", list.Items)
	}
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products/" + id}).Into(t, 200, &p)
	if !p.Archived {
		t.Error("the product is shown as if it were sold")
	}
	b.post(t, "/v1/products/"+id+"/archive", nil).Problem(t, 409, "product_archived")
	b.patch(t, id, `"2"`, map[string]any{"name": "Other"}).Problem(t, 409, "product_archived")
	// What is left of it can still be counted.
	b.adjust(t, p.ID, -1).Into(t, 201, nil)
	var history shapes.Page[contract.Change]
	b.get(t, "/v1/products/"+id+"/history").Into(t, 200, &history)
	if len(history.Items) != 2 || history.Items[0].Change != "archived" {
		t.Errorf("got %+v", history.Items)
	}
}

func TestLookupProducts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.stocked(t, "LAM-1", 0), b.stocked(t, "LAM-2", 0)
	b.post(t, "/v1/products/"+two.String()+"/archive", nil).Into(t, 200, nil)

	client := testkit.Hosts{contract.Service: b.Handler()}.Client()
	out, err := contract.LookupProducts.Call(t.Context(), client, &contract.LookupInput{IDs: []uuid.UUID{two, uuid.New(), one, one}})
	if err != nil {
		t.Fatal(err)
	}
	want := []contract.Offer{
		{ID: one, SKU: "LAM-1", Name: "Lamp LAM-1", Price: usd(1999)},
		{ID: two, SKU: "LAM-2", Name: "Lamp LAM-2", Price: usd(1999), Archived: true},
	}
	if d := cmp.Diff(want, out.Body); d != "" {
		t.Error(d)
	}
	out, err = contract.LookupProducts.Call(t.Context(), client, &contract.LookupInput{IDs: []uuid.UUID{uuid.New()}})
	if err != nil || out.Body == nil || len(out.Body) != 0 {
		t.Errorf("got %v, %v; want an empty list", out, err)
	}
	many := make([]uuid.UUID, 100)
	for i := range many {
		many[i] = uuid.New()
	}
	if _, err := contract.LookupProducts.Call(t.Context(), client, &contract.LookupInput{IDs: many}); err != nil {
		t.Errorf("100 ids: %v", err)
	}
	for name, query := range map[string]string{
		"none": "", "an empty list": "?ids=", "no id": "?ids=7", "101": "?ids=" + strings.Repeat(uuid.NewString()+",", 100) + uuid.NewString(),
	} {
		t.Run(name, func(t *testing.T) {
			b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/internal/v1/products" + query}).Problem(t, 422, "invalid")
		})
	}
}
