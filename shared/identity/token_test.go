package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

func setup(t testing.TB, now time.Time) (*ecdsa.PrivateKey, *identity.Verifier) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := func(tok *jwt.Token) (any, error) { return &key.PublicKey, nil }
	return key, identity.NewVerifier(keys, func() time.Time { return now })
}

func TestVerify_givesBackWhoWasSigned(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key, v := setup(t, now)
	want := identity.Principal{UserID: uuid.New(), Roles: []identity.Role{identity.Customer}, SessionID: uuid.New()}
	token, err := identity.Sign(want, key, "k1", now)
	if err != nil {
		t.Fatal(err)
	}

	got, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if got.UserID != want.UserID || got.SessionID != want.SessionID || !slices.Equal(got.Roles, want.Roles) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if ctx := identity.With(t.Context(), got); identity.Token(ctx) != token {
		t.Error("the token is not there to be passed on")
	}
}

func TestVerify_refuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key, v := setup(t, now)
	stranger, _ := setup(t, now)
	p := identity.Principal{UserID: uuid.New(), Roles: []identity.Role{identity.Admin}}
	good := sign(t, p, key, now)
	registered := jwt.RegisteredClaims{
		Issuer: "souk", Audience: jwt.ClaimStrings{"shop-api"}, Subject: p.UserID.String(),
		ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)),
	}
	with := func(change func(*jwt.RegisteredClaims)) jwt.RegisteredClaims { c := registered; change(&c); return c }

	for name, c := range map[string]struct{ token, code string }{
		"nothing":          {"", "invalid_token"},
		"garbage":          {"a.b.c", "invalid_token"},
		"too long":         {good + strings.Repeat("a", 9000), "invalid_token"},
		"expired":          {sign(t, p, key, now.Add(-time.Hour)), "token_expired"},
		"from the future":  {sign(t, p, key, now.Add(time.Hour)), "invalid_token"},
		"another's key":    {sign(t, p, stranger, now), "invalid_token"},
		"changed claims":   {changed(good), "invalid_token"},
		"alg none":         {mint(t, jwt.SigningMethodNone, "at+jwt", registered, jwt.UnsafeAllowNoneSignatureType), "invalid_token"},
		"alg HS256":        {mint(t, jwt.SigningMethodHS256, "at+jwt", registered, []byte("secret")), "invalid_token"},
		"an id token":      {mint(t, jwt.SigningMethodES256, "JWT", registered, key), "invalid_token"},
		"no expiry":        {mint(t, jwt.SigningMethodES256, "at+jwt", with(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }), key), "invalid_token"},
		"another issuer":   {mint(t, jwt.SigningMethodES256, "at+jwt", with(func(c *jwt.RegisteredClaims) { c.Issuer = "evil" }), key), "invalid_token"},
		"another audience": {mint(t, jwt.SigningMethodES256, "at+jwt", with(func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"x"} }), key), "invalid_token"},
		"no subject":       {mint(t, jwt.SigningMethodES256, "at+jwt", with(func(c *jwt.RegisteredClaims) { c.Subject = "" }), key), "invalid_token"},
	} {
		if _, err := v.Verify(c.token); !fault.Is(err, fault.Unauthenticated) || !fault.HasCode(err, c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
	if _, err := v.Verify(mint(t, jwt.SigningMethodES256, "at+jwt", registered, key)); err != nil {
		t.Errorf("the token that the others are variations of is refused: %v", err)
	}
}

func TestVerify_withoutKeysIsNotTheTokensFault(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key, _ := setup(t, now)
	up, fetched := new(atomic.Bool), new(atomic.Int32)
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		if !up.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		x, y := base64.RawURLEncoding.EncodeToString(key.X.FillBytes(make([]byte, 32))), base64.RawURLEncoding.EncodeToString(key.Y.FillBytes(make([]byte, 32)))
		_, _ = w.Write([]byte(`{"keys":[{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"k1","x":"` + x + `","y":"` + y + `"}]}`))
	}))
	defer jwks.Close()
	keys, err := identity.RemoteKeys(t.Context(), jwks.URL, jwks.Client(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v := identity.NewVerifier(keys, time.Now)
	token := sign(t, identity.Principal{UserID: uuid.New()}, key, now)
	if _, err := v.Verify(token); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without keys: %v", err)
	}
	up.Store(true)
	began := time.Now()
	for deadline := began.Add(20 * time.Second); ; {
		if _, err = v.Verify(token); err == nil || time.Now().After(deadline) {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if took := time.Since(began); err != nil || took > 2*time.Second {
		t.Errorf("with keys: %v after %s: a shop that has just started takes nobody's token until then", err, took)
	}
	// From now on garbage cannot make us flood the signer.
	fetched.Store(0)
	for i := range 200 {
		forged, err := identity.Sign(identity.Principal{UserID: uuid.New()}, key, "unknown"+strconv.Itoa(i), now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(forged); !fault.HasCode(err, "invalid_token") {
			t.Errorf("an unknown key: %v", err)
		}
	}
	if n := fetched.Load(); n > 2 {
		t.Errorf("200 tokens of unknown keys fetched the keys %d times", n)
	}
}

func sign(t *testing.T, p identity.Principal, key *ecdsa.PrivateKey, at time.Time) string {
	t.Helper()
	token, err := identity.Sign(p, key, "k1", at)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mint(t *testing.T, method jwt.SigningMethod, typ string, c jwt.Claims, key any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	tok.Header["typ"] = typ
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func changed(token string) string {
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"souk","aud":["shop-api"],"sub":"` + uuid.NewString() + `","exp":99999999999}`))
	return strings.Join(parts, ".")
}
