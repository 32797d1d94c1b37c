package product

import (
	"time"

	"souk/shared/contract/product"
	"souk/shared/money"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// productRow is a product with what is available of it. Rank and NameKey are filled by the list alone.
type productRow struct {
	ID                   uuid.UUID
	SKU                  string
	Name, Description    string
	Category             string
	PriceAmount          int64
	PriceCurrency        money.Currency
	Version              int64
	Archived             bool
	CreatedAt, UpdatedAt time.Time
	Available            int64
	NameKey              string
	Rank                 float64
}

const (
	productColumns = `p.id, p.sku, p.name, p.description, p.category, p.price_amount, p.price_currency, p.version, p.archived,
		p.created_at, p.updated_at, s.available, lower(p.name) AS name_key`
	productSource = "product AS p JOIN stock AS s ON s.product_id = p.id"
)

func (r productRow) price() money.Money {
	return money.Money{Amount: r.PriceAmount, Currency: r.PriceCurrency}
}

func (r productRow) show() product.Product {
	return product.Product{
		ID: r.ID, SKU: r.SKU, Name: r.Name, Description: r.Description, Category: r.Category, Price: r.price(),
		Available: r.Available, Archived: r.Archived, Version: r.Version, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// findProduct is errNoProduct where there is none.
func findProduct(tx *gorm.DB, id uuid.UUID) (row productRow, err error) {
	err = postgres.Found(tx.Raw("SELECT "+productColumns+" FROM "+productSource+" WHERE p.id = ?", id).Scan(&row), errNoProduct)
	return row, err
}

// findProducts gives those of the products that exist, in order of id.
func findProducts(tx *gorm.DB, ids []uuid.UUID) (rows []productRow, err error) {
	err = tx.Raw("SELECT "+productColumns+" FROM "+productSource+" WHERE p.id IN ? ORDER BY p.id", ids).Scan(&rows).Error
	return rows, err
}

// insertProduct makes a product and its empty stock; false when the SKU or the id is taken.
func insertProduct(tx *gorm.DB, r productRow, by author) (bool, error) {
	res := tx.Exec(`INSERT INTO product (id, sku, name, description, category, price_amount, price_currency, version, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		r.ID, r.SKU, r.Name, r.Description, r.Category, r.PriceAmount, r.PriceCurrency, r.Version, r.CreatedAt, r.UpdatedAt)
	if res.Error != nil || res.RowsAffected == 0 {
		return false, res.Error
	}
	if err := tx.Exec("INSERT INTO stock (product_id) VALUES (?)", r.ID).Error; err != nil {
		return false, err
	}
	return true, recordChange(tx, r.ID, "created", by)
}

// updateProduct changes a product that is at version and not archived; false when it is not.
func updateProduct(tx *gorm.DB, in *product.UpdateInput, version int64, by author) (bool, error) {
	set := map[string]any{"version": gorm.Expr("version + 1"), "updated_at": by.At}
	if v := in.Body.Name; v != nil {
		set["name"] = *v
	}
	if v := in.Body.Description; v != nil {
		set["description"] = *v
	}
	if v := in.Body.Category; v != nil {
		set["category"] = *v
	}
	if v := in.Body.Price; v != nil {
		set["price_amount"], set["price_currency"] = v.Amount, v.Currency
	}
	res := tx.Table("product").Where("id = ? AND version = ? AND NOT archived", in.ID, version).Updates(set)
	return res.RowsAffected == 1, res.Error
}

// archiveProduct reports false for a product that is archived, or none.
func archiveProduct(tx *gorm.DB, id uuid.UUID, at time.Time) (bool, error) {
	res := tx.Exec("UPDATE product SET archived = true, version = version + 1, updated_at = ? WHERE id = ? AND NOT archived", at, id)
	return res.RowsAffected == 1, res.Error
}

// changeRow is a row of product_change.
type changeRow struct {
	Version           int64
	Change            string
	Name, Description string
	Category          string
	PriceAmount       int64
	PriceCurrency     money.Currency
	Actor             *uuid.UUID
	RequestID         string
	At                time.Time
}

func (r changeRow) show() product.Change {
	return product.Change{
		Version: r.Version, Change: r.Change, Name: r.Name, Description: r.Description, Category: r.Category,
		Price: money.Money{Amount: r.PriceAmount, Currency: r.PriceCurrency}, Actor: r.Actor, RequestID: r.RequestID, At: r.At,
	}
}

// recordChange keeps the product as it is now under its version.
func recordChange(tx *gorm.DB, id uuid.UUID, change string, by author) error {
	return tx.Exec(`INSERT INTO product_change (product_id, version, change, name, description, category, price_amount, price_currency, actor, request_id, at)
		SELECT id, version, CAST(? AS text), name, description, category, price_amount, price_currency, CAST(? AS uuid), CAST(? AS text), CAST(? AS timestamptz)
		FROM product WHERE id = ?`, change, by.Actor, by.RequestID, by.At, id).Error
}

func listChanges(tx *gorm.DB, id uuid.UUID, from *cursor, limit int) (rows []changeRow, err error) {
	q := tx.Table("product_change").
		Select("version, change, name, description, category, price_amount, price_currency, actor, request_id, at").
		Where("product_id = ?", id)
	if from != nil {
		q = q.Where("version < ?", from.Seq)
	}
	err = q.Order("version DESC").Limit(limit).Scan(&rows).Error
	return rows, err
}

func listCategories(tx *gorm.DB, from *cursor, limit int) (rows []product.Category, err error) {
	q := tx.Table("category").Select("slug, name, created_at")
	if from != nil {
		q = q.Where("slug > ?", from.Name)
	}
	err = q.Order("slug").Limit(limit).Scan(&rows).Error
	return rows, err
}

func findCategory(tx *gorm.DB, slug string) (c product.Category, err error) {
	err = postgres.Found(tx.Raw("SELECT slug, name, created_at FROM category WHERE slug = ?", slug).Scan(&c), errNoCategory)
	return c, err
}

// insertCategory reports false for a slug that is taken.
func insertCategory(tx *gorm.DB, c product.Category) (bool, error) {
	res := tx.Exec("INSERT INTO category (slug, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", c.Slug, c.Name, c.CreatedAt)
	return res.RowsAffected == 1, res.Error
}

// findStock is errNoProduct where there is none.
func findStock(tx *gorm.DB, id uuid.UUID) (c product.Counts, err error) {
	err = postgres.Found(tx.Raw("SELECT available, held, sold FROM stock WHERE product_id = ?", id).Scan(&c), errNoProduct)
	return c, err
}

// movementRow is a row of stock_movement.
type movementRow struct {
	Seq                                     int64
	ID, ProductID                           uuid.UUID
	Kind, Step                              string
	AvailableChange, HeldChange, SoldChange int64
	AvailableAfter, HeldAfter, SoldAfter    int64
	Reason                                  string
	GID, OrderID, Actor                     *uuid.UUID
	RequestID                               string
	At                                      time.Time
}

const movementColumns = `seq, id, product_id, kind, step, available_change, held_change, sold_change,
	available_after, held_after, sold_after, reason, gid, order_id, actor, request_id, at`

func (r movementRow) show() product.Movement {
	return product.Movement{
		ID: r.ID, ProductID: r.ProductID, Kind: r.Kind, Step: r.Step,
		Change: product.Counts{Available: r.AvailableChange, Held: r.HeldChange, Sold: r.SoldChange},
		After:  product.Counts{Available: r.AvailableAfter, Held: r.HeldAfter, Sold: r.SoldAfter},
		Reason: r.Reason, GID: r.GID, OrderID: r.OrderID, Actor: r.Actor, RequestID: r.RequestID, At: r.At,
	}
}

// move changes a stock and records that it did, in one statement; nil when one of the counts would fall below zero, or
// there is no such product. It is the only statement that writes a stock's counts.
func move(tx *gorm.DB, m movement) (*movementRow, error) {
	var row movementRow
	res := tx.Raw(`WITH moved AS (
			UPDATE stock SET available = available + @available, held = held + @held, sold = sold + @sold
			WHERE product_id = @product AND available + @available >= 0 AND held + @held >= 0 AND sold + @sold >= 0
			RETURNING product_id, available, held, sold
		)
		INSERT INTO stock_movement (id, product_id, kind, step, available_change, held_change, sold_change,
			available_after, held_after, sold_after, reason, gid, order_id, actor, request_id, at)
		SELECT CAST(@id AS uuid), product_id, CAST(@kind AS text), CAST(@step AS text),
			CAST(@available AS bigint), CAST(@held AS bigint), CAST(@sold AS bigint), available, held, sold,
			CAST(@reason AS text), CAST(@gid AS uuid), CAST(@order AS uuid), CAST(@actor AS uuid), CAST(@request AS text), CAST(@at AS timestamptz)
		FROM moved RETURNING `+movementColumns,
		map[string]any{
			"available": m.change.Available, "held": m.change.Held, "sold": m.change.Sold, "product": m.product,
			"id": uuid.Must(uuid.NewV7()), "kind": m.kind, "step": m.step, "reason": m.reason, "gid": m.gid, "order": m.order,
			"actor": m.by.Actor, "request": m.by.RequestID, "at": m.by.At,
		}).Scan(&row)
	if res.Error != nil || res.RowsAffected == 0 {
		return nil, res.Error
	}
	return &row, nil
}

func listMovements(tx *gorm.DB, id uuid.UUID, from *cursor, limit int) (rows []movementRow, err error) {
	q := tx.Table("stock_movement").Select(movementColumns).Where("product_id = ?", id)
	if from != nil {
		q = q.Where("seq < ?", from.Seq)
	}
	err = q.Order("seq DESC").Limit(limit).Scan(&rows).Error
	return rows, err
}

func findMovement(tx *gorm.DB, productID, id uuid.UUID) (row movementRow, err error) {
	err = postgres.Found(tx.Raw("SELECT "+movementColumns+" FROM stock_movement WHERE id = ? AND product_id = ?", id, productID).Scan(&row), errNoMovement)
	return row, err
}

// overReturned finds a product of which an order has given back more than it took.
func overReturned(tx *gorm.DB, order uuid.UUID) (id uuid.UUID, found bool, err error) {
	var row struct{ ProductID uuid.UUID } // and not the id alone: gorm would take the array for many rows
	res := tx.Raw(`SELECT product_id FROM stock_movement WHERE order_id = ?
		GROUP BY product_id HAVING sum(sold_change) < 0 ORDER BY product_id LIMIT 1`, order).Scan(&row)
	return row.ProductID, res.RowsAffected == 1, res.Error
}
