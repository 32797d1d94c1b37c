package product_test

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	shapes "souk/shared/contract"
	contract "souk/shared/contract/product"
	"souk/shared/testkit"

	diff "github.com/google/go-cmp/cmp"
)

// bazaar is a shop in which every sort has ties to break.
func bazaar(t *testing.T) *bundle {
	t.Helper()
	b := setup(t)
	b.post(t, "/v1/categories", map[string]any{"slug": "books", "name": "Books"}).Into(t, 201, nil)
	for i, e := range []struct {
		name, description, category, currency string
		amount                                int64
	}{
		{"Brass lantern", "Throws stars on the ceiling.", "lamps", "USD", 500},
		{"Brass lantern", "A second of the same name.", "lamps", "USD", 500},
		{"paper lantern", "Light as a feather.", "lamps", "USD", 300},
		{"Oil lamp", "Burns for six hours; hang it beside a lantern.", "lamps", "EUR", 100},
		{"Atlas of stars", "Maps of the night sky.", "books", "USD", 0},
		{"The lantern bearers", "A novel.", "books", "EUR", 100},
		{"Zodiac", "A novel about stars.", "books", "JPY", 1200},
	} {
		b.post(t, "/v1/products", map[string]any{
			"sku": fmt.Sprintf("SKU-%d", i), "name": e.name, "description": e.description, "category": e.category,
			"price": map[string]any{"amount": e.amount, "currency": e.currency},
		}).Into(t, 201, nil)
	}
	return b
}

func (b *bundle) list(t *testing.T, query string) shapes.Page[contract.Product] {
	t.Helper()
	var page shapes.Page[contract.Product]
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products?" + query}).Into(t, http.StatusOK, &page)
	return page
}

func names(items []contract.Product) []string {
	out := make([]string, len(items))
	for i, p := range items {
		out[i] = p.SKU[4:] + " " + p.Name
	}
	return out
}

func TestListProducts_filters(t *testing.T) {
	t.Parallel()
	b := bazaar(t)
	for name, c := range map[string]struct {
		query string
		want  string // of the SKUs, in order of SKU
	}{
		"everything":                          {"", "0123456"},
		"a word in name or description":       {"q=lantern", "01235"},
		"its plural, as English has it":       {"q=lanterns", "01235"},
		"two words are both wanted":           {"q=brass+lantern", "01"},
		"a phrase":                            {"q=%22night+sky%22", "4"},
		"one word and not another":            {"q=lantern+-brass", "235"},
		"one word or another":                 {"q=zodiac+or+atlas", "46"},
		"a word that is nowhere":              {"q=submarine", ""},
		"a query of stop words":               {"q=the", ""},
		"a query of nothing but spaces":       {"q=+++", "0123456"},
		"SQL is only words":                   {"q=" + url.QueryEscape("'; DROP TABLE product; --"), ""},
		"a category":                          {"category=books", "456"},
		"an unknown category":                 {"category=ghosts", ""},
		"a currency":                          {"currency=EUR", "35"},
		"a range in the shop's currency":      {"min_price=300", "012"},
		"both ends are in the range":          {"min_price=300&max_price=500", "012"},
		"free things":                         {"max_price=0", "4"},
		"a range in another currency":         {"min_price=100&max_price=100&currency=EUR", "35"},
		"all of it together":                  {"q=lantern&category=lamps&max_price=499&sort=price", "2"},
		"a range of nothing":                  {"min_price=600", ""},
		"page_size is brought into its range": {"page_size=10000", "0123456"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := b.list(t, c.query)
			slices.SortFunc(page.Items, func(x, y contract.Product) int { return cmp.Compare(x.SKU, y.SKU) })
			got := ""
			for _, p := range page.Items {
				got += p.SKU[4:]
			}
			if got != c.want || page.NextPageToken != "" {
				t.Errorf("got %s and token %q, want %s and none", got, page.NextPageToken, c.want)
			}
		})
	}
}

func TestListProducts_sorts(t *testing.T) {
	t.Parallel()
	b := bazaar(t)
	for query, want := range map[string][]string{
		"":                                      {"6 Zodiac", "5 The lantern bearers", "4 Atlas of stars", "3 Oil lamp", "2 paper lantern", "1 Brass lantern", "0 Brass lantern"},
		"sort=newest":                           {"6 Zodiac", "5 The lantern bearers", "4 Atlas of stars", "3 Oil lamp", "2 paper lantern", "1 Brass lantern", "0 Brass lantern"},
		"sort=name":                             {"4 Atlas of stars", "0 Brass lantern", "1 Brass lantern", "3 Oil lamp", "2 paper lantern", "5 The lantern bearers", "6 Zodiac"},
		"sort=price":                            {"3 Oil lamp", "5 The lantern bearers", "6 Zodiac", "4 Atlas of stars", "2 paper lantern", "0 Brass lantern", "1 Brass lantern"},
		"sort=-price":                           {"1 Brass lantern", "0 Brass lantern", "2 paper lantern", "4 Atlas of stars", "6 Zodiac", "5 The lantern bearers", "3 Oil lamp"},
		"q=stars":                               {"4 Atlas of stars", "6 Zodiac", "0 Brass lantern"},
		"q=stars&sort=-price":                   {"0 Brass lantern", "4 Atlas of stars", "6 Zodiac"},
		"q=stars&sort=relevance&category=books": {"4 Atlas of stars", "6 Zodiac"},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			if d := diff.Diff(want, names(b.list(t, query).Items)); d != "" {
				t.Error(d)
			}
			// Leafing through gives the same, whatever the size of the pages.
			for size := 1; size <= 3; size++ {
				var got []string
				for token := ""; ; {
					page := b.list(t, fmt.Sprintf("%s&page_size=%d&page_token=%s", query, size, token))
					if len(page.Items) > size || len(page.Items) == 0 || len(got) > len(want) {
						t.Fatalf("a page of %d items after %d", len(page.Items), len(got))
					}
					got = append(got, names(page.Items)...)
					if token = page.NextPageToken; token == "" {
						break
					}
				}
				if d := diff.Diff(want, got); d != "" {
					t.Errorf("in pages of %d: %s", size, d)
				}
			}
		})
	}
}

