package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
)

// Client is another people's program, which acts for customers who let it (OAuth 2.0).
type Client struct {
	ID           string    `json:"client_id" example:"soc-0198c7a2"`
	Name         string    `json:"name" example:"Tea diary"`
	RedirectURIs []string  `json:"redirect_uris" example:"https://tea.example/callback"`
	Scopes       []string  `json:"scopes" example:"openid" doc:"What it may ask for"`
	Confidential bool      `json:"confidential" doc:"It has a secret"`
	CreatedAt    time.Time `json:"created_at"`
}

// NewClient is a Client with its secret, which is shown once.
type NewClient struct {
	Client
	Secret string `json:"client_secret" example:"scs_c2VjcmV0" doc:"Shown once; empty for a program that can keep none"`
}

// RegisterClientInput is what an admin says of a program.
type RegisterClientInput struct {
	Body struct {
		Name         string   `json:"name" minLength:"1" maxLength:"100" example:"Tea diary"`
		RedirectURIs []string `json:"redirect_uris" minItems:"1" maxItems:"10" example:"https://tea.example/callback" doc:"Letter for letter; https, or http on the machine of who uses it"`
		Scopes       []string `json:"scopes" minItems:"1" maxItems:"10" enum:"openid,profile,email,offline_access,orders.read,payments.read,wishlists.read" example:"openid"`
		Confidential bool     `json:"confidential" doc:"It runs where it can keep a secret"`
	}
}

// RemoveClientInput names a client.
type RemoveClientInput struct {
	ID string `path:"id" maxLength:"60" example:"soc-0198c7a2"`
}

// ScopeMeaning is a scope, and what it lets a program do.
type ScopeMeaning struct {
	Scope   string `json:"scope" example:"orders.read"`
	Meaning string `json:"meaning" example:"See your orders"`
}

// OAuthRequest is what a program asks a customer for.
type OAuthRequest struct {
	Client       string         `json:"client" example:"Tea diary"`
	RedirectHost string         `json:"redirect_host" example:"tea.example"`
	Scopes       []ScopeMeaning `json:"scopes"`
}

// Elsewhere is where the browser goes from here.
type Elsewhere struct {
	Location string `json:"location" example:"https://tea.example/callback?code=…"`
}

// ExchangeInput is an opaque token of a program.
type ExchangeInput struct {
	Body struct {
		Token string `json:"token" maxLength:"100" example:"sot_b3BhcXVl"`
	}
}

// Exchanged is the token that services take in its place.
type Exchanged struct {
	AccessToken string `json:"access_token" example:"eyJhbGciOiJFUzI1NiJ9.e30.c2ln"`
}

// The routes of other people's programs. What OAuth 2.0 and OpenID Connect say themselves is under /oauth; see
// /.well-known/openid-configuration.
var (
	RegisterClient = contract.Route[RegisterClientInput, contract.Created[NewClient]]{
		ID: "register-client", Service: Service, Method: http.MethodPost, Path: "/v1/oauth/clients", Status: http.StatusCreated,
		Permission: identity.ManageClients, Summary: "Let a program ask customers for access",
		Refuses: []contract.Refusal{contract.Refuse(fault.Invalid, "", "A redirect URI is not https, or has something in it that none should")},
	}
	ListClients = contract.Route[contract.None, contract.Body[contract.Page[Client]]]{
		ID: "list-clients", Service: Service, Method: http.MethodGet, Path: "/v1/oauth/clients",
		Permission: identity.ManageClients, Summary: "The programs that may ask, newest first",
	}
	RemoveClient = contract.Route[RemoveClientInput, contract.None]{
		ID: "remove-client", Service: Service, Method: http.MethodDelete, Path: "/v1/oauth/clients/{id}", Status: http.StatusNoContent,
		Permission: identity.ManageClients, Summary: "Let a program ask no more, and end all that it was let do",
		Refuses: []contract.Refusal{contract.Refuse(fault.NotFound, "no_such_client", "There is no such program")},
	}
	GetOAuthRequest = contract.Route[contract.ByID, contract.Body[OAuthRequest]]{
		ID: "get-oauth-request", Service: Service, Method: http.MethodGet, Path: "/v1/oauth/requests/{id}",
		Permission: identity.SignedIn, Summary: "What a program asks you for",
		Refuses: []contract.Refusal{contract.Refuse(fault.NotFound, "no_such_request", "Nobody asks that, or not any more")},
	}
	ApproveOAuthRequest = contract.Route[contract.ByID, contract.Body[Elsewhere]]{
		ID: "approve-oauth-request", Service: Service, Method: http.MethodPost, Path: "/v1/oauth/requests/{id}/approve",
		Permission: identity.SignedIn, Fresh: true, Summary: "Let a program do what it asks for",
		Refuses: []contract.Refusal{contract.Refuse(fault.NotFound, "no_such_request", "Nobody asks that, or not any more")},
	}
	DenyOAuthRequest = contract.Route[contract.ByID, contract.Body[Elsewhere]]{
		ID: "deny-oauth-request", Service: Service, Method: http.MethodPost, Path: "/v1/oauth/requests/{id}/deny",
		Permission: identity.SignedIn, Summary: "Do not",
		Refuses: []contract.Refusal{contract.Refuse(fault.NotFound, "no_such_request", "Nobody asks that, or not any more")},
	}
	ExchangeToken = contract.Route[ExchangeInput, contract.Body[Exchanged]]{
		ID: "exchange-token", Service: Service, Method: http.MethodPost, Path: "/internal/v1/oauth/exchange",
		Permission: identity.Internal, Summary: "The access token that services take for a program's opaque one",
		Refuses: []contract.Refusal{contract.Refuse(fault.Unauthenticated, "invalid_token", "It is none of ours, has expired, or was called back")},
	}
)
