package user

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
)

// LoginInput is somebody's claim to an account.
type LoginInput struct {
	Body struct {
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

// The routes of sessions. The three POSTs take no Idempotency-Key: they make nothing that a client would mind to have
// twice, and to answer a repetition with the stored answer would be to store tokens. So nobody on the way may repeat
// them either: a refresh whose answer was lost ends in a new login, never in a second use of the token.
var (
	Login = contract.Route[LoginInput, TokensOutput]{
		ID: "login", Service: Service, Method: http.MethodPost, Path: "/v1/auth/login",
		Permission: identity.Public, Summary: "Sign in",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Unauthenticated, "invalid_credentials", "The e-mail address or the password is not right"),
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
	Keys = contract.Route[contract.None, KeysOutput]{
		ID: "get-keys", Service: Service, Method: http.MethodGet, Path: "/.well-known/jwks.json",
		Permission: identity.Public, Summary: "The keys that access tokens are verified with",
	}
)
