package product

import (
	"context"

	"souk/shared/contract"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/idempotency"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// The kinds of movement of a stock, and the steps of those that are part of a transaction.
const (
	kindAdjustment = "adjustment"
	kindSale       = "sale"
	kindRestock    = "restock"

	stepPrepared  = "prepared"
	stepCommitted = "committed"
	stepAborted   = "aborted"
)

// times is c for each of n pieces.
func times(c product.Counts, n int64) product.Counts {
	return product.Counts{Available: c.Available * n, Held: c.Held * n, Sold: c.Sold * n}
}

// GetStock gives a product's stock. A missing product is NotFound.
func (s *Service) GetStock(ctx context.Context, in *contract.ByID) (*contract.Body[product.Stock], error) {
	counts, err := findStock(s.db.WithContext(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	return &contract.Body[product.Stock]{Body: product.Stock{ProductID: in.ID, Counts: counts}}, nil
}

// AdjustStock changes how many pieces are available, the archived product's too: somebody counts what is left. Taking
// more than there is is Conflict, code insufficient_stock; a change of nothing is Invalid, code zero_delta.
func (s *Service) AdjustStock(ctx context.Context, in *product.AdjustInput) (*contract.Created[product.Movement], error) {
	if in.Body.Delta == 0 {
		return nil, fault.New(fault.Invalid, "zero_delta", "a delta of zero changes nothing").
			With(fault.Field{Pointer: "body.delta", Detail: "must not be zero"})
	}
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[product.Movement], error) {
		moved, err := move(tx, movement{
			product: in.ID, kind: kindAdjustment, change: product.Counts{Available: in.Body.Delta}, reason: in.Body.Reason, by: s.author(ctx),
		})
		if err != nil {
			return nil, err
		}
		if moved == nil {
			has, err := findStock(tx, in.ID)
			if err != nil {
				return nil, err
			}
			return nil, fault.New(fault.Conflict, "insufficient_stock", "only %d are available", has.Available)
		}
		return &contract.Created[product.Movement]{
			Location: "/api/v1/products/" + in.ID.String() + "/stock/adjustments/" + moved.ID.String(), Body: moved.show(),
		}, nil
	})
}

// ListMovements gives a page of a stock's movements, newest first.
func (s *Service) ListMovements(ctx context.Context, in *product.HistoryInput) (*contract.Body[contract.Page[product.Movement]], error) {
	list := listName("movements", in.ID.String())
	from, err := after(in.Paging, list)
	if err != nil {
		return nil, err
	}
	db := s.db.WithContext(ctx)
	if _, err := findStock(db, in.ID); err != nil {
		return nil, err
	}
	rows, err := listMovements(db, in.ID, from, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), movementRow.show, func(r movementRow) any { return cursor{List: list, Seq: r.Seq} })
}

// GetMovement gives one movement. A missing one, or one of another product, is NotFound.
func (s *Service) GetMovement(ctx context.Context, in *product.MovementInput) (*contract.Body[product.Movement], error) {
	row, err := findMovement(s.db.WithContext(ctx), in.ID, in.MovementID)
	if err != nil {
		return nil, err
	}
	return &contract.Body[product.Movement]{Body: row.show()}, nil
}

// movement is a change of a stock that is to be made.
type movement struct {
	product    uuid.UUID
	kind, step string
	change     product.Counts
	reason     string
	gid, order *uuid.UUID
	by         author
}
