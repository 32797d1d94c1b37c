package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"souk/shared/contract"

	"github.com/google/uuid"
)

// raw sends a request as it stands to the gateway.
func (p *person) raw(t *testing.T, method, path, body string, header ...string) (status int, h http.Header, answer []byte) {
	t.Helper()
	var content io.Reader = http.NoBody
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, gateway.String()+path, content)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		req.Header.Set(contract.IdempotencyKey, uuid.NewString())
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

// rows counts everything that a customer could have changed.
func rows(t *testing.T) string {
	t.Helper()
	dbs := databases(t)
	var all []string
	for service, tables := range map[string][]string{
		"order": {"orders", "order_line", "order_history"}, "payment": {"payment", "movement", "entry", "top_up", "refund", "transfer"},
		"product": {"product", "stock_movement"}, "coordinator": {"decision"},
	} {
		for _, table := range tables {
			var n int64
			if err := dbs[service].QueryRow(context.WithoutCancel(t.Context()), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s.%s=%d", service, table, n))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestBadInput_isRefusedAndChangesNothing(t *testing.T) {
	boss, ann, bob := admin(t), customer(t, 10_00), customer(t, 0)
	bowl := boss.goods(t, 1_00, 5)
	bobs := bob.place(t, bowl, 1).ID
	line := func(more string) string { return fmt.Sprintf(`{"lines":[{"product_id":%q%s}]}`, bowl, more) }
	card := `"card":{"number":"4242424242424242","exp_month":12,"exp_year":2040,"cvc":"123"}`
	before := rows(t)

	for name, c := range map[string]struct {
		who          *person
		method, path string
		body         string
		status       int
		code         string
	}{
		"unknown field":            {ann, "POST", "/api/v1/orders", line(`,"quantity":1,"gift":true`), 422, "invalid"},
		"a price from the client":  {ann, "POST", "/api/v1/orders", line(`,"quantity":1,"unit_price":{"amount":1,"currency":"USD"}`), 422, "invalid"},
		"wrong type":               {ann, "POST", "/api/v1/orders", line(`,"quantity":"1"`), 422, "invalid"},
		"negative quantity":        {ann, "POST", "/api/v1/orders", line(`,"quantity":-1`), 422, "invalid"},
		"zero quantity":            {ann, "POST", "/api/v1/orders", line(`,"quantity":0`), 422, "invalid"},
		"1e18 quantity":            {ann, "POST", "/api/v1/orders", line(`,"quantity":1e18`), 422, "invalid"},
		"10^18 quantity":           {ann, "POST", "/api/v1/orders", line(`,"quantity":1000000000000000000`), 422, "invalid"},
		"no lines":                 {ann, "POST", "/api/v1/orders", `{"lines":[]}`, 422, "invalid"},
		"unknown product":          {ann, "POST", "/api/v1/orders", fmt.Sprintf(`{"lines":[{"product_id":%q,"quantity":1}]}`, uuid.NewString()), 422, "unknown_product"},
		"broken JSON":              {ann, "POST", "/api/v1/orders", `{"lines":`, 400, "malformed"},
		"foreign currency":         {ann, "POST", "/api/v1/wallets/USD/top-ups", `{"amount":{"amount":100,"currency":"EUR"},` + card + `}`, 422, "currency_mismatch"},
		"no such currency":         {ann, "POST", "/api/v1/wallets/XXX/top-ups", `{"amount":{"amount":100,"currency":"XXX"},` + card + `}`, 422, "unknown_currency"},
		"negative money":           {ann, "POST", "/api/v1/wallets/USD/top-ups", `{"amount":{"amount":-100,"currency":"USD"},` + card + `}`, 422, "invalid"},
		"no token":                 {nobody(), "GET", "/api/v1/orders", "", 401, "unauthenticated"},
		"a forged token":           {bearer(forged(ann.token)), "GET", "/api/v1/orders", "", 401, "invalid_token"},
		"alg none":                 {bearer(algNone(ann.token)), "GET", "/api/v1/orders", "", 401, "invalid_token"},
		"a garbage token":          {bearer("garbage"), "GET", "/api/v1/orders", "", 401, "invalid_token"},
		"another's order":          {ann, "GET", "/api/v1/orders/" + bobs.String(), "", 404, "not_found"},
		"paying another's order":   {ann, "POST", "/api/v1/orders/" + bobs.String() + "/pay", "", 404, "not_found"},
		"cancelling another's":     {ann, "POST", "/api/v1/orders/" + bobs.String() + "/cancel", "", 404, "not_found"},
		"a customer lists users":   {ann, "GET", "/api/v1/users", "", 403, "forbidden"},
		"a customer ships":         {ann, "POST", "/api/v1/orders/" + bobs.String() + "/ship", "", 403, "forbidden"},
		"a customer adds goods":    {ann, "POST", "/api/v1/products", `{}`, 403, "forbidden"},
		"a customer's ledger":      {ann, "GET", "/api/v1/ledger/check", "", 403, "forbidden"},
		"a body of 2 MiB":          {ann, "POST", "/api/v1/orders", `{"note":"` + strings.Repeat("a", 2<<20) + `"}`, 413, "too_large"},
		"sort with SQL in it":      {ann, "GET", "/api/v1/products?sort=price%3Bdrop%20table%20product--", "", 422, "invalid"},
		"SQL that breaks the URL":  {ann, "GET", "/api/v1/products?sort=price;drop%20table%20product--", "", 400, "malformed_query"},
		"a broken page token":      {ann, "GET", "/api/v1/products?page_token=%25%25broken", "", 400, "invalid_page_token"},
		"another list's token":     {ann, "GET", "/api/v1/orders?page_token=eyJ4IjoxfQ", "", 400, "invalid_page_token"},
		"wrong method":             {ann, "DELETE", "/api/v1/orders", "", 405, "method_not_allowed"},
		"unknown path":             {ann, "GET", "/api/v1/nothing", "", 404, "no_such_path"},
		"unknown path, known door": {ann, "GET", "/api/v1/orders/x/y/z", "", 404, "no_such_path"},
		"internal":                 {ann, "GET", "/internal/v1/products?ids=" + bowl.String(), "", 404, "no_such_path"},
		"internal, through api":    {ann, "GET", "/api/internal/v1/products", "", 404, "no_such_path"},
		"metrics":                  {ann, "GET", "/metrics", "", 404, "no_such_path"},
		"readyz":                   {ann, "GET", "/readyz", "", 404, "no_such_path"},
		"not an id":                {ann, "GET", "/api/v1/orders/42", "", 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := c.who.raw(t, c.method, c.path, c.body)
			var p struct {
				Type, Title, Detail, Instance, Code string
				Status                              int
				RequestID                           string `json:"request_id"`
			}
			if err := json.Unmarshal(body, &p); err != nil || status != c.status || p.Status != c.status || p.Code != c.code ||
				p.Type == "" || p.Title == "" || p.Instance == "" || p.RequestID == "" || header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %s %s, want problem %d %s", status, header.Get("Content-Type"), body, c.status, c.code)
			}
			if status == http.StatusMethodNotAllowed && header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}

	if status, _, body := nobody().raw(t, "POST", "/api/v1/orders", line(`,"quantity":1`), contract.IdempotencyKey, "", "Authorization", "Bearer "+ann.token); status != 400 || !bytes.Contains(body, []byte("idempotency_key_required")) {
		t.Errorf("no Idempotency-Key: %d %s", status, body)
	}
	if after := rows(t); after != before {
		t.Errorf("rows changed:\nbefore %s\nafter  %s", before, after)
	}
}

// Another person's order looks exactly like one that does not exist.
func TestBadInput_anothersOrderIsNoOrder(t *testing.T) {
	boss, ann, bob := admin(t), register(t), register(t)
	bobs := bob.place(t, boss.goods(t, 1_00, 5), 1).ID
	ask := func(id uuid.UUID) string {
		status, _, body := ann.raw(t, "GET", "/api/v1/orders/"+id.String(), "", contract.RequestID, "the-same")
		return fmt.Sprint(status, strings.ReplaceAll(traceID.ReplaceAllString(string(body), ""), id.String(), "ID"))
	}
	if theirs, none := ask(bobs), ask(uuid.New()); theirs != none {
		t.Errorf("another's: %s\nnone:      %s", theirs, none)
	}
}

var traceID = regexp.MustCompile(`"trace_id":"[0-9a-f]+",?`)

func TestPaging_isCoercedAndComplete(t *testing.T) {
	var page struct {
		Items         []json.RawMessage
		NextPageToken string `json:"next_page_token"`
	}
	status, _, body := nobody().raw(t, "GET", "/api/v1/products?page_size=10000", "")
	if err := json.Unmarshal(body, &page); err != nil || status != 200 || len(page.Items) > 100 || len(page.Items) < 60 {
		t.Errorf("page_size=10000: %d, %d items, %v", status, len(page.Items), err)
	}
	seen := map[string]bool{}
	for token := ""; ; token = page.NextPageToken {
		page.NextPageToken = ""
		_, _, body := nobody().raw(t, "GET", "/api/v1/products?sort=price&page_size=7&page_token="+token, "")
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			var p struct{ ID string }
			if err := json.Unmarshal(item, &p); err != nil || seen[p.ID] {
				t.Errorf("%s came twice (%v)", p.ID, err)
			}
			seen[p.ID] = true
		}
		if page.NextPageToken == "" {
			break
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d products in all pages, want at least 60", len(seen))
	}
}

// The document of the whole shop, and a page to read it that asks nobody outside.
func TestDocs_areServed(t *testing.T) {
	status, _, body := nobody().raw(t, "GET", "/api/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal(body, &doc); err != nil || status != 200 || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("%d %v", status, err)
	}
	for _, path := range []string{"/api/v1/auth/login", "/api/v1/products", "/api/v1/orders/{id}/pay", "/api/v1/payments/{id}/refunds", "/api/v1/transactions/{id}"} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not documented", path)
		}
	}
	for path := range doc.Paths {
		if strings.Contains(path, "internal") {
			t.Errorf("%s is documented to the public", path)
		}
	}
	if status, _, _ := nobody().raw(t, "GET", "/docs", ""); status != 200 {
		// http.Client follows a redirect to /docs/
		t.Errorf("/docs answers %d", status)
	}
}

func bearer(token string) *person {
	p := nobody()
	p.token = token
	return p
}

// forged is a token whose holder has made himself an admin.
func forged(token string) string {
	parts := strings.Split(token, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(claims, []byte("customer"), []byte("admin")))
	return strings.Join(parts, ".")
}

func algNone(token string) string {
	parts := strings.Split(token, ".")
	parts[0] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	return parts[0] + "." + parts[1] + "."
}
