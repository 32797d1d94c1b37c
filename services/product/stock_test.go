package product_test

import (
	"net/http"
	"sync"
	"testing"

	shapes "souk/shared/contract"
	contract "souk/shared/contract/product"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestAdjustStock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 0)
	path := "/v1/products/" + id.String() + "/stock/adjustments"
	r := testkit.Request{
		Method: http.MethodPost, Path: path, Token: b.admin, Key: "delivery", Body: map[string]any{"delta": 25, "reason": "delivery 4711"},
	}
	a := b.Do(t, r)
	var got contract.Movement
	a.Into(t, http.StatusCreated, &got)
	want := contract.Movement{
		ID: got.ID, ProductID: id, Kind: "adjustment", Change: contract.Counts{Available: 25}, After: contract.Counts{Available: 25},
		Reason: "delivery 4711", Actor: &b.adminID, RequestID: a.Header.Get("X-Request-Id"), At: got.At,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, want := a.Header.Get("Location"), "/api"+path+"/"+got.ID.String(); got != want {
		t.Errorf("got Location %s, want %s", got, want)
	}
	var found contract.Movement
	b.get(t, path+"/"+got.ID.String()).Into(t, 200, &found)
	if d := cmp.Diff(want, found); d != "" {
		t.Error(d)
	}

	// The repetition is not another delivery.
	if again := b.Do(t, r); string(again.Body) != string(a.Body) {
		t.Errorf("got %s, want %s", again.Body, a.Body)
	}
	b.adjust(t, id, -5).Into(t, 201, nil)
	if d := cmp.Diff(contract.Counts{Available: 20}, b.stock(t, id)); d != "" {
		t.Error(d)
	}
	var p contract.Product
	b.get(t, "/v1/products/"+id.String()).Into(t, 200, &p)
	if p.Available != 20 || p.Version != 1 {
		t.Errorf("got available %d at version %d, want 20 at 1", p.Available, p.Version)
	}

	b.adjust(t, id, -21).Problem(t, 409, "insufficient_stock")
	for name, body := range map[string]any{
		"zero":              map[string]any{"delta": 0, "reason": "r"},
		"too much":          map[string]any{"delta": 1_000_001, "reason": "r"},
		"too little":        map[string]any{"delta": -1_000_001, "reason": "r"},
		"1e18":              map[string]any{"delta": 1e18, "reason": "r"},
		"half":              map[string]any{"delta": 0.5, "reason": "r"},
		"no reason":         map[string]any{"delta": 1},
		"a blank reason":    map[string]any{"delta": 1, "reason": " "},
		"a NUL in reason":   map[string]any{"delta": 1, "reason": "a\x00b"},
		"an unknown field":  map[string]any{"delta": 1, "reason": "r", "sold": 1},
		"a text for number": map[string]any{"delta": "1", "reason": "r"},
	} {
		t.Run(name, func(t *testing.T) {
			want := "invalid"
			if name == "zero" {
				want = "zero_delta"
			}
			b.post(t, path, body).Problem(t, 422, want)
		})
	}
	if d := cmp.Diff(contract.Counts{Available: 20}, b.stock(t, id)); d != "" {
		t.Error(d)
	}
	b.checkBooks(t)
}

func TestListMovements_showsEverythingInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 10)
	order := uuid.New()
	sale := b.prepared(t, contract.ActionSell, order, contract.Line{ProductID: id, Quantity: 3})
	b.finish(t, sale, committed)
	back := b.prepared(t, contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 1})
	b.finish(t, back, aborted)

	var got []contract.Movement
	other := b.stocked(t, "LAM-2", 0).String()
	path := "/v1/products/" + id.String() + "/stock/adjustments?page_size=2&page_token="
	for token := ""; ; {
		var page shapes.Page[contract.Movement]
		b.get(t, path+token).Into(t, 200, &page)
		got = append(got, page.Items...)
		if token = page.NextPageToken; token == "" {
			break
		}
		b.get(t, "/v1/products/"+other+"/stock/adjustments?page_token="+token).Problem(t, 400, "invalid_page_token")
	}
	type line struct {
		kind, step    string
		change, after contract.Counts
		gid           uuid.UUID
	}
	var lines []line
	for _, m := range got {
		l := line{m.Kind, m.Step, m.Change, m.After, uuid.Nil}
		if m.GID != nil {
			l.gid = *m.GID
			if m.OrderID == nil || *m.OrderID != order {
				t.Errorf("got order %v, want %s", m.OrderID, order)
			}
		}
		lines = append(lines, l)
	}
	want := []line{
		{"restock", "aborted", contract.Counts{Held: -1, Sold: 1}, contract.Counts{Available: 7, Sold: 3}, back},
		{"restock", "prepared", contract.Counts{Held: 1, Sold: -1}, contract.Counts{Available: 7, Held: 1, Sold: 2}, back},
		{"sale", "committed", contract.Counts{Held: -3, Sold: 3}, contract.Counts{Available: 7, Sold: 3}, sale},
		{"sale", "prepared", contract.Counts{Available: -3, Held: 3}, contract.Counts{Available: 7, Held: 3}, sale},
		{"adjustment", "", contract.Counts{Available: 10}, contract.Counts{Available: 10}, uuid.Nil},
	}
	if d := cmp.Diff(want, lines, cmp.AllowUnexported(line{})); d != "" {
		t.Error(d)
	}
}

// Many take from one stock at once; no more is taken than there is.
func TestAdjustStock_manyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 7)
	const people = 20
	statuses := make([]int, people)
	var wg sync.WaitGroup
	for i := range people {
		wg.Go(func() { statuses[i] = b.adjust(t, id, -1).Status })
	}
	wg.Wait()
	took := 0
	for _, s := range statuses {
		switch s {
		case http.StatusCreated:
			took++
		case http.StatusConflict:
		default:
			t.Errorf("got status %d", s)
		}
	}
	if got := b.stock(t, id); took != 7 || got != (contract.Counts{}) {
		t.Errorf("%d took, %+v is left; want 7 and nothing", took, got)
	}
	b.checkBooks(t)
}

// The same adjustment sent many times at once is one.
func TestAdjustStock_sameKeyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 0)
	r := testkit.Request{
		Method: http.MethodPost, Path: "/v1/products/" + id.String() + "/stock/adjustments", Token: b.admin, Key: "one",
		Body: map[string]any{"delta": 4, "reason": "r"},
	}
	answers := make([]string, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = string(b.Do(t, r).Body) })
	}
	wg.Wait()
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("got %s and %s", a, answers[0])
		}
	}
	if got := b.stock(t, id); got.Available != 4 {
		t.Errorf("got %+v, want 4 available", got)
	}
}
