package product_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/product"
	contract "souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// bundle is a product service on a database of its own, with one category, and an admin.
type bundle struct {
	*testkit.Service
	db      *gorm.DB
	part    *twopc.Participant
	admin   string
	adminID uuid.UUID
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func setup(t *testing.T) *bundle {
	t.Helper()
	db := testkit.Postgres(t, migrations.Product(), migrations.Participant(), migrations.Idempotency())
	server := testkit.NewService(t, contract.Service)
	s, err := product.New(product.Config{Currency: "USD"}, product.Deps{
		DB: db, Mesh: testkit.Hosts{}.Client(), Now: now, Log: server.Log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Routes(server.Server)
	b := &bundle{Service: server, db: db, part: s.Participant, adminID: uuid.New()}
	b.admin = server.Token(t, b.adminID, identity.Admin)
	b.post(t, "/v1/categories", map[string]any{"slug": "lamps", "name": "Lamps"}).Into(t, http.StatusCreated, nil)
	return b
}

// post posts as the admin under a new key.
func (b *bundle) post(t *testing.T, path string, body any) *testkit.Answer {
	t.Helper()
	return b.Do(t, testkit.Request{Method: http.MethodPost, Path: path, Token: b.admin, Key: uuid.NewString(), Body: body})
}

// get asks as the admin.
func (b *bundle) get(t *testing.T, path string) *testkit.Answer {
	t.Helper()
	return b.Do(t, testkit.Request{Method: http.MethodGet, Path: path, Token: b.admin})
}

func entry(sku, name string, amount int64) map[string]any {
	return map[string]any{
		"sku": sku, "name": name, "description": "A thing.", "category": "lamps", "price": map[string]any{"amount": amount, "currency": "USD"},
	}
}

// stocked makes a product with n pieces available.
func (b *bundle) stocked(t *testing.T, sku string, n int64) uuid.UUID {
	t.Helper()
	var p contract.Product
	b.post(t, "/v1/products", entry(sku, "Lamp "+sku, 1999)).Into(t, http.StatusCreated, &p)
	if n > 0 {
		b.adjust(t, p.ID, n).Into(t, http.StatusCreated, nil)
	}
	return p.ID
}

func (b *bundle) adjust(t *testing.T, id uuid.UUID, delta int64) *testkit.Answer {
	t.Helper()
	return b.post(t, "/v1/products/"+id.String()+"/stock/adjustments", map[string]any{"delta": delta, "reason": "counted"})
}

func (b *bundle) stock(t *testing.T, id uuid.UUID) contract.Counts {
	t.Helper()
	var s contract.Stock
	b.get(t, "/v1/products/"+id.String()+"/stock").Into(t, http.StatusOK, &s)
	return s.Counts
}

func (b *bundle) count(t *testing.T, table string) (n int64) {
	t.Helper()
	if err := b.db.Table(table).Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

// checkBooks fails when the movements of any product do not add up to its stock, or do not follow from one another.
func (b *bundle) checkBooks(t testing.TB) {
	t.Helper()
	var wrong int64
	err := b.db.WithContext(context.WithoutCancel(t.Context())).Raw(`SELECT count(*) FROM stock AS s
		CROSS JOIN LATERAL (SELECT coalesce(sum(available_change), 0) AS a, coalesce(sum(held_change), 0) AS h, coalesce(sum(sold_change), 0) AS d
			FROM stock_movement AS m WHERE m.product_id = s.product_id) AS total
		CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT
				available_after - available_change <> lag(available_after, 1, 0::bigint) OVER w
				OR held_after - held_change <> lag(held_after, 1, 0::bigint) OVER w
				OR sold_after - sold_change <> lag(sold_after, 1, 0::bigint) OVER w AS gap
			FROM stock_movement AS m WHERE m.product_id = s.product_id WINDOW w AS (ORDER BY seq)) AS x WHERE gap) AS gaps
		WHERE s.available <> total.a OR s.held <> total.h OR s.sold <> total.d OR gaps.n > 0`).Scan(&wrong).Error
	if err != nil {
		t.Fatal(err)
	}
	if wrong != 0 {
		t.Errorf("the movements of %d products do not add up to their stock", wrong)
	}
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Problem().Code
}

func usd(amount int64) money.Money { return money.Money{Amount: amount, Currency: "USD"} }
