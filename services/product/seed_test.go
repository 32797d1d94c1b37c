package product_test

import (
	"net/http"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/product"
	shapes "souk/shared/contract"
	contract "souk/shared/contract/product"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestSeed_twiceChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if n := b.count(t, "product"); n != 0 {
		t.Fatalf("%d products before anybody asked for any", n)
	}
	// Something of the shop's own has a SKU of the seed's already: it stays.
	own := b.stocked(t, "LAM-001", 3)
	if err := product.Seed(t.Context(), b.db, now()); err != nil {
		t.Fatal(err)
	}
	if products, categories := b.count(t, "product"), b.count(t, "category"); products < 60 || categories < 6 {
		t.Errorf("got %d products in %d categories, want at least 60 in 6", products, categories)
	}
	b.wantStock(t, own, 3, 0, 0)

	trunk := product.SeedID("HOM-011")
	b.wantStock(t, trunk, 1, 0, 0)
	b.finish(t, b.prepared(t, contract.ActionSell, uuid.New(), contract.Line{ProductID: trunk, Quantity: 1}), committed)

	state := func() (s string) {
		t.Helper()
		err := b.db.Raw(`SELECT concat((SELECT json_agg(p ORDER BY id) FROM product AS p), (SELECT json_agg(s ORDER BY product_id) FROM stock AS s),
			(SELECT json_agg(m ORDER BY seq) FROM stock_movement AS m), (SELECT json_agg(h ORDER BY product_id, version) FROM product_change AS h))`).Scan(&s).Error
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := state()
	errs := atOnce(4, func(int) error { return product.Seed(t.Context(), b.db, now().Add(time.Hour)) })
	if d := cmp.Diff(map[string]int{"": 4}, tally(errs)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(before, state()); d != "" {
		t.Error(d)
	}
	b.checkBooks(t)
}

// Every seeded thing can be sold, found, and told from the others.
func TestSeed_isAPleasantShop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := product.Seed(t.Context(), b.db, now()); err != nil {
		t.Fatal(err)
	}
	var all []contract.Product
	for token := ""; ; {
		var page shapes.Page[contract.Product]
		b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products?page_size=50&page_token=" + token}).Into(t, 200, &page)
		all = append(all, page.Items...)
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	named, told, perCategory := map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, p := range all {
		if named[p.Name] || told[p.Description] || len(p.Description) < 40 || p.Price.Currency != "USD" || p.Price.Amount < 100 || p.Available < 1 ||
			p.ID != product.SeedID(p.SKU) {
			t.Errorf("not a product to be proud of: %+v", p)
		}
		named[p.Name], told[p.Description] = true, true
		perCategory[p.Category]++
	}
	if len(all) < 60 || len(perCategory) < 6 {
		t.Errorf("got %d products in %v", len(all), perCategory)
	}
	for category, n := range perCategory {
		if n < 10 {
			t.Errorf("category %s has only %d products", category, n)
		}
	}
	var found shapes.Page[contract.Product]
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products?q=brass+lantern"}).Into(t, 200, &found)
	if len(found.Items) == 0 || found.Items[0].SKU != "LAM-001" {
		t.Errorf("a search for a brass lantern gives %+v", found.Items)
	}
}

// The schema itself refuses what the code must never do.
func TestSchema_holdsTheInvariants(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t, migrations.Product())
	id := uuid.New()
	for _, q := range []string{
		"INSERT INTO category VALUES ('lamps', 'Lamps', now())",
		"INSERT INTO product (id, sku, name, description, category, price_amount, price_currency, created_at, updated_at) VALUES ('" + id.String() +
			"', 'A', 'A', '', 'lamps', 1, 'USD', now(), now())",
		"INSERT INTO stock (product_id, available) VALUES ('" + id.String() + "', 1)",
	} {
		if err := db.Exec(q).Error; err != nil {
			t.Fatal(err)
		}
	}
	for name, q := range map[string]string{
		"available below zero": "UPDATE stock SET available = -1",
		"held below zero":      "UPDATE stock SET held = -1",
		"sold below zero":      "UPDATE stock SET sold = -1",
		"a negative price":     "UPDATE product SET price_amount = -1",
		"a second SKU": "INSERT INTO product (id, sku, name, description, category, price_amount, price_currency, created_at, updated_at) VALUES ('" +
			uuid.NewString() + "', 'A', 'A', '', 'lamps', 1, 'USD', now(), now())",
		"goods from nowhere in a sale": "INSERT INTO stock_movement (id, product_id, kind, step, available_change, held_change, sold_change, available_after, held_after, sold_after, gid, request_id, at) VALUES (gen_random_uuid(), '" +
			id.String() + "', 'sale', 'prepared', -1, 2, 0, 0, 2, 0, gen_random_uuid(), '', now())",
	} {
		t.Run(name, func(t *testing.T) {
			if err := db.Exec(q).Error; err == nil {
				t.Error("the schema let it pass")
			}
		})
	}
}
