package product

import (
	"errors"
	"net/http"
	"strings"

	"souk/shared/contract"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// LookupInput names up to 100 products.
type LookupInput struct {
	IDs IDs `query:"ids" required:"true" maxLength:"3700" doc:"Ids with commas between, 1 to 100"`
}

// IDs is a list of ids as one query parameter. It reads itself, because Huma reads slices of plain types only.
type IDs []uuid.UUID

const maxIDs = 100

// MarshalText writes the ids with commas between.
func (ids IDs) MarshalText() ([]byte, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return []byte(strings.Join(texts, ",")), nil
}

// UnmarshalText reads 1 to 100 ids with commas between.
func (ids *IDs) UnmarshalText(b []byte) error {
	texts := strings.Split(string(b), ",")
	if len(texts) > maxIDs {
		return errors.New("at most 100 ids")
	}
	*ids = make(IDs, len(texts))
	for i, text := range texts {
		id, err := uuid.Parse(text)
		if err != nil {
			return errors.New("not a list of ids")
		}
		(*ids)[i] = id
	}
	return nil
}

// Offer is what another service needs to know to sell a product.
type Offer struct {
	ID       uuid.UUID   `json:"id" format:"uuid"`
	SKU      string      `json:"sku" example:"CER-001"`
	Name     string      `json:"name" example:"Tea bowl, ash glaze"`
	Price    money.Money `json:"price"`
	Archived bool        `json:"archived"`
}

// LookupProducts gives the current offers of the named products; one that does not exist is left out.
var LookupProducts = contract.Route[LookupInput, contract.Body[[]Offer]]{
	ID: "lookup-products", Service: Service, Method: http.MethodGet, Path: "/internal/v1/products",
	Permission: identity.Internal, Summary: "Current offers of the named products",
}
