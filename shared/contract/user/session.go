package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// LoginInput is somebody's claim to an account.
type LoginInput struct {
	Agent  string `header:"User-Agent"`
	Device string `cookie:"__Host-souk-device" maxLength:"64" doc:"As a sign-in has set it: who has signed in from here before is not slowed down by what others try"`
	Body   struct {
		Email    string `json:"email" minLength:"1" maxLength:"254" example:"alice@souk.example"`
		Password string `json:"password" minLength:"1" maxLength:"128" example:"open-sesame-1001"`
	}
}

// RefreshTokenInput shows a refresh token, to use it or to give it up.
type RefreshTokenInput struct {
	Body struct {
		RefreshToken string `json:"refresh_token" minLength:"1" maxLength:"128" example:"b2theS1yZWZyZXNoLXRva2Vu"`
	}
}

// Tokens are what a person who has signed in holds.
type Tokens struct {
	AccessToken  string `json:"access_token" doc:"To be sent as Authorization: Bearer" example:"eyJhbGciOiJFUzI1NiJ9.e30.c2ln"`
	TokenType    string `json:"token_type" example:"Bearer"`
	ExpiresIn    int64  `json:"expires_in" doc:"Seconds that the access token is good for" example:"600"`
	RefreshToken string `json:"refresh_token" doc:"Good once, for new tokens; keep it as secret as a password" example:"b2theS1yZWZyZXNoLXRva2Vu"`
	User         User   `json:"user"`
}

// TokensOutput carries Tokens, past every cache.
type TokensOutput struct {
	CacheControl string `header:"Cache-Control"`
	SetCookie    string `header:"Set-Cookie"`
	Body         Tokens
}

// JWK is a public key that access tokens are verified with (RFC 7517).
type JWK struct {
	KeyType   string `json:"kty" example:"EC"`
	Curve     string `json:"crv" example:"P-256"`
	X         string `json:"x" example:"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"`
	Y         string `json:"y" example:"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	KeyID     string `json:"kid" example:"2026-01"`
	Use       string `json:"use" example:"sig"`
	Algorithm string `json:"alg" example:"ES256"`
}

// KeysOutput is the set of those keys.
type KeysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Keys []JWK `json:"keys"`
	}
}

// Session is a sign-in of somebody, and what follows from it on the same device.
type Session struct {
	ID        uuid.UUID `json:"id" format:"uuid"`
	Current   bool      `json:"current" doc:"The one that asks"`
	Method    string    `json:"method" example:"password" doc:"How its owner signed in: password, or an identity provider's name"`
	Device    string    `json:"device" example:"Firefox on Linux" doc:"What the device called itself; anybody can claim that"`
	Network   string    `json:"network" example:"192.0.2.0/24" doc:"From where it was used last; empty where that is not known"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at" doc:"When it signed in or refreshed last"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ListSessionsInput asks for a page of sessions.
type ListSessionsInput struct{ contract.Paging }

// SetPasswordInput changes a password.
type SetPasswordInput struct {
	Agent string `header:"User-Agent"`
	Body  struct {
		Current  string `json:"current_password" minLength:"1" maxLength:"128" example:"open-sesame-1001"`
		Password string `json:"password" minLength:"10" maxLength:"128" doc:"Any characters; taken exactly as sent" example:"correct horse battery staple"`
	}
}

// RevocationsInput asks for what was called back after a cursor.
type RevocationsInput struct {
	After string `query:"after" maxLength:"40"`
}

// Revocations are what was called back lately.
type Revocations struct {
	Items []identity.Revocation `json:"items"`
	Next  string                `json:"next" example:"4711" doc:"The cursor to ask with next time"`
}

// StandingInput names a token by what it says.
type StandingInput struct {
	User    uuid.UUID `path:"id" format:"uuid"`
	Session uuid.UUID `query:"session"`
	Version int64     `query:"version"`
}

// The routes that other services ask.
var (
	ListRevocations = contract.Route[RevocationsInput, contract.Body[Revocations]]{
		ID: "list-revocations", Service: Service, Method: http.MethodGet, Path: "/internal/v1/revocations",
		Permission: identity.Internal, Quiet: true, Summary: "The access tokens that were called back lately",
	}
	GetStanding = contract.Route[StandingInput, contract.None]{
		ID: "get-standing", Service: Service, Method: http.MethodGet, Path: "/internal/v1/users/{id}/standing", Status: http.StatusNoContent,
		Permission: identity.Internal, Quiet: true, Summary: "Whether an access token is good at this moment",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "token_revoked", "The session has ended, or what its owner may do has changed"),
		},
	}
)

