package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Grant is a role that an account has.
type Grant struct {
	Role       identity.Role `json:"role" enum:"customer,admin,catalogue_manager,support,finance,auditor,data_scientist,key_custodian"`
	GrantedBy  *uuid.UUID    `json:"granted_by,omitempty" format:"uuid" doc:"Absent where it came with the account"`
	GrantedAt  time.Time     `json:"granted_at"`
	ValidUntil *time.Time    `json:"valid_until,omitempty" doc:"When it ends by itself"`
}

// Attributes are what is known of an account's person besides their roles.
type Attributes struct {
	Location  string `json:"location" maxLength:"50" pattern:"^[A-Za-z0-9 -]*$" doc:"Where they work; empty is nowhere" example:"HQ"`
	Clearance int64  `json:"clearance" minimum:"0" maximum:"9" doc:"The highest class of sensitive data they may see; 0 is none" example:"2"`
}

// Access is what an account may do.
type Access struct {
	UserID uuid.UUID `json:"user_id" format:"uuid"`
	Roles  []Grant   `json:"roles"`
	Attributes
}

// RoleOf names a role and an account.
type RoleOf struct {
	contract.ByID
	Role identity.Role `path:"role" enum:"customer,admin,catalogue_manager,support,finance,auditor,data_scientist,key_custodian" doc:"Which role"`
}

// GrantRoleInput gives an account a role.
type GrantRoleInput struct {
	RoleOf
	Body struct {
		ValidUntil *time.Time `json:"valid_until,omitempty" doc:"When it is to end by itself; absent is never"`
	}
}

// SetAttributesInput says where an account's person works and how far they are trusted.
type SetAttributesInput struct {
	contract.ByID
	Body Attributes
}

// AccountChange is one line of what was done to an account.
type AccountChange struct {
	Changed   string    `json:"changed" enum:"state,roles,password,attributes"`
	Was       string    `json:"was" example:"customer"`
	Became    string    `json:"became" example:"customer,support"`
	Actor     uuid.UUID `json:"actor" format:"uuid" doc:"Who did it; the account itself where it was opened"`
	RequestID string    `json:"request_id" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	At        time.Time `json:"at"`
}

// ListChangesInput asks for a page of an account's history.
type ListChangesInput struct {
	contract.ByID
	contract.Paging
}

// Person is somebody as the export of all customers has them.
type Person struct {
	ID          uuid.UUID       `json:"id" format:"uuid"`
	Email       string          `json:"email" example:"alice@souk.example"`
	DisplayName string          `json:"display_name" example:"Alice"`
	Roles       []identity.Role `json:"roles"`
	CreatedAt   time.Time       `json:"created_at"`
}

// ExportInput asks for a page of the export.
type ExportInput struct{ contract.Paging }

// The routes of what accounts may do.
var (
	GetAccess = contract.Route[contract.ByID, contract.Body[Access]]{
		ID: "get-user-access", Service: Service, Method: http.MethodGet, Path: "/v1/users/{id}/access",
		Permission: identity.ViewUsers, Summary: "The roles of an account, who gave them and until when",
		Refuses: []contract.Refusal{contract.Refuse(fault.NotFound, "no_such_user", "There is no such account")},
	}
	GrantRole = contract.Route[GrantRoleInput, contract.Body[Access]]{
		ID: "grant-role", Service: Service, Method: http.MethodPut, Path: "/v1/users/{id}/roles/{role}",
		Permission: identity.GrantRoles, Summary: "Give an account a role, for good or for some time",
		Refuses: append(granting(), contract.Refuse(fault.Invalid, "invalid_time", "The time is over already")),
	}
	RevokeRole = contract.Route[RoleOf, contract.Body[Access]]{
		ID: "revoke-role", Service: Service, Method: http.MethodDelete, Path: "/v1/users/{id}/roles/{role}",
		Permission: identity.GrantRoles, Summary: "Take a role from an account", Refuses: granting(),
	}
	SetAttributes = contract.Route[SetAttributesInput, contract.Body[Access]]{
		ID: "set-user-attributes", Service: Service, Method: http.MethodPut, Path: "/v1/users/{id}/attributes",
		Permission: identity.GrantRoles, Summary: "Say where somebody works, and what class of sensitive data they may see", Refuses: granting(),
	}
	ListAccountChanges = contract.Route[ListChangesInput, contract.Body[contract.Page[AccountChange]]]{
		ID: "list-user-changes", Service: Service, Method: http.MethodGet, Path: "/v1/users/{id}/history",
		Permission: identity.ReadAudit, Summary: "What was done to an account and by whom, newest first",
	}
	ExportPeople = contract.Route[ExportInput, contract.Body[contract.Page[Person]]]{
		ID: "export-people", Service: Service, Method: http.MethodGet, Path: "/v1/users/export",
		Permission: identity.ReadSensitiveData, Class: 3, Summary: "Everybody, with name and address: for data scientists at headquarters with clearance 3",
	}
)

func granting() []contract.Refusal {
	return []contract.Refusal{
		contract.Refuse(fault.Forbidden, "not_on_yourself", "Another admin has to do that to your account"),
		contract.Refuse(fault.Forbidden, "conflicting_roles", "Nobody has these roles at once"),
		contract.Refuse(fault.NotFound, "no_such_user", "There is no such account"),
	}
}
