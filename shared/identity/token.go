package identity

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"souk/shared/fault"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

const (
	// AccessTokenLife is how long an access token is good for. Short, because what was called back is to be remembered for so
	// long, and because whoever cannot hear of it takes the token until then.
	AccessTokenLife = 10 * time.Minute

	// DelegatedTokenLife is how long a token is good for that the gateway has swapped another's program's opaque one for.
	DelegatedTokenLife = 2 * time.Minute

	issuer     = "souk"
	audience   = "shop-api"
	tokenType  = "at+jwt"         // RFC 9068: an access token, never an id token
	clockSkew  = 30 * time.Second // machines' clocks differ by less
	tokenBytes = 8 << 10          // a longer one is refused unread
)

type claims struct {
	jwt.RegisteredClaims
	SessionID uuid.UUID        `json:"sid"`
	Roles     []Role           `json:"roles"`
	Location  string           `json:"loc,omitzero"`
	Clearance int64            `json:"clr,omitzero"`
	Version   int64            `json:"av,omitzero"`
	ClientID  string           `json:"client_id,omitzero"`
	AuthTime  *jwt.NumericDate `json:"auth_time,omitzero"`
	Methods   []string         `json:"amr,omitzero"`
	Scope     string           `json:"scope,omitzero"` // RFC 8693: separated by spaces
}

// ownClient is the client of tokens that the shop gives to its own pages and customers.
const ownClient = "souk"

// Sign makes p's access token, good from now for as long as TokenLife says, under the key named kid (ES256, so key is on P-256).
func Sign(p Principal, key *ecdsa.PrivateKey, kid string, now time.Time) (string, error) {
	var authTime *jwt.NumericDate
	if !p.AuthTime.IsZero() {
		authTime = jwt.NewNumericDate(p.AuthTime)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: p.UserID.String(), ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(p.TokenLife(now))),
		},
		SessionID: p.SessionID, Roles: p.Roles, Location: p.Location, Clearance: p.Clearance, Version: p.Version,
		ClientID: cmp.Or(p.Client, ownClient), Scope: strings.Join(p.Scopes, " "), AuthTime: authTime, Methods: p.Methods,
	})
	t.Header["typ"], t.Header["kid"] = tokenType, kid
	return t.SignedString(key)
}

// Verifier turns a token into the principal who holds it. It is safe for concurrent use.
type Verifier struct {
	keys   jwt.Keyfunc
	parser *jwt.Parser
	feed   *Feed
	ask    func(context.Context, Principal) error
}

// NewVerifier verifies with the keys that keys finds; now is the clock.
func NewVerifier(keys jwt.Keyfunc, now func() time.Time) *Verifier {
	return &Verifier{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding(), jwt.WithTimeFunc(now),
	)}
}

// Heed makes v refuse what feed knows to be called back. Call it before the first Verify.
func (v *Verifier) Heed(feed *Feed) { v.feed = feed }

// Ask makes v's Online ask who knows: ask gives Revoked where p's session has ended, or its account may not do any more
// what its token says. Call it before the first Online.
func (v *Verifier) Ask(ask func(context.Context, Principal) error) { v.ask = ask }

// Online asks whether p's token is good at this moment, for what must not be done on the word of a token that was called
// back a second ago. The error is Unauthenticated, code token_revoked, or Unavailable where nobody could be asked: such
// things are then not done. A verifier that has nobody to ask trusts the token.
func (v *Verifier) Online(ctx context.Context, p Principal) error {
	if v.ask == nil {
		return nil
	}
	return v.ask(ctx, p)
}

// Recheck is what Verify finds out anew of the principal of a token that it has verified before: whether it has been
// called back. That costs a look into a map or three.
func (v *Verifier) Recheck(p Principal) error {
	if v.feed == nil {
		return nil
	}
	return v.feed.refuses(p)
}

// RemoteKeys finds verification keys in the JWKS at url, fetched with client and kept fresh until ctx ends. It does not
// wait for the first fetch: a service starts while the one that signs is still away. A key id never seen before causes
// a fetch, at most one every five seconds, so that garbage cannot make us flood the signer; five a second as long as no
// key has been fetched at all, because no token can be verified until then.
func RemoteKeys(ctx context.Context, url string, client *http.Client, log *slog.Logger) (jwt.Keyfunc, error) {
	fetches := rate.NewLimiter(rate.Every(200*time.Millisecond), 1)
	rarely := sync.OnceFunc(func() { fetches.SetLimit(rate.Every(5 * time.Second)) })
	k, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{url}, keyfunc.Override{
		Client: client, HTTPTimeout: 3 * time.Second, RefreshInterval: 5 * time.Minute,
		RefreshUnknownKID: fetches, RateLimitWaitMax: 250 * time.Millisecond,
		RefreshErrorHandlerFunc: func(u string) func(context.Context, error) {
			return func(_ context.Context, err error) { log.Debug("fetch signing keys", "url", u, "error", err) }
		},
	})
	if err != nil {
		return nil, err
	}
	return func(t *jwt.Token) (any, error) {
		key, err := k.KeyfuncCtx(ctx)(t)
		if err == nil {
			rarely()
			return key, nil
		}
		if known, readErr := k.Storage().KeyReadAll(ctx); readErr == nil && len(known) == 0 {
			return nil, fault.New(fault.Unavailable, "", "access tokens cannot be verified just now").Because(err)
		}
		return nil, err
	}, nil
}

// Verify gives the principal of a token. Everything that is wrong with it is Unauthenticated: code token_expired where
// a new one would help, token_revoked where it was called back, invalid_token otherwise. While no key has ever been fetched,
// or nothing heard of what is called back, it is Unavailable. The order of the checks is cheap before dear: length and shape,
// then algorithm, key, signature, type, issuer, audience and times, and last what was called back.
func (v *Verifier) Verify(token string) (Principal, error) {
	if len(token) > tokenBytes || strings.Count(token, ".") != 2 {
		return Principal{}, invalid(errors.New("not a compact JWS"))
	}
	var c claims
	t, err := v.parser.ParseWithClaims(token, &c, v.keys)
	switch {
	case fault.Is(err, fault.Unavailable): // no keys: that says nothing about the token
		return Principal{}, err
	case errors.Is(err, jwt.ErrTokenExpired):
		return Principal{}, fault.New(fault.Unauthenticated, "token_expired", "the access token has expired").Because(err)
	case err != nil:
		return Principal{}, invalid(err)
	}
	if typ, _ := t.Header["typ"].(string); !strings.EqualFold(typ, tokenType) {
		return Principal{}, invalid(errors.New("not an access token"))
	}
	id, err := uuid.Parse(c.Subject)
	if err != nil || id == uuid.Nil {
		return Principal{}, invalid(errors.New("subject is no user id"))
	}
	p := Principal{
		UserID: id, Roles: c.Roles, SessionID: c.SessionID, Location: c.Location, Clearance: c.Clearance, Version: c.Version, Methods: c.Methods,
		Scopes: strings.Fields(c.Scope), token: token, expires: c.ExpiresAt.Time,
	}
	if c.ClientID != ownClient {
		p.Client = c.ClientID
	}
	p.key, _ = t.Header["kid"].(string)
	if c.AuthTime != nil {
		p.AuthTime = c.AuthTime.Time
	}
	if v.feed == nil {
		return p, nil
	}
	if err := v.feed.await(); err != nil {
		return Principal{}, err
	}
	if err := v.feed.refuses(p); err != nil {
		return Principal{}, err
	}
	return p, nil
}

func invalid(cause error) error {
	return fault.New(fault.Unauthenticated, "invalid_token", "the access token is not valid").Because(cause)
}