// A page begins after the last item seen, not at a number: what is added meanwhile moves nothing.
func TestListProducts_pagesHoldStill(t *testing.T) {
	t.Parallel()
	b := bazaar(t)
	first := b.list(t, "page_size=3")
	b.stocked(t, "SKU-9", 1)
	second := b.list(t, "page_size=3&page_token="+first.NextPageToken)
	if d := diff.Diff([]string{"3 Oil lamp", "2 paper lantern", "1 Brass lantern"}, names(second.Items)); d != "" {
		t.Error(d)
	}
}

func TestListProducts_refuses(t *testing.T) {
	t.Parallel()
	b := bazaar(t)
	token := b.list(t, "page_size=1").NextPageToken
	forged := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	raw, err := base64.RawURLEncoding.DecodeString(b.list(t, "page_size=1&sort=name").NextPageToken)
	if err != nil {
		t.Fatal(err)
	}
	withNUL := forged(strings.Replace(string(raw), "atlas", `at\u0000las`, 1))
	for name, c := range map[string]struct {
		query  string
		status int
		code   string
	}{
		"an unknown sort":             {"sort=id", 422, "invalid"},
		"SQL in sort":                 {"sort=" + url.QueryEscape("price; DROP TABLE product"), 422, "invalid"},
		"relevance to nothing":        {"sort=relevance", 422, "nothing_to_match"},
		"relevance to spaces":         {"sort=relevance&q=+", 422, "nothing_to_match"},
		"an unknown currency":         {"currency=XXX", 422, "unknown_currency"},
		"a negative price":            {"min_price=-1", 422, "invalid"},
		"a price that is no number":   {"max_price=cheap", 422, "invalid"},
		"a price beyond all":          {"max_price=1000000000000000000", 422, "invalid"},
		"a range the wrong way round": {"min_price=2&max_price=1", 422, "empty_price_range"},
		"a query too long":            {"q=" + strings.Repeat("a", 201), 422, "invalid"},
		"a NUL in q":                  {"q=a%00b", 422, "invalid"},
		"q that is no UTF-8":          {"q=a%ffb", 422, "invalid"},
		"a category that is no slug":  {"category=A%00", 422, "invalid"},
		"a page size that is none":    {"page_size=many", 422, "invalid"},
		"no base64":                   {"page_token=!!!", 400, "invalid_page_token"},
		"no JSON":                     {"page_token=" + forged("{"), 400, "invalid_page_token"},
		"null":                        {"page_token=" + forged("null"), 400, "invalid_page_token"},
		"a token of another order":    {"sort=name&page_token=" + token, 400, "invalid_page_token"},
		"a token of another filter":   {"category=books&page_token=" + token, 400, "invalid_page_token"},
		"a token with a NUL in it":    {"sort=name&page_token=" + withNUL, 400, "invalid_page_token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products?" + c.query}).Problem(t, c.status, c.code)
		})
	}
}

func TestCategories(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.post(t, "/v1/categories", map[string]any{"slug": "books-and-paper", "name": "Books & paper"})
	var c contract.Category
	a.Into(t, 201, &c)
	if c.Slug != "books-and-paper" || c.Name != "Books & paper" || a.Header.Get("Location") != "/api/v1/categories/books-and-paper" {
		t.Errorf("got %+v at %s", c, a.Header.Get("Location"))
	}
	var got contract.Category
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/categories/books-and-paper"}).Into(t, 200, &got)
	if d := diff.Diff(c, got); d != "" {
		t.Error(d)
	}
	var page shapes.Page[contract.Category]
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/categories?page_size=1"}).Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].Slug != "books-and-paper" {
		t.Errorf("got %+v", page)
	}
	token := page.NextPageToken
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/categories?page_token=" + token}).Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].Slug != "lamps" || page.NextPageToken != "" {
		t.Errorf("got %+v", page)
	}
	b.Do(t, testkit.Request{Method: http.MethodGet, Path: "/v1/products?page_token=" + token}).Problem(t, 400, "invalid_page_token")
	b.post(t, "/v1/categories", map[string]any{"slug": "lamps", "name": "Lamps again"}).Problem(t, 409, "category_exists")
	for name, body := range map[string]any{
		"capital letters": map[string]any{"slug": "Lamps", "name": "Lamps"},
		"a double hyphen": map[string]any{"slug": "a--b", "name": "Lamps"},
		"no name":         map[string]any{"slug": "a"},
		"a blank name":    map[string]any{"slug": "a", "name": " "},
	} {
		t.Run(name, func(t *testing.T) { b.post(t, "/v1/categories", body).Problem(t, 422, "invalid") })
	}
	if n := b.count(t, "category"); n != 2 {
		t.Errorf("got %d categories, want 2", n)
	}
}
