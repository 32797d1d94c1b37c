package payment

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Letterbox is where other services write what only the payment service may read.
type Letterbox struct {
	Address []byte `json:"address" doc:"For seal.Write" example:"CLjp7bgCEk0="`
}

// AboutOrder is what a letter is about that comes with an order.
func AboutOrder(id uuid.UUID) string { return "order " + id.String() }

// GetLetterbox gives the letterbox to another service.
var GetLetterbox = contract.Route[contract.None, contract.Body[Letterbox]]{
	ID: "get-payment-letterbox", Service: Service, Method: http.MethodGet, Path: "/internal/v1/letterbox",
	Permission: identity.Internal, Summary: "The public key for what only the payment service may read",
}
