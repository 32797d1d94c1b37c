package order

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Share is what the owner of a thing lets another do with it.
type Share struct {
	UserID    uuid.UUID `json:"user_id" format:"uuid" doc:"With whom"`
	May       string    `json:"may" enum:"read,manage" doc:"Look at it, or do with it what its owner may, but for paying it and sharing it on"`
	ExpiresAt time.Time `json:"expires_at"`
	GrantedAt time.Time `json:"granted_at"`
}

// SharedWith names a thing and a person.
type SharedWith struct {
	contract.ByID
	UserID uuid.UUID `path:"user_id" format:"uuid" doc:"With whom it is shared"`
}

// ShareInput shares a thing with a person, in place of how it was shared with them before.
type ShareInput struct {
	SharedWith
	Body struct {
		May       string     `json:"may" enum:"read,manage" doc:"Look at it, or do with it what its owner may, but for paying it and sharing it on"`
		ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"A year from now at most; in 30 days when absent"`
	}
}

// ListSharesInput asks for a page of the shares of a thing.
type ListSharesInput struct {
	contract.ByID
	contract.Paging
}

// The routes of shares of orders.
var (
	ShareOrder = contract.Route[ShareInput, contract.Body[Share]]{
		ID: "share-order", Service: Service, Method: http.MethodPut, Path: "/v1/orders/{id}/shares/{user_id}",
		Permission: identity.ShareOrder, Summary: "Share an order of yours with somebody, for some time", Refuses: sharing(),
	}
	ListOrderShares = contract.Route[ListSharesInput, contract.Body[contract.Page[Share]]]{
		ID: "list-order-shares", Service: Service, Method: http.MethodGet, Path: "/v1/orders/{id}/shares",
		Permission: identity.ShareOrder, Summary: "With whom an order of yours is shared",
	}
	UnshareOrder = contract.Route[SharedWith, contract.None]{
		ID: "unshare-order", Service: Service, Method: http.MethodDelete, Path: "/v1/orders/{id}/shares/{user_id}", Status: http.StatusNoContent,
		Permission: identity.ShareOrder, Summary: "Share an order with somebody no longer",
	}
)

func sharing() []contract.Refusal {
	return []contract.Refusal{
		contract.Refuse(fault.Invalid, "invalid_share", "It is yours already, or the time is over or more than a year away"),
		contract.Refuse(fault.Conflict, "too_many_shares", "A thing is shared with at most 50 people"),
	}
}
