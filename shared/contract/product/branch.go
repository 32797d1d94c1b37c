// Package product is the wire of the product service: the catalogue, the stock, and what others may ask of them.
package product

import "github.com/google/uuid"

// Service is the name the product service is registered under.
const Service = "product"

// The actions the product service can do as its branch of a transaction. Both take a Lines payload.
const (
	ActionSell    = "sell"    // available → held → sold; a no has code out_of_stock
	ActionRestock = "restock" // sold → available
)

// Lines is what is sold or restocked. A product stands in at most one line.
type Lines struct {
	OrderID uuid.UUID `json:"order_id"`
	Lines   []Line    `json:"lines"`
}

// LockOrder is part of twopc.Locking: products are locked in the order of their ids.
func (l Lines) LockOrder() string {
	first := ""
	for _, line := range l.Lines {
		if id := line.ProductID.String(); first == "" || id < first {
			first = id
		}
	}
	return first
}

// Line is a quantity of one product.
type Line struct {
	ProductID uuid.UUID `json:"product_id" format:"uuid"`
	Quantity  int64     `json:"quantity"`
}
