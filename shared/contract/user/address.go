package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// AddressFields are what a person says of an address.
type AddressFields struct {
	Label      string `json:"label" minLength:"1" maxLength:"50" example:"Home"`
	Recipient  string `json:"recipient" minLength:"1" maxLength:"100" example:"Alice Example"`
	Line1      string `json:"line1" minLength:"1" maxLength:"200" example:"1 Bazaar Street"`
	Line2      string `json:"line2" required:"false" maxLength:"200" example:""`
	City       string `json:"city" minLength:"1" maxLength:"100" example:"Basel"`
	Region     string `json:"region" required:"false" maxLength:"100" doc:"State, province or canton, where mail wants it" example:"BS"`
	PostalCode string `json:"postal_code" required:"false" maxLength:"20" example:"4051" doc:"Not every country has them"`
	Country    string `json:"country" minLength:"2" maxLength:"2" example:"CH" doc:"ISO 3166-1 alpha-2, in capitals"`
	Phone      string `json:"phone" required:"false" maxLength:"30" example:"+41 61 555 01 23"`
	Default    bool   `json:"default" required:"false" doc:"The one to propose; making one the default takes it from the others"`
}

// Address is an address somebody keeps with the account.
type Address struct {
	ID uuid.UUID `json:"id" format:"uuid"`
	AddressFields
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AddAddressInput carries a new address.
type AddAddressInput struct{ Body AddressFields }

// ReplaceAddressInput carries what an address is from now on.
type ReplaceAddressInput struct {
	contract.ByID
	Body AddressFields
}

// ListAddressesInput asks for a page of addresses.
type ListAddressesInput struct{ contract.Paging }

// The routes of addresses; each is about the caller's own and nobody else's.
var (
	ListAddresses = contract.Route[ListAddressesInput, contract.Body[contract.Page[Address]]]{
		ID: "list-addresses", Service: Service, Method: http.MethodGet, Path: "/v1/users/me/addresses",
		Permission: identity.SignedIn, Summary: "Your addresses, oldest first",
	}
	AddAddress = contract.Route[AddAddressInput, contract.Created[Address]]{
		ID: "add-address", Service: Service, Method: http.MethodPost, Path: "/v1/users/me/addresses", Status: http.StatusCreated,
		Permission: identity.SignedIn, Keyed: true, Summary: "Keep an address; at most 20",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "too_many_addresses", "An account keeps at most 20 addresses"),
		},
	}
	GetAddress = contract.Route[contract.ByID, contract.Body[Address]]{
		ID: "get-address", Service: Service, Method: http.MethodGet, Path: "/v1/users/me/addresses/{id}",
		Permission: identity.SignedIn, Summary: "One of your addresses",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_address", "There is no such address of yours"),
		},
	}
	ReplaceAddress = contract.Route[ReplaceAddressInput, contract.Body[Address]]{
		ID: "replace-address", Service: Service, Method: http.MethodPut, Path: "/v1/users/me/addresses/{id}",
		Permission: identity.SignedIn, Summary: "Replace one of your addresses",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_address", "There is no such address of yours"),
		},
	}
	RemoveAddress = contract.Route[contract.ByID, contract.None]{
		ID: "remove-address", Service: Service, Method: http.MethodDelete, Path: "/v1/users/me/addresses/{id}", Status: http.StatusNoContent,
		Permission: identity.SignedIn, Summary: "Remove one of your addresses",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_address", "There is no such address of yours"),
		},
	}
)
