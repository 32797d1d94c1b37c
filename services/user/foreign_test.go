package user_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/services/user"
	"souk/services/user/provider"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// idp is an identity provider that does as it is told, wrong things too.
type idp struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	codes  map[string]*login
	tokens int // how often the token endpoint was asked
}

// login is somebody at the provider, and how it lies about them.
type login struct {
	claims    map[string]any // over the right ones; nil removes one
	key       any            // that signs, if it is not the right one
	method    jwt.SigningMethod
	challenge string
	nonce     string
	used      bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key, codes: map[string]*login{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		point, _ := key.PublicKey.Bytes()
		text := base64.RawURLEncoding.EncodeToString
		answer(w, map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": text(point[1:33]), "y": text(point[33:])}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokens++
		l := p.codes[r.FormValue("code")]
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if l == nil || l.used || base64.RawURLEncoding.EncodeToString(sum[:]) != l.challenge {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, map[string]any{"error": "invalid_grant"})
			return
		}
		l.used = true
		answer(w, map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": p.idToken(t, l)})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *idp) idToken(t *testing.T, l *login) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": p.URL, "aud": "shop", "sub": "sub-1", "nonce": l.nonce, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"email": "new@id.example", "email_verified": true, "name": "New Comer",
	}
	maps.Copy(claims, l.claims)
	for name, v := range claims {
		if v == nil {
			delete(claims, name)
		}
	}
	method, key := l.method, l.key
	if method == nil {
		method = jwt.SigningMethodES256
	}
	if key == nil {
		key = p.key
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = "1"
	text, err := token.SignedString(key)
	if err != nil {
		t.Error(err)
	}
	return text
}

// browser is somebody on the way through a sign-in.
type browser struct {
	*shop
	idp    *idp
	cookie string
}

func setupForeign(t *testing.T) (*shop, *idp) {
	t.Helper()
	s, p := setup(t), newIDP(t)
	deps := s.deps(s.passwords)
	deps.Providers = provider.List{{Name: "id", Label: "ID", Issuer: p.URL, ClientID: "shop", ClientSecret: "s"}}
	deps.PublicURL = "https://shop.example"
	var err error
	if s.user, err = user.New(t.Context(), deps); err != nil {
		t.Fatal(err)
	}
	s.Service = testkit.NewService(t, "user")
	s.user.Routes(s.Server)
	return s, p
}

func (b *browser) do(t *testing.T, method, path string, body any) *testkit.Answer {
	t.Helper()
	h := http.Header{}
	if b.cookie != "" {
		h.Set("Cookie", b.cookie)
	}
	a := b.Do(t, testkit.Request{Method: method, Path: path, Header: h, Body: body})
	if c := a.Header.Get("Set-Cookie"); strings.HasPrefix(c, "__Host-souk-sign-in=") {
		for _, want := range []string{"Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
			if !strings.Contains(c, want) {
				t.Errorf("the cookie is %q, without %s", c, want)
			}
		}
		b.cookie, _, _ = strings.Cut(c, ";")
	}
	return a
}

// start goes to the provider, signs in there as l, and gives the path that it sends the browser back to.
func (b *browser) start(t *testing.T, query string, l login) string {
	t.Helper()
	a := b.do(t, "GET", "/v1/auth/providers/id/start"+query, nil)
	to, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.Status != http.StatusSeeOther || !strings.HasPrefix(to.String(), b.idp.URL+"/authorize?") {
		t.Fatalf("start: %d %s %s", a.Status, a.Body, to)
	}
	q := to.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != "https://shop.example/api/v1/auth/providers/id/callback" ||
		q.Get("response_type") != "code" || q.Get("scope") != "openid email profile" || len(q.Get("state")) < 43 || len(q.Get("nonce")) < 43 {
		t.Errorf("sent to %s", to)
	}
	l.challenge, l.nonce = q.Get("code_challenge"), q.Get("nonce")
	code := uuid.NewString()
	b.idp.mu.Lock()
	b.idp.codes[code] = &l
	b.idp.mu.Unlock()
	return "/v1/auth/providers/id/callback?code=" + code + "&state=" + url.QueryEscape(q.Get("state"))
}

// signIn goes all the way, and gives the answer to the last step.
func (b *browser) signInAs(t *testing.T, l login) *testkit.Answer {
	t.Helper()
	if a := b.do(t, "GET", b.start(t, "", l), nil); a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/sign-in" {
		t.Fatalf("callback: %d %s to %q", a.Status, a.Body, a.Header.Get("Location"))
	}
	return b.do(t, "POST", "/v1/auth/providers/session", nil)
}

func TestForeign_opensAnAccountOnce(t *testing.T) {
	t.Parallel()
	s, p := setupForeign(t)
	var first, again wire.Tokens
	b := &browser{shop: s, idp: p}
	b.signInAs(t, login{}).Into(t, 200, &first)
	if first.User.Email != "new@id.example" || first.User.DisplayName != "New Comer" || len(first.User.Roles) != 1 || first.User.Roles[0] != identity.Customer {
		t.Errorf("got %+v", first.User)
	}
	v := identity.NewVerifier(s.user.Keyfunc, s.clock.now)
	got, err := v.Verify(first.AccessToken)
	if err != nil || len(got.Methods) != 1 || got.Methods[0] != "fed" {
		t.Errorf("the token says %+v, %v", got, err)
	}
	b.do(t, "POST", "/v1/auth/providers/session", nil).Problem(t, 401, "no_sign_in") // good once

	// Known by issuer and subject alone: everything else may change.
	(&browser{shop: s, idp: p}).signInAs(t, login{claims: map[string]any{"email": "renamed@id.example", "name": "Renamed"}}).Into(t, 200, &again)
	if again.User.ID != first.User.ID || again.User.Email != "new@id.example" {
		t.Errorf("got %+v, want the same account", again.User)
	}
	s.login(t, "new@id.example", "").Problem(t, 422, "invalid")
	s.login(t, "new@id.example", password).Problem(t, 401, "invalid_credentials") // it has no password
	if err := s.db.Exec("UPDATE account SET state = 'disabled'").Error; err != nil {
		t.Fatal(err)
	}
	(&browser{shop: s, idp: p}).signInAs(t, login{}).Problem(t, 403, "account_disabled")
	if all := everything(t, s.db); strings.Contains(all, "new@id.example") || strings.Contains(all, "New Comer") {
		t.Error("the database says who somebody is")
	}
}

// Who has an account with the same address proves it with its password; nobody else gets in, whatever their provider says.
func TestForeign_linksNothingWithoutProof(t *testing.T) {
	t.Parallel()
	s, p := setupForeign(t)
	u, _ := s.register(t, "new@id.example") // somebody's account, or a trap
	b := &browser{shop: s, idp: p}
	link := func(password string) *testkit.Answer {
		return b.do(t, "POST", "/v1/auth/providers/link", map[string]any{"password": password})
	}
	b.signInAs(t, login{}).Problem(t, 409, "link_required")
	if n := scan[int](t, s.db, "SELECT (SELECT count(*) FROM identity) + (SELECT count(*) FROM session)"); n != 0 {
		t.Fatal("they are linked, or signed in")
	}
	link("not the password").Problem(t, 401, "invalid_credentials")
	b.do(t, "POST", "/v1/auth/providers/session", nil).Problem(t, 409, "link_required") // still
	var got wire.Tokens
	link(password).Into(t, 200, &got)
	if got.User.ID != u.ID {
		t.Errorf("got %+v", got.User)
	}
	link(password).Problem(t, 401, "no_sign_in")
	(&browser{shop: s, idp: p}).signInAs(t, login{}).Into(t, 200, &got) // from now on without
	if got.User.ID != u.ID {
		t.Errorf("got %+v", got.User)
	}
	s.signIn(t, "new@id.example") // and with the password as before

	// An address that nobody vouches for opens nothing and links nothing.
	for name, claims := range map[string]map[string]any{
		"unverified":            {"sub": "x", "email_verified": false},
		"verified, says a text": {"sub": "x", "email_verified": nil},
		"none":                  {"sub": "x", "email": nil},
		"no address":            {"sub": "x", "email": "not an address"},
	} {
		a := (&browser{shop: s, idp: p}).signInAs(t, login{claims: claims})
		if a.Status != http.StatusConflict || !strings.Contains(string(a.Body), "email_unverified") {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	// Guesses at the password are counted as at the door.
	b = &browser{shop: s, idp: p}
	b.signInAs(t, login{claims: map[string]any{"sub": "mallory"}}).Problem(t, 409, "link_required")
	tries := 0
	for ; tries < 200 && link("a guess").Status == 401; tries++ {
	}
	if tries > 101 {
		t.Errorf("%d guesses", tries)
	}
}

func TestForeign_refusesWhatIsNotTheAnswer(t *testing.T) {
	t.Parallel()
	s, p := setupForeign(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, v any) login { return login{claims: map[string]any{name: v}} }
	for name, l := range map[string]login{
		"another nonce":        with("nonce", "stolen"),
		"no nonce":             with("nonce", nil),
		"another audience":     with("aud", "another-shop"),
		"another issuer":       with("iss", "https://evil.example"),
		"issuer with slash":    with("iss", p.URL+"/"),
		"expired":              with("exp", time.Now().Add(-time.Minute).Unix()),
		"no expiry":            with("exp", nil),
		"no subject":           with("sub", ""),
		"another access token": with("at_hash", "AAAA"),
		"another's key":        {key: stranger},
		"our secret as key":    {method: jwt.SigningMethodHS256, key: []byte("s")},
		"not signed":           {method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType},
	} {
		b := &browser{shop: s, idp: p}
		a := b.do(t, "GET", b.start(t, "", l), nil)
		if a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "sign_in_failed") {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		b.do(t, "POST", "/v1/auth/providers/session", nil).Problem(t, 401, "no_sign_in")
	}

	// The browser that begins is the one that comes back, once, with the flow's state, and before it is too late.
	asked := p.tokens
	begin := func() (*browser, string) {
		b := &browser{shop: s, idp: p}
		return b, b.start(t, "", login{})
	}
	victim, path := begin()
	(&browser{shop: s, idp: p}).do(t, "GET", path, nil).Problem(t, 400, "sign_in_failed") // a link that was sent to somebody
	other, _ := begin()
	other.do(t, "GET", path, nil).Problem(t, 400, "sign_in_failed") // or to somebody who is signing in
	victim.do(t, "GET", strings.Replace(path, "state=", "state=x", 1), nil).Problem(t, 400, "sign_in_failed")
	victim.do(t, "GET", path, nil).Problem(t, 400, "sign_in_failed") // used up by the try
	for _, more := range []string{"&error=access_denied", "&iss=https%3A%2F%2Fevil.example"} {
		b, path := begin()
		b.do(t, "GET", path+more, nil).Problem(t, 400, "sign_in_failed")
	}
	late, path := begin()
	s.clock.forward(10*time.Minute + time.Second)
	late.do(t, "GET", path, nil).Problem(t, 400, "sign_in_failed")
	if p.tokens != asked {
		t.Error("a code was taken to the provider that nobody had asked for here")
	}
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/auth/providers/nobody/start"}).Problem(t, 404, "no_such_provider")

	good, path := begin()
	if a := good.do(t, "GET", path, nil); a.Status != http.StatusSeeOther {
		t.Errorf("the one that the others are variations of: %d %s", a.Status, a.Body)
	}
	good.do(t, "GET", path, nil).Problem(t, 400, "sign_in_failed") // the new cookie is for the last step alone
}

func TestForeign_comesBackToFewPaths(t *testing.T) {
	t.Parallel()
	s, p := setupForeign(t)
	request := uuid.New()
	for query, want := range map[string]string{
		"": "/sign-in", "?return_to=/docs": "/docs", "?return_to=/ops": "/ops", "?request=" + request.String(): "/sign-in?request=" + request.String(),
	} {
		b := &browser{shop: s, idp: p}
		if got := b.do(t, "GET", b.start(t, query, login{}), nil).Header.Get("Location"); got != want {
			t.Errorf("%s: back to %q, want %q", query, got, want)
		}
	}
	for _, evil := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/docs/../evil", "/docs%0d%0aX: y", "/docs?x", " /docs", "javascript:alert(1)"} {
		s.get(t, "", "/v1/auth/providers/id/start?return_to="+url.QueryEscape(evil)).Problem(t, 422, "invalid")
	}
	s.get(t, "", "/v1/auth/providers/id/start?request=evil").Problem(t, 422, "invalid")
	var list struct{ Items []wire.Provider }
	s.get(t, "", "/v1/auth/providers").Into(t, 200, &list)
	if len(list.Items) != 1 || list.Items[0].Start != "/api/v1/auth/providers/id/start" {
		t.Errorf("got %+v", list.Items)
	}
}

// A provider that is away is not our fault, and is asked again the next time.
func TestForeign_aProviderThatIsAway(t *testing.T) {
	t.Parallel()
	s, p := setupForeign(t)
	p.Close()
	s.get(t, "", "/v1/auth/providers/id/start").Problem(t, 503, "provider_unavailable")
	s.register(t, "a@souk.example")
	s.signIn(t, "a@souk.example")
}

func TestProviders_areReadFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		`[{"name":"google","issuer":"https://accounts.google.com","client_id":"x"}]`: true,
		`[{"name":"local","issuer":"http://127.0.0.1:9998/","client_id":"x"}]`:       true,
		`[]`: true,
		`[{"name":"plain","issuer":"http://id.example","client_id":"x"}]`:                                       false,
		`[{"name":"no-id","issuer":"https://id.example"}]`:                                                      false,
		`[{"name":"Bad/Name","issuer":"https://id.example","client_id":"x"}]`:                                   false,
		`[{"name":"a","issuer":"https://x","client_id":"x"},{"name":"a","issuer":"https://y","client_id":"y"}]`: false,
		`[{"name":"a","issuer":"nonsense","client_id":"x"}]`:                                                    false,
		`{"client_secret":"hush"`: false,
	} {
		var l provider.List
		err := l.UnmarshalText([]byte(text))
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
