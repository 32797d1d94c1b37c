package user

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"souk/shared/fault"
	"souk/shared/httpapi"

	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"github.com/zitadel/schema"
)

// Souk is an OAuth 2.0 and OpenID provider for other people's programs: zitadel/oidc speaks the protocol, and what is below
// keeps its state and narrows it. Codes only, with PKCE by S256 whoever asks; redirect URIs letter for letter; a code is good
// once and for a minute, a refresh token once; either one again ends all that came of it. Access tokens are opaque, known here
// by their digests, and swapped at the gateway.
const (
	authorizePath = "/oauth/authorize"
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/oauth/keys"
	opaquePrefix  = "sot_"
	codePrefix    = "soa_"
	accessLife    = 10 * time.Minute
	idTokenLife   = 5 * time.Minute
)

// oauth is the provider, as zitadel/oidc asks for it. That library's own op.Provider is not taken: it brings ways of answering
// that nobody gets here, among them an HTML template, and a program with templates in it keeps every method of everything (10 MB).
type oauth struct {
	store   *opStore
	issuer  string
	decoder *schema.Decoder
	encoder *schema.Encoder
	paths   map[string]http.HandlerFunc
}

// newProvider makes the provider; nil where the shop does not know where browsers find it.
func (s *Service) newProvider() (*oauth, error) {
	if s.publicURL == "" {
		return nil, nil
	}
	here := strings.HasPrefix(s.publicURL, "http://127.0.0.1") || strings.HasPrefix(s.publicURL, "http://localhost")
	if err := op.ValidateIssuer(s.publicURL, here); err != nil {
		return nil, err
	}
	o := &oauth{store: &opStore{s}, issuer: s.publicURL, decoder: schema.NewDecoder(), encoder: oidc.NewEncoder()}
	o.decoder.IgnoreUnknownKeys(true)
	o.paths = map[string]http.HandlerFunc{
		discoveryPath:               o.discover,
		authorizePath:               func(w http.ResponseWriter, r *http.Request) { op.Authorize(w, r, o) },
		authorizePath + "/callback": o.callback,
		"/oauth/token":              func(w http.ResponseWriter, r *http.Request) { op.Exchange(w, r, o) },
		"/oauth/userinfo":           func(w http.ResponseWriter, r *http.Request) { op.Userinfo(w, r, o) },
		"/oauth/revoke":             func(w http.ResponseWriter, r *http.Request) { op.Revoke(w, r, o) },
		"/oauth/introspect":         func(w http.ResponseWriter, r *http.Request) { op.Introspect(w, r, o) },
		"/oauth/end-session":        func(w http.ResponseWriter, r *http.Request) { op.EndSession(w, r, o) },
		keysPath:                    func(w http.ResponseWriter, r *http.Request) { op.Keys(w, r, o.store) },
	}
	return o, nil
}

// ServeHTTP answers what is OAuth's and no operation of ours.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.oauth == nil || s.oauth.paths[r.URL.Path] == nil {
		httpapi.Problem(w, r, fault.New(fault.NotFound, "no_such_path", "there is nothing at this path"))
		return
	}
	httpapi.NameRoute(r.Context(), r.URL.Path)
	if r.URL.Path != discoveryPath && r.URL.Path != keysPath {
		w.Header().Set("Cache-Control", noStore)
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	s.oauth.paths[r.URL.Path](w, r.WithContext(op.ContextWithIssuer(r.Context(), s.oauth.issuer)))
}

// discover tells what there is.
func (o *oauth) discover(w http.ResponseWriter, r *http.Request) {
	confidential := []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost}
	op.Discover(w, &oidc.DiscoveryConfiguration{
		Issuer:                                    o.issuer,
		AuthorizationEndpoint:                     o.issuer + authorizePath,
		TokenEndpoint:                             o.issuer + "/oauth/token",
		UserinfoEndpoint:                          o.issuer + "/oauth/userinfo",
		RevocationEndpoint:                        o.issuer + "/oauth/revoke",
		IntrospectionEndpoint:                     o.issuer + "/oauth/introspect",
		EndSessionEndpoint:                        o.issuer + "/oauth/end-session",
		JwksURI:                                   o.issuer + keysPath,
		ScopesSupported:                           []string{"openid", "profile", "email", "offline_access", "orders.read", "payments.read", "wishlists.read"},
		ResponseTypesSupported:                    []string{string(oidc.ResponseTypeCode)},
		ResponseModesSupported:                    []string{string(oidc.ResponseModeQuery)},
		GrantTypesSupported:                       []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken},
		CodeChallengeMethodsSupported:             []oidc.CodeChallengeMethod{oidc.CodeChallengeMethodS256},
		SubjectTypesSupported:                     []string{"public"},
		IDTokenSigningAlgValuesSupported:          op.SigAlgorithms(r.Context(), o.store),
		TokenEndpointAuthMethodsSupported:         append([]oidc.AuthMethod{oidc.AuthMethodNone}, confidential...),
		RevocationEndpointAuthMethodsSupported:    append([]oidc.AuthMethod{oidc.AuthMethodNone}, confidential...),
		IntrospectionEndpointAuthMethodsSupported: confidential,
		ClaimsSupported:                           []string{"sub", "aud", "exp", "iat", "iss", "auth_time", "nonce", "at_hash", "azp", "name", "email", "email_verified"},
	})
}

