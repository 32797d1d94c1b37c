package user

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Provider is somebody whose word is taken for who somebody is.
type Provider struct {
	Name  string `json:"name" example:"google"`
	Label string `json:"label" example:"Google"`
	Start string `json:"start" example:"/api/v1/auth/providers/google/start" doc:"Where to send the browser"`
}

// ListProvidersOutput is all of them.
type ListProvidersOutput struct {
	Body struct {
		Items []Provider `json:"items"`
	}
}

// StartSignInInput begins a sign-in. The browser comes back to ReturnTo, which is one of a few paths.
type StartSignInInput struct {
	Provider string    `path:"provider" maxLength:"40" example:"google"`
	ReturnTo string    `query:"return_to" enum:"/sign-in,/docs,/ops" doc:"The page to come back to; /sign-in if it is left out"`
	Request  uuid.UUID `query:"request" format:"uuid" doc:"Passed on to that page"`
}

// Redirect sends a browser elsewhere.
type Redirect struct {
	Location     string `header:"Location"`
	SetCookie    string `header:"Set-Cookie"`
	CacheControl string `header:"Cache-Control"`
}

// CallbackInput is what a browser comes back with.
type CallbackInput struct {
	Provider string `path:"provider" maxLength:"40" example:"google"`
	Cookie   string `cookie:"__Host-souk-sign-in" maxLength:"64" doc:"As the start has set it"`
	Code     string `query:"code" maxLength:"4096"`
	State    string `query:"state" maxLength:"256"`
	Issuer   string `query:"iss" maxLength:"1024"`
	Error    string `query:"error" maxLength:"256"`
}

// FinishSignInInput asks for the tokens of a sign-in that has succeeded with the provider.
type FinishSignInInput struct {
	Agent  string `header:"User-Agent"`
	Cookie string `cookie:"__Host-souk-sign-in" maxLength:"64" doc:"As the way back from the provider has set it"`
}

// LinkInput shows that the account with the same e-mail address is the same person's.
type LinkInput struct {
	FinishSignInInput
	Body struct {
		Password string `json:"password" minLength:"1" maxLength:"128" example:"open-sesame-1001"`
	}
}

// The routes of sign-ins with other providers. A browser is sent to start, comes back by way of callback with a cookie, and
// shows that, once, for tokens: they are in no URL.
var (
	ListProviders = contract.Route[contract.None, ListProvidersOutput]{
		ID: "list-providers", Service: Service, Method: http.MethodGet, Path: "/v1/auth/providers",
		Permission: identity.Public, Summary: "With whom one can sign in besides a password",
	}
	StartSignIn = contract.Route[StartSignInInput, Redirect]{
		ID: "start-sign-in", Service: Service, Method: http.MethodGet, Path: "/v1/auth/providers/{provider}/start", Status: http.StatusSeeOther,
		Permission: identity.Public, Summary: "Send the browser to an identity provider",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_provider", "Nobody signs in with that here"),
			contract.Refuse(fault.Unavailable, "provider_unavailable", "The provider does not answer"),
		},
	}
	FinishAtProvider = contract.Route[CallbackInput, Redirect]{
		ID: "sign-in-callback", Service: Service, Method: http.MethodGet, Path: "/v1/auth/providers/{provider}/callback", Status: http.StatusSeeOther,
		Permission: identity.Public, Summary: "Where an identity provider sends the browser back to",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Malformed, "sign_in_failed", "It is not the answer to a sign-in that this browser has begun, or the provider refused: begin anew"),
			contract.Refuse(fault.NotFound, "no_such_provider", "Nobody signs in with that here"),
			contract.Refuse(fault.Unavailable, "provider_unavailable", "The provider does not answer"),
		},
	}
	FinishSignIn = contract.Route[FinishSignInInput, TokensOutput]{
		ID: "finish-sign-in", Service: Service, Method: http.MethodPost, Path: "/v1/auth/providers/session",
		Permission: identity.Public, Summary: "Tokens for a sign-in that a provider has vouched for; the first one opens an account",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "no_sign_in", "This browser has no sign-in to finish, or it took too long"),
			contract.Refuse(fault.Forbidden, "account_disabled", "The account is disabled"),
			contract.Refuse(fault.Conflict, "link_required", "There is an account with this e-mail address: show that it is yours"),
			contract.Refuse(fault.Conflict, "email_unverified", "The provider does not vouch for an e-mail address"),
		},
	}
	LinkSignIn = contract.Route[LinkInput, TokensOutput]{
		ID: "link-sign-in", Service: Service, Method: http.MethodPost, Path: "/v1/auth/providers/link",
		Permission: identity.Public, Summary: "Link the provider's account with the one here that has the same e-mail address, and sign in",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "no_sign_in", "This browser has no sign-in to finish, or it took too long"),
			contract.Refuse(fault.Unauthenticated, "invalid_credentials", "The password is not that of the account"),
			contract.Refuse(fault.Exhausted, "too_many_tries", "Too many tries at this account, or from there: come back after Retry-After"),
			contract.Refuse(fault.Unavailable, "overloaded", "Too many people are signing in just now"),
		},
	}
)
