package product

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// MaxQuantity bounds one movement of stock, in pieces.
const MaxQuantity = 1_000_000

// Counts are pieces of one product by where they are, or how many came there (negative: went from there).
type Counts struct {
	Available int64 `json:"available" doc:"Can be bought"`
	Held      int64 `json:"held" doc:"In a transaction that is not decided yet"`
	Sold      int64 `json:"sold" doc:"Sold and not given back"`
}

// Stock is how many there are of a product.
type Stock struct {
	ProductID uuid.UUID `json:"product_id" format:"uuid"`
	Counts
}

// Movement is one change of a product's stock. Only an adjustment changes how many there are; a sale and a restock move
// pieces about, first on hold (prepared) and then on to where they go (committed) or back (aborted).
type Movement struct {
	ID        uuid.UUID  `json:"id" format:"uuid"`
	ProductID uuid.UUID  `json:"product_id" format:"uuid"`
	Kind      string     `json:"kind" enum:"adjustment,sale,restock"`
	Step      string     `json:"step,omitempty" enum:"prepared,committed,aborted" doc:"Of a sale or a restock"`
	Change    Counts     `json:"change"`
	After     Counts     `json:"after" doc:"The stock that it left"`
	Reason    string     `json:"reason,omitempty" example:"the customer asked for it"`
	GID       *uuid.UUID `json:"gid,omitempty" format:"uuid" doc:"The transaction it is part of"`
	OrderID   *uuid.UUID `json:"order_id,omitempty" format:"uuid"`
	Actor     *uuid.UUID `json:"actor,omitempty" format:"uuid" doc:"Who adjusted"`
	RequestID string     `json:"request_id,omitempty" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	At        time.Time  `json:"at"`
}

// AdjustInput adds pieces to what is available, or takes some away.
type AdjustInput struct {
	ID   uuid.UUID `path:"id" format:"uuid"`
	Body struct {
		Delta  int64  `json:"delta" minimum:"-1000000" maximum:"1000000" doc:"Pieces; not zero" example:"25"`
		Reason string `json:"reason" minLength:"1" maxLength:"200" pattern:"^[^\\s\\x00-\\x1f\\x7f]([^\\x00-\\x1f\\x7f]*[^\\s\\x00-\\x1f\\x7f])?$" patternDescription:"one line of text, no space at either end" example:"delivery 4711"`
	}
}

// MovementInput names a movement of a product's stock.
type MovementInput struct {
	ID         uuid.UUID `path:"id" format:"uuid"`
	MovementID uuid.UUID `path:"movement_id" format:"uuid"`
}

// The routes of the stock.
var (
	GetStock = contract.Route[contract.ByID, contract.Body[Stock]]{
		ID: "get-stock", Service: Service, Method: http.MethodGet, Path: "/v1/products/{id}/stock",
		Permission: identity.ManageProducts, Summary: "How many there are of a product, and where",
	}
	AdjustStock = contract.Route[AdjustInput, contract.Created[Movement]]{
		ID: "adjust-stock", Service: Service, Method: http.MethodPost, Path: "/v1/products/{id}/stock/adjustments", Status: http.StatusCreated,
		Permission: identity.ManageProducts, Keyed: true, Summary: "Add pieces to what is available, or take some away",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "insufficient_stock", "Fewer pieces are available than would be taken away"),
			contract.Refuse(fault.Invalid, "zero_delta", "A delta of zero changes nothing"),
		},
	}
	ListMovements = contract.Route[HistoryInput, contract.Body[contract.Page[Movement]]]{
		ID: "list-stock-movements", Service: Service, Method: http.MethodGet, Path: "/v1/products/{id}/stock/adjustments",
		Permission: identity.ManageProducts, Summary: "Every movement of a product's stock, sales included, newest first",
	}
	GetMovement = contract.Route[MovementInput, contract.Body[Movement]]{
		ID: "get-stock-movement", Service: Service, Method: http.MethodGet, Path: "/v1/products/{id}/stock/adjustments/{movement_id}",
		Permission: identity.ManageProducts, Summary: "One movement of a product's stock",
	}
)
