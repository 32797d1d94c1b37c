package order

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/contract/product"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// Summary is what another service needs to know of an order to refund it.
type Summary struct {
	ID     uuid.UUID      `json:"id" format:"uuid"`
	UserID uuid.UUID      `json:"user_id" format:"uuid"`
	Status string         `json:"status" example:"paid"`
	Total  money.Money    `json:"total"`
	Lines  []product.Line `json:"lines"`
}

// LookupOrder gives an order to another service.
var LookupOrder = contract.Route[contract.ByID, contract.Body[Summary]]{
	ID: "lookup-order", Service: Service, Method: http.MethodGet, Path: "/internal/v1/orders/{id}",
	Permission: identity.Internal, Summary: "What another service needs to know of an order",
}
