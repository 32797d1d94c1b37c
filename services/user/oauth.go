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
	"souk/shared/postgres"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"github.com/zitadel/schema"
	"gorm.io/gorm"
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

// opStore is op.Storage on our tables.
type opStore struct{ s *Service }

// CreateAuthRequest notes what a program asks for, whose client and redirect URI have been checked. Without PKCE by S256 it
// is refused, for every program.
func (o *opStore) CreateAuthRequest(ctx context.Context, in *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	switch n := len(in.CodeChallenge); {
	case in.ResponseType != oidc.ResponseTypeCode:
		return nil, oidc.ErrUnsupportedGrantType().WithDescription("only codes are given here")
	case in.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || n < 43 || n > 128:
		return nil, oidc.ErrInvalidRequest().WithDescription("a code_challenge of 43 to 128 characters with method S256 is required")
	case in.ResponseMode != "" && in.ResponseMode != oidc.ResponseModeQuery:
		return nil, oidc.ErrInvalidRequest().WithDescription("only response_mode query is supported")
	case len(in.State) > 500 || len(in.Nonce) > 500:
		return nil, oidc.ErrInvalidRequest().WithDescription("state and nonce have at most 500 characters")
	case slices.Contains(in.Prompt, oidc.PromptNone):
		return nil, oidc.ErrLoginRequired()
	}
	a := ask{
		ID: uuid.Must(uuid.NewV7()), ClientID: in.ClientID, RedirectURI: in.RedirectURI, State: in.State, Nonce: in.Nonce, Challenge: in.CodeChallenge,
	}
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		c, err := findClient(tx, in.ClientID)
		if err != nil {
			return err
		}
		a.Scopes = strings.Join(slices.DeleteFunc(slices.Clone([]string(in.Scopes)), func(scope string) bool { return !opClient{c}.IsScopeAllowed(scope) }), " ")
		return tx.Exec(`INSERT INTO oauth_request (id, client_id, redirect_uri, state, nonce, challenge, scopes, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			a.ID, a.ClientID, a.RedirectURI, a.State, a.Nonce, a.Challenge, a.Scopes, o.s.now().Add(askLife)).Error
	})
	return asCode(a), err
}

func asCode(a ask) op.AuthRequest {
	return opCode{&opRequest{ask: a, scopes: strings.Fields(a.Scopes)}}
}

// AuthRequestByID is a request that has no code yet.
func (o *opStore) AuthRequestByID(ctx context.Context, id string) (op.AuthRequest, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return nil, errNoRequest
	}
	var a ask
	err = postgres.Found(o.s.db.WithContext(ctx).Raw("SELECT "+askColumns+" FROM oauth_request WHERE id = ? AND code IS NULL AND expires_at > ?",
		parsed, o.s.now()).Scan(&a), errNoRequest)
	return asCode(a), err
}

// SaveAuthCode gives a request its code, once.
func (o *opStore) SaveAuthCode(ctx context.Context, id, code string) error {
	return postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		return postgres.Found(tx.Exec("UPDATE oauth_request SET code = ?, code_until = ? WHERE id = ? AND code IS NULL AND user_id IS NOT NULL",
			digest(code), o.s.now().Add(codeLife), id), errNoRequest)
	})
}

// AuthRequestByCode uses a code up, whatever comes of it: a program that does not know its verifier does not try again. A
// code that comes a second time has been copied, and ends what it was exchanged for, or will be.
func (o *opStore) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	var a ask
	var found bool
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		res := tx.Raw("UPDATE oauth_request SET used_at = ? WHERE code = ? AND used_at IS NULL AND code_until > ? RETURNING "+askColumns,
			now, digest(code), now).Scan(&a)
		if found = res.RowsAffected == 1; res.Error != nil || found {
			return res.Error
		}
		var replayed ask
		res = tx.Raw("UPDATE oauth_request SET replayed = true WHERE code = ? AND used_at IS NOT NULL RETURNING "+askColumns, digest(code)).Scan(&replayed)
		if res.Error != nil || res.RowsAffected == 0 {
			return res.Error
		}
		o.s.seen.reused.Inc()
		o.s.log.WarnContext(ctx, "an authorization code was used twice; what came of it is ended", "client", replayed.ClientID)
		_, _, err := endSessions(tx, "reuse", now, "id = ?", replayed.SessionID)
		return err
	})
	if err == nil && !found {
		err = errNoRequest
	}
	return asCode(a), err
}

// DeleteAuthRequest does nothing: a code is remembered for a day, to know it again.
func (*opStore) DeleteAuthRequest(context.Context, string) error { return nil }

// CreateAccessToken begins what a customer has let a program do, without a refresh token.
func (o *opStore) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, expires, err := o.CreateAccessAndRefreshTokens(ctx, r, "")
	return id, expires, err
}

// CreateAccessAndRefreshTokens begins what a customer has let a program do, or goes on with it for a refresh token, which it
// uses up by the statement that Refresh uses.
func (o *opStore) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, shown string) (id, refresh string, expires time.Time, err error) {
	request, ok := r.(*opRequest)
	if code, isCode := r.(opCode); isCode {
		request, ok = code.opRequest, true
	}
	if !ok {
		return "", "", time.Time{}, oidc.ErrUnsupportedGrantType()
	}
	id = randomText()
	var refused bool
	err = postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		expires, refused = now.Add(accessLife), false
		var g grant
		if request.refreshed == nil {
			if g, err = o.s.beginGrant(tx, request, now); err != nil {
				return err
			}
		} else {
			of, fresh, err := useToken(tx, digest(shown), request.ClientID, now)
			if err != nil {
				return err
			}
			if !fresh {
				refused = true // no error: what follows is to be committed
				return o.s.endReused(ctx, tx, shown, now)
			}
			if err := touchSession(tx, of.ID, networkOf(ctx), now); err != nil {
				return err
			}
			g = newGrant(of, digest(shown), now)
			if err := insertToken(tx, g, now); err != nil {
				return err
			}
		}
		refresh = g.token
		return tx.Exec("INSERT INTO oauth_token (digest, session_id, scopes, expires_at) VALUES (?, ?, ?, ?)",
			digest(opaquePrefix+id), g.session.ID, strings.Join(request.scopes, " "), expires).Error
	})
	if err == nil && refused {
		err = oidc.ErrInvalidGrant()
	}
	return id, refresh, expires, err
}

// beginGrant begins the session of a request whose code was shown, unless that was shown again meanwhile.
func (s *Service) beginGrant(tx *gorm.DB, r *opRequest, now time.Time) (grant, error) {
	if err := shareAccount(tx, *r.UserID); err != nil { // as in Login
		return grant{}, err
	}
	a, err := findAccount(tx, *r.UserID)
	if err != nil {
		return grant{}, err
	}
	c, err := findClient(tx, r.ClientID)
	if err != nil || a.State != active {
		return grant{}, errors.Join(err, oidc.ErrInvalidGrant())
	}
	g := newGrant(session{
		ID: uuid.Must(uuid.NewV7()), UserID: a.ID, CreatedAt: now, ExpiresAt: now.Add(sessionLife), Method: "program", Device: c.Name,
		ClientID: &c.ID, Scopes: strings.Join(r.scopes, " "),
	}, nil, now)
	if err := insertSession(tx, g.session, now); err != nil {
		return grant{}, err
	}
	err = postgres.Found(tx.Exec("UPDATE oauth_request SET session_id = ? WHERE id = ? AND NOT replayed", g.session.ID, r.ID), oidc.ErrInvalidGrant())
	if err != nil {
		return grant{}, err
	}
	return g, insertToken(tx, g, now)
}

// endReused ends the session of a refresh token that was used before, and says so.
func (s *Service) endReused(ctx context.Context, tx *gorm.DB, shown string, now time.Time) error {
	ended, err := revokeReused(tx, digest(shown), now)
	if err == nil && ended.ID != uuid.Nil {
		s.seen.reused.Inc()
		s.log.WarnContext(ctx, "a program's refresh token was used twice; its session is ended", "session", ended.ID, "user", ended.UserID)
	}
	return err
}

// TokenRequestByRefreshToken is what a refresh token stands for; it is used up when the new one is made.
func (o *opStore) TokenRequestByRefreshToken(ctx context.Context, shown string) (op.RefreshTokenRequest, error) {
	var r *opRequest
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		var of session
		res := tx.Raw(`SELECT s.id, s.user_id, s.client_id, s.scopes, s.created_at, s.expires_at FROM session s JOIN refresh_token t ON t.session_id = s.id
			WHERE t.digest = ? AND t.used_at IS NULL AND t.expires_at > ? AND s.revoked_at IS NULL AND s.expires_at > ? AND s.client_id IS NOT NULL`,
			digest(shown), now, now).Scan(&of)
		if res.Error != nil {
			return res.Error
		}
		if res.RowsAffected == 0 {
			return o.s.endReused(ctx, tx, shown, now)
		}
		r = &opRequest{
			ask: ask{ClientID: *of.ClientID, UserID: &of.UserID, AuthTime: &of.CreatedAt}, refreshed: &of, scopes: strings.Fields(of.Scopes),
		}
		return nil
	})
	if err == nil && r == nil {
		err = op.ErrInvalidRefreshToken
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// TerminateSession ends all that a user has let a program do.
func (o *opStore) TerminateSession(ctx context.Context, userID, clientID string) error {
	id, err := uuid.Parse(userID)
	if err != nil {
		return err
	}
	_, err = o.s.end(ctx, "user_id = ? AND client_id = ?", id, clientID)
	return err
}

// RevokeToken ends the session of a program's token, whichever kind it is.
func (o *opStore) RevokeToken(ctx context.Context, token, _, clientID string) *oidc.Error {
	_, err := o.s.end(ctx, `client_id = ? AND (id = (SELECT session_id FROM refresh_token WHERE digest = ?) OR id = (SELECT session_id FROM oauth_token WHERE digest = ?))`,
		clientID, digest(token), digest(opaquePrefix+token))
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

// GetRefreshTokenInfo says whose a refresh token is.
func (o *opStore) GetRefreshTokenInfo(ctx context.Context, clientID, token string) (string, string, error) {
	var of session
	err := postgres.Found(o.s.db.WithContext(ctx).Raw(`SELECT s.id, s.user_id FROM session s JOIN refresh_token t ON t.session_id = s.id WHERE t.digest = ? AND s.client_id = ?`,
		digest(token), clientID).Scan(&of), op.ErrInvalidRefreshToken)
	return of.UserID.String(), token, err
}

// opKey is a key for ID tokens.
type opKey struct {
	id  string
	key any
}

func (k opKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k opKey) Algorithm() jose.SignatureAlgorithm          { return jose.ES256 }
func (k opKey) Use() string                                 { return "sig" }
func (k opKey) Key() any                                    { return k.key }
func (k opKey) ID() string                                  { return k.id }

// SigningKey signs ID tokens.
func (o *opStore) SigningKey(context.Context) (op.SigningKey, error) {
	k := o.s.idKeys.Load().active
	return opKey{k.id, k.private}, nil
}

// SignatureAlgorithms is ES256 alone.
func (*opStore) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet is the public halves.
func (o *opStore) KeySet(context.Context) ([]op.Key, error) {
	var keys []op.Key
	for id, k := range o.s.idKeys.Load().byID {
		keys = append(keys, opKey{id, k})
	}
	return keys, nil
}

// GetClientByClientID finds a client.
func (o *opStore) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := findClient(o.s.db.WithContext(ctx), id)
	return opClient{c}, err
}

// AuthorizeClientIDSecret is nil if secret is the client's.
func (o *opStore) AuthorizeClientIDSecret(ctx context.Context, id, secret string) error {
	c, err := findClient(o.s.db.WithContext(ctx), id)
	if err == nil && !c.knows(secret) {
		err = errNoClient
	}
	return err
}

// SetUserinfoFromToken tells a program what its user lets it know.
func (o *opStore) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	t, err := o.s.findOpaque(ctx, opaquePrefix+tokenID)
	if err != nil {
		return err
	}
	return o.tell(ctx, info, t.UserID, strings.Fields(t.Scopes))
}

// SetUserinfoFromRequest adds to an ID token what belongs into it.
func (o *opStore) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	id, err := uuid.Parse(r.GetSubject())
	if err != nil {
		return err
	}
	return o.tell(ctx, info, id, scopes)
}

func (o *opStore) tell(ctx context.Context, info *oidc.UserInfo, id uuid.UUID, scopes []string) error {
	a, err := findAccount(o.s.db.WithContext(ctx), id)
	if err != nil {
		return err
	}
	shown, err := o.s.sealed.show(ctx, a)
	if err != nil {
		return err
	}
	info.Subject = id.String()
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.Name = shown.DisplayName
	}
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email = shown.Email // nobody has verified it, so nothing is said of that
	}
	return nil
}

// SetIntrospectionFromToken tells a program about its own token.
func (o *opStore) SetIntrospectionFromToken(ctx context.Context, out *oidc.IntrospectionResponse, tokenID, _, clientID string) error {
	t, err := o.s.findOpaque(ctx, opaquePrefix+tokenID)
	if err != nil {
		return err
	}
	if t.ClientID != clientID {
		return errOpaque
	}
	out.Subject, out.ClientID, out.Scope = t.UserID.String(), t.ClientID, strings.Fields(t.Scopes)
	out.Expiration = oidc.FromTime(t.ExpiresAt)
	return nil
}

// SetUserinfoFromScopes is not called any more.
func (*opStore) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// GetPrivateClaimsFromScopes is for access tokens that say something; ours do not.
func (*opStore) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}

// GetKeyByIDAndClientID finds none: programs show secrets, not keys.
func (*opStore) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNoClient
}

// ValidateJWTProfileScopes allows none: see GetKeyByIDAndClientID.
func (*opStore) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrUnsupportedGrantType()
}

// Health is the service's own.
func (o *opStore) Health(ctx context.Context) error { return postgres.Ping(ctx, o.s.db) }
