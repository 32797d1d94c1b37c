// Package user is the wire of the user service: accounts, sessions, addresses and reward points.
package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// User is an account as its owner and an admin see it.
type User struct {
	ID          uuid.UUID       `json:"id" format:"uuid"`
	Email       string          `json:"email" doc:"As the shop knows it: trimmed and in lower case" example:"alice@souk.example"`
	DisplayName string          `json:"display_name" example:"Alice"`
	Roles       []identity.Role `json:"roles"`
	Disabled    bool            `json:"disabled" doc:"Cannot sign in"`
	CreatedAt   time.Time       `json:"created_at"`
}

// RegisterInput opens an account. There is no field for roles: everybody begins as a customer.
type RegisterInput struct {
	Body struct {
		Email string `json:"email" minLength:"3" maxLength:"254" example:"carol@souk.example"`
		// 10: longer than the 8 that ASVS 6.2.1 wants at least. 128: twice the 64 that 6.2.9 wants allowed, and a bound, so
		// that nobody sends a megabyte to be hashed.
		Password    string `json:"password" minLength:"10" maxLength:"128" doc:"Any characters; taken exactly as sent" example:"correct horse battery staple"`
		DisplayName string `json:"display_name" minLength:"1" maxLength:"100" example:"Alice"`
	}
}

// UpdateMeInput changes what the caller may change of the own account. A field that is absent stays as it is.
type UpdateMeInput struct {
	Body struct {
		DisplayName *string `json:"display_name,omitempty" minLength:"1" maxLength:"100" example:"Alice"`
	}
}

// ListUsersInput selects accounts.
type ListUsersInput struct {
	contract.Paging
	Q string `query:"q" maxLength:"254" doc:"The e-mail address, or the beginning of it"`
}

// SetRolesInput gives an account these roles and no others.
type SetRolesInput struct {
	contract.ByID
	Body struct {
		Roles []identity.Role `json:"roles" minItems:"1" maxItems:"8" enum:"customer,admin,catalogue_manager,support,finance,auditor,data_scientist,key_custodian" doc:"To leave somebody without any, disable the account"`
	}
}

// The routes of accounts.
var (
	Register = contract.Route[RegisterInput, contract.Created[User]]{
		ID: "register", Service: Service, Method: http.MethodPost, Path: "/v1/auth/register", Status: http.StatusCreated,
		Permission: identity.Public, Keyed: true, Summary: "Open an account",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "email_taken", "There is an account with this e-mail address"),
			contract.Refuse(fault.Invalid, "breached_password", "The password is among those that are tried first"),
			contract.Refuse(fault.Exhausted, "too_many_tries", "Too many addresses asked for from there: come back after Retry-After"),
			contract.Refuse(fault.Unavailable, "overloaded", "Too many people are signing in just now"),
		},
	}
	GetMe = contract.Route[contract.None, contract.Body[User]]{
		ID: "get-me", Service: Service, Method: http.MethodGet, Path: "/v1/users/me",
		Permission: identity.SignedIn, Summary: "Your own account",
	}
	UpdateMe = contract.Route[UpdateMeInput, contract.Body[User]]{
		ID: "update-me", Service: Service, Method: http.MethodPatch, Path: "/v1/users/me",
		Permission: identity.SignedIn, Summary: "Change your own account",
	}
	ListUsers = contract.Route[ListUsersInput, contract.Body[contract.Page[User]]]{
		ID: "list-users", Service: Service, Method: http.MethodGet, Path: "/v1/users",
		Permission: identity.ViewUsers, Summary: "List accounts, newest first",
	}
	GetUser = contract.Route[contract.ByID, contract.Body[User]]{
		ID: "get-user", Service: Service, Method: http.MethodGet, Path: "/v1/users/{id}",
		Permission: identity.ViewUsers, Summary: "An account",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_user", "There is no such account"),
		},
	}
	DisableUser = contract.Route[contract.ByID, contract.Body[User]]{
		ID: "disable-user", Service: Service, Method: http.MethodPost, Path: "/v1/users/{id}/disable",
		Permission: identity.ManageUsers, Keyed: true, Summary: "Keep an account from signing in, and end its sessions",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Forbidden, "not_on_yourself", "Another admin has to do that to your account"),
			contract.Refuse(fault.NotFound, "no_such_user", "There is no such account"),
			contract.Refuse(fault.Conflict, "illegal_state", "The account is disabled already"),
		},
	}
	EnableUser = contract.Route[contract.ByID, contract.Body[User]]{
		ID: "enable-user", Service: Service, Method: http.MethodPost, Path: "/v1/users/{id}/enable",
		Permission: identity.ManageUsers, Keyed: true, Summary: "Let a disabled account sign in again",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Forbidden, "not_on_yourself", "Another admin has to do that to your account"),
			contract.Refuse(fault.NotFound, "no_such_user", "There is no such account"),
			contract.Refuse(fault.Conflict, "illegal_state", "The account is enabled already"),
		},
	}
	SetRoles = contract.Route[SetRolesInput, contract.Body[User]]{
		ID: "set-user-roles", Service: Service, Method: http.MethodPut, Path: "/v1/users/{id}/roles",
		Permission: identity.GrantRoles, Summary: "Give an account these roles and no others", Refuses: granting(),
	}
)
