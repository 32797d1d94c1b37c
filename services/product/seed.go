package product

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"time"

	"souk/shared/contract/product"
	"souk/shared/money"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

//go:embed seed/catalogue.json
var seedFiles embed.FS

// seedSpace is the namespace of the seeded products' ids, which are derived from their SKUs.
var seedSpace = uuid.MustParse("5eed0000-0000-8000-8000-736f756b0000") //nolint:gochecknoglobals // never changes

// SeedID is the id that Seed gives to the product with that SKU, in every shop.
func SeedID(sku string) uuid.UUID { return uuid.NewHash(sha256.New(), seedSpace, []byte(sku), 8) }

// goods is the seed file: shelves with what stands on them. Prices are in minor units of the file's currency.
type goods struct {
	Currency   money.Currency `json:"currency"`
	Categories []struct {
		Slug     string `json:"slug"`
		Name     string `json:"name"`
		Products []struct {
			SKU         string `json:"sku"`
			Name        string `json:"name"`
			Description string `json:"description"`
			Price       int64  `json:"price"`
			Stock       int64  `json:"stock"`
		} `json:"products"`
	} `json:"categories"`
}

// Seed fills the shop with a small bazaar. What is there already, by SKU or by slug, is left as it is, with its stock:
// seeding twice changes nothing.
func Seed(ctx context.Context, db *gorm.DB, now time.Time) error {
	b, err := seedFiles.ReadFile("seed/catalogue.json")
	if err != nil {
		return err
	}
	var g goods
	if err := json.Unmarshal(b, &g); err != nil {
		return fmt.Errorf("read the seed: %w", err)
	}
	return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		by := author{RequestID: "seed", At: now}
		for _, c := range g.Categories {
			if _, err := insertCategory(tx, product.Category{Slug: c.Slug, Name: c.Name, CreatedAt: now}); err != nil {
				return fmt.Errorf("seed category %s: %w", c.Slug, err)
			}
			for _, p := range c.Products {
				made, err := insertProduct(tx, productRow{
					ID: SeedID(p.SKU), SKU: p.SKU, Name: p.Name, Description: p.Description, Category: c.Slug,
					PriceAmount: p.Price, PriceCurrency: g.Currency, Version: 1, CreatedAt: now, UpdatedAt: now,
				}, by)
				if err == nil && made && p.Stock > 0 {
					_, err = move(tx, movement{
						product: SeedID(p.SKU), kind: kindAdjustment, change: product.Counts{Available: p.Stock}, reason: "opening stock", by: by,
					})
				}
				if err != nil {
					return fmt.Errorf("seed product %s: %w", p.SKU, err)
				}
			}
		}
		return nil
	})
}