// The routes of sessions. The three POSTs take no Idempotency-Key: they make nothing that a client would mind to have
// twice, and to answer a repetition with the stored answer would be to store tokens. So nobody on the way may repeat
// them either: a refresh whose answer was lost ends in a new login, never in a second use of the token.
var (
	Login = contract.Route[LoginInput, TokensOutput]{
		ID: "login", Service: Service, Method: http.MethodPost, Path: "/v1/auth/login",
		Permission: identity.Public, Summary: "Sign in",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "invalid_credentials", "The e-mail address or the password is not right"),
			contract.Refuse(fault.Exhausted, "too_many_tries", "Too many tries at this account, or from there: come back after Retry-After"),
			contract.Refuse(fault.Unavailable, "overloaded", "Too many people are signing in just now"),
		},
	}
	Refresh = contract.Route[RefreshTokenInput, TokensOutput]{
		ID: "refresh", Service: Service, Method: http.MethodPost, Path: "/v1/auth/refresh",
		Permission: identity.Public, Summary: "New tokens for a refresh token, which is used up",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "invalid_refresh_token", "The refresh token is not valid, or was used: sign in again"),
		},
	}
	Logout = contract.Route[RefreshTokenInput, contract.None]{
		ID: "logout", Service: Service, Method: http.MethodPost, Path: "/v1/auth/logout", Status: http.StatusNoContent,
		Permission: identity.Public, Summary: "End the session that a refresh token belongs to",
	}
	ListSessions = contract.Route[ListSessionsInput, contract.Body[contract.Page[Session]]]{
		ID: "list-sessions", Service: Service, Method: http.MethodGet, Path: "/v1/users/me/sessions",
		Permission: identity.SignedIn, Summary: "Where you are signed in, newest first",
	}
	EndSession = contract.Route[contract.ByID, contract.None]{
		ID: "end-session", Service: Service, Method: http.MethodDelete, Path: "/v1/users/me/sessions/{id}", Status: http.StatusNoContent,
		Permission: identity.SignedIn, Fresh: true, Summary: "End one of your sessions; this one too",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.NotFound, "no_such_session", "There is no such session of yours, or it has ended"),
		},
	}
	EndOtherSessions = contract.Route[contract.None, contract.None]{
		ID: "end-other-sessions", Service: Service, Method: http.MethodDelete, Path: "/v1/users/me/sessions", Status: http.StatusNoContent,
		Permission: identity.SignedIn, Fresh: true, Summary: "End all of your sessions but this one",
	}
	SetPassword = contract.Route[SetPasswordInput, TokensOutput]{
		ID: "set-password", Service: Service, Method: http.MethodPut, Path: "/v1/users/me/password",
		Permission: identity.SignedIn, Fresh: true, Summary: "Change your password; all sessions end, and a new one begins",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "invalid_credentials", "The current password is not right"),
			contract.Refuse(fault.Exhausted, "too_many_tries", "Too many tries at the current password: come back after Retry-After"),
			contract.Refuse(fault.Invalid, "breached_password", "The new password is among those that are tried first"),
			contract.Refuse(fault.Unavailable, "overloaded", "Too many people are signing in just now"),
		},
	}
	Keys = contract.Route[contract.None, KeysOutput]{
		ID: "get-keys", Service: Service, Method: http.MethodGet, Path: "/.well-known/jwks.json",
		Permission: identity.Public, Summary: "The keys that access tokens are verified with",
	}
)
