package product

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// LookupInput names up to 100 products.
type LookupInput struct {
	IDs []uuid.UUID `query:"ids" required:"true" minItems:"1" maxItems:"100"`
}

// Offer is what another service needs to know to sell a product.
type Offer struct {
	ID       uuid.UUID   `json:"id" format:"uuid"`
	SKU      string      `json:"sku"`
	Name     string      `json:"name"`
	Price    money.Money `json:"price"`
	Archived bool        `json:"archived"`
}

// LookupProducts gives the current offers of the named products; one that does not exist is left out.
var LookupProducts = contract.Route[LookupInput, contract.Body[[]Offer]]{
	ID: "lookup-products", Service: Service, Method: http.MethodGet, Path: "/internal/v1/products",
	Permission: identity.Internal, Summary: "Current offers of the named products",
}
