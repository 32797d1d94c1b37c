package product

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"souk/shared/contract"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/money"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

var (
	errNoProduct  = fault.New(fault.NotFound, "", "there is no such product")
	errNoCategory = fault.New(fault.NotFound, "", "there is no such category")
	errNoMovement = fault.New(fault.NotFound, "", "there is no such movement of this product's stock")
	errArchived   = fault.New(fault.Conflict, "product_archived", "the product is archived: it is not changed any more")
)

// etag names a version of a product. What is available is not part of it: it moves with every sale.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// seenVersion reads If-Match, a version in quotes or bare. Text that is no version is 0, which no product has.
func seenVersion(ifMatch string) (int64, error) {
	if ifMatch == "" {
		return 0, fault.New(fault.Malformed, "if_match_required", "this request needs an If-Match header with the ETag of the product as you saw it")
	}
	version, err := strconv.ParseInt(strings.Trim(ifMatch, `"`), 10, 64)
	if err != nil {
		return 0, nil //nolint:nilerr // an ETag that is not ours matches nothing (RFC 9110, 13.1.1)
	}
	return version, nil
}

// GetProduct gives a product, archived or not: what was ordered once can always be shown. A missing one is NotFound.
func (s *Service) GetProduct(ctx context.Context, in *contract.ByID) (*product.Output, error) {
	return showProduct(s.db.WithContext(ctx), in.ID)
}

func showProduct(tx *gorm.DB, id uuid.UUID) (*product.Output, error) {
	row, err := findProduct(tx, id)
	if err != nil {
		return nil, err
	}
	return &product.Output{ETag: etag(row.Version), Body: row.show()}, nil
}

// CreateProduct adds a product with no stock. A SKU that is taken is Conflict, code sku_taken; an unknown category or
// currency is Invalid.
func (s *Service) CreateProduct(ctx context.Context, in *product.CreateInput) (*product.CreatedOutput, error) {
	if _, err := money.ParseCurrency(string(in.Body.Price.Currency)); err != nil {
		return nil, err
	}
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*product.CreatedOutput, error) {
		by := s.author(ctx)
		row := productRow{
			ID: uuid.Must(uuid.NewV7()), SKU: in.Body.SKU, Name: in.Body.Name, Description: in.Body.Description, Category: in.Body.Category,
			PriceAmount: in.Body.Price.Amount, PriceCurrency: in.Body.Price.Currency, Version: 1, CreatedAt: by.At, UpdatedAt: by.At,
		}
		made, err := insertProduct(tx, row, by)
		if err != nil {
			return nil, catalogueFault(err)
		}
		if !made {
			return nil, fault.New(fault.Conflict, "sku_taken", "another product has the SKU %s", row.SKU)
		}
		return &product.CreatedOutput{Location: "/api/v1/products/" + row.ID.String(), ETag: etag(row.Version), Body: row.show()}, nil
	})
}

func catalogueFault(err error) error {
	if errors.Is(err, gorm.ErrForeignKeyViolated) {
		return fault.New(fault.Invalid, "unknown_category", "there is no such category").
			With(fault.Field{Pointer: "body.category", Detail: "is not a category's slug"}).Because(err)
	}
	return err
}

// UpdateProduct changes a product that is still as the caller saw it. Malformed, code if_match_required, without a
// version; Precondition, code version_mismatch, for an old one; Conflict, code product_archived; NotFound; Invalid for
// an unknown category or currency, or for nothing to change.
func (s *Service) UpdateProduct(ctx context.Context, in *product.UpdateInput) (*product.Output, error) {
	version, err := seenVersion(in.IfMatch)
	if err != nil {
		return nil, err
	}
	b := in.Body
	if b.Name == nil && b.Description == nil && b.Category == nil && b.Price == nil {
		return nil, fault.New(fault.Invalid, "nothing_to_change", "the body names nothing to change")
	}
	if b.Price != nil {
		if _, err := money.ParseCurrency(string(b.Price.Currency)); err != nil {
			return nil, err
		}
	}
	var out *product.Output
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		by := s.author(ctx)
		changed, err := updateProduct(tx, in, version, by)
		if err != nil {
			return catalogueFault(err)
		}
		if out, err = showProduct(tx, in.ID); err != nil {
			return err
		}
		switch {
		case changed:
			return recordChange(tx, in.ID, "updated", by)
		case out.Body.Archived:
			return errArchived
		default:
			return fault.New(fault.Precondition, "version_mismatch", "the product has changed since: it is at version %d now", out.Body.Version)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ArchiveProduct takes a product out of the list and out of sale, for good. What is held for a sale at that moment can
// still be sold. One that is archived already is Conflict, code product_archived.
func (s *Service) ArchiveProduct(ctx context.Context, in *contract.ByID) (*product.Output, error) {
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*product.Output, error) {
		by := s.author(ctx)
		archived, err := archiveProduct(tx, in.ID, by.At)
		if err != nil {
			return nil, err
		}
		out, err := showProduct(tx, in.ID)
		if err != nil {
			return nil, err
		}
		if !archived {
			return nil, errArchived
		}
		return out, recordChange(tx, in.ID, "archived", by)
	})
}

// ListChanges gives a page of a product's versions, newest first.
func (s *Service) ListChanges(ctx context.Context, in *product.HistoryInput) (*contract.Body[contract.Page[product.Change]], error) {
	list := listName("changes", in.ID.String())
	from, err := after(in.Paging, list)
	if err != nil {
		return nil, err
	}
	db := s.db.WithContext(ctx)
	if _, err := findProduct(db, in.ID); err != nil {
		return nil, err
	}
	rows, err := listChanges(db, in.ID, from, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), changeRow.show, func(r changeRow) any { return cursor{List: list, Seq: r.Version} })
}

// LookupProducts gives the current offers of the named products to another service.
func (s *Service) LookupProducts(ctx context.Context, in *product.LookupInput) (*contract.Body[[]product.Offer], error) {
	rows, err := findProducts(s.db.WithContext(ctx), in.IDs)
	if err != nil {
		return nil, err
	}
	out := &contract.Body[[]product.Offer]{Body: make([]product.Offer, len(rows))}
	for i, r := range rows {
		out.Body[i] = product.Offer{ID: r.ID, SKU: r.SKU, Name: r.Name, Price: r.price(), Archived: r.Archived}
	}
	return out, nil
}