// callback sends the browser of somebody who has agreed back to the program, with a code.
func (o *oauth) callback(w http.ResponseWriter, r *http.Request) {
	id, err := op.ParseAuthorizeCallbackRequest(r)
	if err != nil {
		op.AuthRequestError(w, r, nil, err, o)
		return
	}
	request, err := o.store.AuthRequestByID(r.Context(), id)
	if err != nil {
		op.AuthRequestError(w, r, nil, err, o)
		return
	}
	to := ""
	if err = oidc.ErrInteractionRequired(); request.Done() {
		if _, err = o.store.GetClientByClientID(r.Context(), request.GetClientID()); err == nil {
			to, err = op.BuildAuthResponseCallbackURL(r.Context(), request, o)
		}
	}
	if err != nil {
		op.AuthRequestError(w, r, request, err, o)
		return
	}
	http.Redirect(w, r, to, http.StatusFound)
}

func (o *oauth) Storage() op.Storage              { return o.store }
func (o *oauth) Decoder() httphelper.Decoder      { return o.decoder }
func (o *oauth) Encoder() httphelper.Encoder      { return o.encoder }
func (o *oauth) Crypto() op.Crypto                { return tokenForm{} }
func (o *oauth) Logger() *slog.Logger             { return slog.Default() }
func (o *oauth) DefaultLogoutRedirectURI() string { return "/sign-in" }

func (o *oauth) AccessTokenVerifier(context.Context) *op.AccessTokenVerifier {
	return op.NewAccessTokenVerifier(o.issuer, &op.OpenIDKeySet{Storage: o.store})
}

func (o *oauth) IDTokenHintVerifier(context.Context) *op.IDTokenHintVerifier {
	return op.NewIDTokenHintVerifier(o.issuer, &op.OpenIDKeySet{Storage: o.store})
}

// What is done of the protocol, and what is not.
func (o *oauth) AuthMethodPostSupported() bool             { return true }
func (o *oauth) GrantTypeRefreshTokenSupported() bool      { return true }
func (o *oauth) AuthMethodPrivateKeyJWTSupported() bool    { return false }
func (o *oauth) GrantTypeTokenExchangeSupported() bool     { return false }
func (o *oauth) GrantTypeJWTAuthorizationSupported() bool  { return false }
func (o *oauth) GrantTypeClientCredentialsSupported() bool { return false }
func (o *oauth) GrantTypeDeviceCodeSupported() bool        { return false }
func (o *oauth) RequestObjectSupported() bool              { return false }

// tokenForm is how tokens and codes look. Nothing is encrypted in them: they are random, and what they stand for is found by
// their digests.
type tokenForm struct{}

// Encrypt makes an access token of "id:user", and a new code of the id of a request.
func (tokenForm) Encrypt(text string) (string, error) {
	if id, _, isToken := strings.Cut(text, ":"); isToken {
		return opaquePrefix + id, nil
	}
	return codePrefix + randomText(), nil
}

// Decrypt gives the id of an access token again, and no user: the token's row says whose it is.
func (tokenForm) Decrypt(token string) (string, error) {
	id, ok := strings.CutPrefix(token, opaquePrefix)
	if !ok || strings.Contains(id, ":") {
		return "", errors.New("not a token of ours")
	}
	return id + ":", nil
}

// opClient is a client as zitadel/oidc asks for it.
type opClient struct{ client }

func (c opClient) GetID() string                       { return c.ID }
func (c opClient) RedirectURIs() []string              { return strings.Fields(c.RedirectUris) }
func (c opClient) PostLogoutRedirectURIs() []string    { return nil }
func (c opClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb } // redirect URIs letter for letter
func (c opClient) LoginURL(id string) string           { return "/sign-in?request=" + id }
func (c opClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (c opClient) IDTokenLifetime() time.Duration      { return idTokenLife }
func (c opClient) DevMode() bool                       { return false }
func (c opClient) IsScopeAllowed(scope string) bool {
	return slices.Contains(strings.Fields(c.Scopes), scope)
}
func (c opClient) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c opClient) ClockSkew() time.Duration             { return 0 }
func (c opClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c opClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}

func (c opClient) AuthMethod() oidc.AuthMethod {
	if c.Secret == nil {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

// RestrictAdditionalIdTokenScopes is written as the interface has it.
func (c opClient) RestrictAdditionalIdTokenScopes() func([]string) []string { //nolint:staticcheck // see above
	return none
}
func (c opClient) RestrictAdditionalAccessTokenScopes() func([]string) []string { return none }

func none([]string) []string { return nil }

// opRequest is a request, or a grant whose refresh token was shown, as zitadel/oidc asks for it.
type opRequest struct {
	ask
	refreshed *session // whose token was shown; nil for a request with a code
	scopes    []string
}

func (r *opRequest) GetID() string                    { return r.ID.String() }
func (r *opRequest) GetACR() string                   { return "" }
func (r *opRequest) GetAMR() []string                 { return nil }
func (r *opRequest) GetAudience() []string            { return []string{r.ClientID} }
func (r *opRequest) GetClientID() string              { return r.ClientID }
func (r *opRequest) GetNonce() string                 { return r.Nonce }
func (r *opRequest) GetRedirectURI() string           { return r.RedirectURI }
func (r *opRequest) GetScopes() []string              { return r.scopes }
func (r *opRequest) SetCurrentScopes(scopes []string) { r.scopes = scopes }
func (r *opRequest) GetState() string                 { return r.State }
func (r *opRequest) Done() bool                       { return r.UserID != nil }

func (r *opRequest) GetAuthTime() time.Time {
	if r.AuthTime == nil {
		return time.Time{}
	}
	return *r.AuthTime
}

func (r *opRequest) GetSubject() string {
	if r.UserID == nil {
		return ""
	}
	return r.UserID.String()
}

// opCode is an opRequest with what only a request with a code has. (A refresh that had it would be taken for one.)
type opCode struct{ *opRequest }

func (r opCode) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }
func (r opCode) GetResponseMode() oidc.ResponseMode { return oidc.ResponseModeQuery }
func (r opCode) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.Challenge, Method: oidc.CodeChallengeMethodS256}
}
