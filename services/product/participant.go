package product

import (
	"bytes"
	"fmt"
	"slices"

	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

// maxLines bounds the lines of a branch.
const maxLines = 100

// path is the way a piece goes in an action: by prepare into held, and out of it by commit. Abort goes back.
type path struct {
	kind            string
	prepare, commit product.Counts // of one piece
	// check is run before the first piece moves, refused when there are not enough, and moved after the last: all three
	// give the reason of a no. The lines are in order of product.
	check   func(tx twopc.Tx, lines []product.Line) error
	refused func(tx twopc.Tx, line product.Line) error
	moved   func(tx twopc.Tx, p product.Lines) error
}

func (s *Service) actions() map[string]twopc.Action {
	return map[string]twopc.Action{
		product.ActionSell: s.action(path{
			kind:    kindSale,
			prepare: product.Counts{Available: -1, Held: +1},
			commit:  product.Counts{Held: -1, Sold: +1},
			check:   sellable,
			refused: outOfStock,
			moved:   func(twopc.Tx, product.Lines) error { return nil },
		}),
		product.ActionRestock: s.action(path{
			kind:    kindRestock,
			prepare: product.Counts{Sold: -1, Held: +1},
			commit:  product.Counts{Held: -1, Available: +1},
			check:   known, // and not sellable: an archived product can be given back
			refused: func(_ twopc.Tx, l product.Line) error { return notSold(l.ProductID) },
			moved:   takenBefore,
		}),
	}
}

// action makes a path into the three steps of a branch. Each takes the products in order of id, so that two branches
// with products in common never wait for each other.
func (s *Service) action(way path) twopc.Action {
	prepare := func(tx twopc.Tx, p product.Lines) error {
		if err := checkLines(p); err != nil {
			return err
		}
		p.Lines = inOrder(p.Lines)
		if err := way.check(tx, p.Lines); err != nil {
			return err
		}
		for _, l := range p.Lines {
			moved, err := s.step(tx, way.kind, stepPrepared, way.prepare, p.OrderID, l)
			if err != nil {
				return err
			}
			if !moved {
				return way.refused(tx, l)
			}
		}
		return way.moved(tx, p)
	}
	finish := func(step string, change product.Counts) func(twopc.Tx, product.Lines) error {
		return func(tx twopc.Tx, p product.Lines) error {
			for _, l := range inOrder(p.Lines) {
				moved, err := s.step(tx, way.kind, step, change, p.OrderID, l)
				if err != nil {
					return err
				}
				if !moved {
					return fmt.Errorf("%s %s: product %s does not hold the %d that prepare held", way.kind, step, l.ProductID, l.Quantity)
				}
			}
			return nil
		}
	}
	return twopc.NewAction(prepare, finish(stepCommitted, way.commit), finish(stepAborted, times(way.prepare, -1)))
}

// step moves the pieces of one line; false when they are not there.
func (s *Service) step(tx twopc.Tx, kind, step string, change product.Counts, order uuid.UUID, l product.Line) (bool, error) {
	moved, err := move(tx.DB, movement{
		product: l.ProductID, kind: kind, step: step, change: times(change, l.Quantity),
		gid: &tx.GID, order: &order, by: s.author(tx.Statement.Context),
	})
	return moved != nil, err
}

// checkLines refuses what could not be carried out exactly: the bounds, and a product that stands in two lines.
func checkLines(p product.Lines) error {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "invalid_lines", format, args...)
	}
	if p.OrderID == uuid.Nil {
		return refuse("the lines belong to no order")
	}
	if len(p.Lines) == 0 || len(p.Lines) > maxLines {
		return refuse("there must be 1 to %d lines", maxLines)
	}
	seen := make(map[uuid.UUID]bool, len(p.Lines))
	for _, l := range p.Lines {
		if l.Quantity < 1 || l.Quantity > product.MaxQuantity {
			return refuse("a quantity must be 1 to %d", product.MaxQuantity)
		}
		if seen[l.ProductID] {
			return refuse("product %s stands in more than one line", l.ProductID)
		}
		seen[l.ProductID] = true
	}
	return nil
}

func inOrder(lines []product.Line) []product.Line {
	return slices.SortedFunc(slices.Values(lines), func(a, b product.Line) int {
		return bytes.Compare(a.ProductID[:], b.ProductID[:])
	})
}

func known(tx twopc.Tx, lines []product.Line) error {
	_, err := named(tx, lines)
	return err
}

func sellable(tx twopc.Tx, lines []product.Line) error {
	rows, err := named(tx, lines)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Archived {
			return fault.New(fault.Conflict, "product_unavailable", "%q is no longer sold", r.Name)
		}
	}
	return nil
}

// named finds the products of the lines.
func named(tx twopc.Tx, lines []product.Line) ([]productRow, error) {
	ids := make([]uuid.UUID, len(lines))
	for i, l := range lines {
		ids[i] = l.ProductID
	}
	rows, err := findProducts(tx.DB, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(rows, func(r productRow) bool { return r.ID == id }) {
			return nil, fault.New(fault.Conflict, "product_unavailable", "there is no product %s", id)
		}
	}
	return rows, nil
}

func outOfStock(tx twopc.Tx, l product.Line) error {
	r, err := findProduct(tx.DB, l.ProductID)
	if err != nil {
		return err
	}
	if r.Available == 0 {
		return fault.New(fault.Conflict, "out_of_stock", "%q is out of stock", r.Name)
	}
	return fault.New(fault.Conflict, "out_of_stock", "%q is out of stock: %d were asked for, %d are left", r.Name, l.Quantity, r.Available)
}

// takenBefore refuses a restock by which the order would have given back more than it took. The rows in stock are
// locked by now, so no other restock of these products can be under way unseen.
func takenBefore(tx twopc.Tx, p product.Lines) error {
	id, overdrawn, err := overReturned(tx.DB, p.OrderID)
	if err != nil {
		return err
	}
	if overdrawn {
		return notSold(id)
	}
	return nil
}

func notSold(id uuid.UUID) error {
	return fault.New(fault.Conflict, "not_sold", "more of product %s would be given back than was sold", id)
}
