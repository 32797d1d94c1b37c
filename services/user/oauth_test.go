package user_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"
	"golang.org/x/oauth2"
)

// program is somebody else's, which asks our customers for access.
type program struct {
	*shop
	url    string
	client wire.NewClient
	conf   oauth2.Config
}

const programCallback = "https://tea.example/callback"

// setupOAuth is the shop as a provider that is really there, on a port, and a program that is registered with it.
func setupOAuth(t *testing.T, confidential bool) *program {
	t.Helper()
	s := setup(t)
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	deps := s.deps(s.passwords)
	deps.PublicURL = server.URL
	var err error
	if s.user, err = user.New(t.Context(), deps); err != nil {
		t.Fatal(err)
	}
	s.Service = testkit.NewService(t, "user")
	s.user.Routes(s.Server)
	h := s.Handler()
	handler.Store(&h)
	boss := s.admin(t)
	p := &program{shop: s, url: server.URL}
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/oauth/clients", Token: boss, Body: map[string]any{
		"name": "Tea diary", "redirect_uris": []string{programCallback}, "confidential": confidential,
		"scopes": []string{"openid", "profile", "email", "offline_access", "orders.read"},
	}}).Into(t, 201, &p.client)
	s.heed(t)
	discovered, err := oidc.NewProvider(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.conf = oauth2.Config{
		ClientID: p.client.ID, ClientSecret: p.client.Secret, Endpoint: discovered.Endpoint(), RedirectURL: programCallback,
		Scopes: []string{"openid", "profile", "email", "offline_access", "orders.read"},
	}
	return p
}

// get asks without following redirects.
func get(t *testing.T, to string) (status int, location *url.URL, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	location, _ = resp.Location()
	return resp.StatusCode, location, string(b)
}

// ask sends a browser to the shop, as far as the page where its owner decides, and gives the request's id.
func (p *program) ask(t *testing.T, verifier string) string {
	t.Helper()
	status, to, body := get(t, p.conf.AuthCodeURL("the state", oauth2.S256ChallengeOption(verifier), oidc.Nonce("the nonce")))
	if status != http.StatusFound || to == nil || to.Path != "/sign-in" {
		t.Fatalf("authorize: %d to %v: %s", status, to, body)
	}
	return to.Query().Get("request")
}

// decide has the owner of token say yes or no, and gives where the browser goes with that.
func (p *program) decide(t *testing.T, token, request, what string) string {
	t.Helper()
	var out wire.Elsewhere
	p.Do(t, testkit.Request{Method: "POST", Path: "/v1/oauth/requests/" + request + "/" + what, Token: token}).Into(t, 200, &out)
	return out.Location
}

// code goes all the way to a code for the owner of token.
func (p *program) code(t *testing.T, token, verifier string) string {
	t.Helper()
	status, to, body := get(t, p.decide(t, token, p.ask(t, verifier), "approve"))
	if status != http.StatusFound || to == nil || !strings.HasPrefix(to.String(), programCallback+"?") || to.Query().Get("state") != "the state" {
		t.Fatalf("back to the program: %d %v %s", status, to, body)
	}
	return to.Query().Get("code")
}

func (p *program) exchange(ctx context.Context, code, verifier string) (*oauth2.Token, error) {
	return p.conf.Exchange(ctx, code, oauth2.VerifierOption(verifier))
}

// swap is what the gateway does with a program's token.
func (p *program) swap(t *testing.T, token string) *testkit.Answer {
	t.Helper()
	return p.Do(t, testkit.Request{Method: "POST", Path: "/internal/v1/oauth/exchange", Body: map[string]any{"token": token}})
}

func TestOAuth_aProgramActsForItsUser(t *testing.T) {
	t.Parallel()
	for name, confidential := range map[string]bool{"with a secret": true, "without": false} {
		p := setupOAuth(t, confidential)
		u, _ := p.register(t, "customer@souk.example")
		own := p.signIn(t, "customer@souk.example")
		verifier := oauth2.GenerateVerifier()
		request := p.ask(t, verifier)
		var asked wire.OAuthRequest
		p.get(t, own.AccessToken, "/v1/oauth/requests/"+request).Into(t, 200, &asked)
		if asked.Client != "Tea diary" || asked.RedirectHost != "tea.example" || len(asked.Scopes) != 5 || asked.Scopes[4].Meaning != "See your orders" {
			t.Errorf("%s: asked %+v", name, asked)
		}
		tokens, err := p.exchange(t.Context(), p.code(t, own.AccessToken, verifier), verifier)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.HasPrefix(tokens.AccessToken, "sot_") || tokens.RefreshToken == "" || strings.Contains(tokens.AccessToken, ".") {
			t.Errorf("%s: tokens %+v", name, tokens)
		}

		// Who it is.
		discovered, err := oidc.NewProvider(t.Context(), p.url)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := tokens.Extra("id_token").(string)
		id, err := discovered.Verifier(&oidc.Config{ClientID: p.client.ID, SupportedSigningAlgs: []string{"ES256"}}).Verify(t.Context(), raw)
		if err != nil || id.Subject != u.ID.String() || id.Nonce != "the nonce" || id.VerifyAccessToken(tokens.AccessToken) != nil {
			t.Errorf("%s: the ID token says %+v, %v", name, id, err)
		}
		info, err := discovered.UserInfo(t.Context(), oauth2.StaticTokenSource(tokens))
		if err != nil || info.Subject != u.ID.String() || info.Email != "customer@souk.example" || info.EmailVerified {
			t.Errorf("%s: userinfo says %+v, %v", name, info, err)
		}

		// What it may do.
		var out wire.Exchanged
		p.swap(t, tokens.AccessToken).Into(t, 200, &out)
		v, poll := p.heed(t)
		got, err := v.Verify(out.AccessToken)
		if err != nil || got.UserID != u.ID || got.Client != p.client.ID || !got.Within(identity.ReadOrder) || got.Within(identity.PlaceOrder) || got.Within(identity.SignedIn) {
			t.Errorf("%s: swapped for %+v, %v", name, got, err)
		}
		for _, path := range []string{"/v1/users/me", "/v1/users/me/sessions", "/v1/users/me/addresses", "/v1/users", "/v1/oauth/clients"} {
			p.get(t, out.AccessToken, path).Problem(t, 403, "insufficient_scope")
		}
		p.get(t, raw, "/v1/users/me").Problem(t, 401, "invalid_token") // an ID token is none of ours

		// Its user sees it in the list, and ends it.
		var session uuid.UUID
		for _, of := range p.sessions(t, own.AccessToken) {
			if of.Device == "Tea diary" && of.Method == "program" {
				session = of.ID
			}
		}
		p.Do(t, testkit.Request{Method: "DELETE", Path: "/v1/users/me/sessions/" + session.String(), Token: own.AccessToken}).Into(t, 204, nil)
		p.swap(t, tokens.AccessToken).Problem(t, 401, "invalid_token")
		poll()
		if err := v.Recheck(got); !fault.HasCode(err, "token_revoked") {
			t.Errorf("%s: what it was swapped for is good still: %v", name, err)
		}
		if _, err := discovered.UserInfo(t.Context(), oauth2.StaticTokenSource(tokens)); err == nil {
			t.Errorf("%s: userinfo goes on", name)
		}
	}
}

// An admin's program is a customer's.
func TestOAuth_givesNobodysRolesAway(t *testing.T) {
	t.Parallel()
	p := setupOAuth(t, true)
	boss, verifier := p.signIn(t, "admin@souk.example"), oauth2.GenerateVerifier()
	tokens, err := p.exchange(t.Context(), p.code(t, boss.AccessToken, verifier), verifier)
	if err != nil {
		t.Fatal(err)
	}
	var out wire.Exchanged
	p.swap(t, tokens.AccessToken).Into(t, 200, &out)
	v, _ := p.heed(t)
	if got, err := v.Verify(out.AccessToken); err != nil || len(got.Roles) != 0 {
		t.Errorf("it has %v, %v", got.Roles, err)
	}
}

func TestOAuth_refusesAtTheDoor(t *testing.T) {
	t.Parallel()
	p := setupOAuth(t, true)
	challenge := oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())
	good := url.Values{
		"client_id": {p.client.ID}, "redirect_uri": {programCallback}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for name, change := range map[string]func(url.Values){
		"no PKCE":               func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") },
		"plain PKCE":            func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"PKCE without a method": func(q url.Values) { q.Del("code_challenge_method") },
		"a short challenge":     func(q url.Values) { q.Set("code_challenge", "short") },
		"a token at once":       func(q url.Values) { q.Set("response_type", "token") },
		"an ID token at once":   func(q url.Values) { q.Set("response_type", "id_token") },
		"hybrid":                func(q url.Values) { q.Set("response_type", "code id_token") },
		"without asking":        func(q url.Values) { q.Set("prompt", "none") },
		"in the fragment":       func(q url.Values) { q.Set("response_mode", "fragment") },
		"nobody's":              func(q url.Values) { q.Set("client_id", "soc-nobody") },
		"another page":          func(q url.Values) { q.Set("redirect_uri", "https://evil.example/callback") },
		"a longer path":         func(q url.Values) { q.Set("redirect_uri", programCallback+"/x") },
		"a query more":          func(q url.Values) { q.Set("redirect_uri", programCallback+"?x=1") },
		"another host's end":    func(q url.Values) { q.Set("redirect_uri", "https://tea.example.evil.example/callback") },
		"http":                  func(q url.Values) { q.Set("redirect_uri", "http://tea.example/callback") },
		"capitals":              func(q url.Values) { q.Set("redirect_uri", "https://tea.example/CALLBACK") },
		"none":                  func(q url.Values) { q.Del("redirect_uri") },
	} {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		change(q)
		status, to, _ := get(t, p.url+"/oauth/authorize?"+q.Encode())
		if to != nil && (to.Path == "/sign-in" || to.Query().Get("error") == "" && !strings.Contains(to.Fragment, "error=")) {
			t.Errorf("%s: let in: %d to %s", name, status, to)
		}
		if to != nil && to.Host != "tea.example" {
			t.Errorf("%s: the browser is sent to %s", name, to)
		}
	}
	if status, to, _ := get(t, p.url+"/oauth/authorize?"+good.Encode()); to == nil || to.Path != "/sign-in" {
		t.Errorf("the one that the others are variations of: %d to %v", status, to)
	}
	for _, uri := range []string{"http://tea.example/", "https://tea.example/#x", "https://u:p@tea.example/", "javascript:alert(1)", "https://*.tea.example/", "//tea.example", "tea://x"} {
		p.Do(t, testkit.Request{Method: "POST", Path: "/v1/oauth/clients", Token: p.Token(t, user.SeedAdmin, identity.Admin), Body: map[string]any{
			"name": "X", "redirect_uris": []string{uri}, "scopes": []string{"openid"}, "confidential": true,
		}})
		if n := scan[int](t, p.db, "SELECT count(*) FROM oauth_client WHERE redirect_uris = ?", uri); n != 0 {
			t.Errorf("%s is registered", uri)
		}
	}
}

// Codes and refresh tokens are good once, for who asked for them; once more, and all is over.
func TestOAuth_whatComesTwiceEndsAll(t *testing.T) {
	t.Parallel()
	p := setupOAuth(t, true)
	p.register(t, "customer@souk.example")
	own := p.signIn(t, "customer@souk.example")
	verifier := oauth2.GenerateVerifier()
	alive := func(tokens *oauth2.Token) bool { return p.swap(t, tokens.AccessToken).Status == 200 }

	code := p.code(t, own.AccessToken, verifier)
	tokens, err := p.exchange(t.Context(), code, verifier)
	if err != nil || !alive(tokens) {
		t.Fatalf("exchange: %v", err)
	}
	if _, err := p.exchange(t.Context(), code, verifier); err == nil || alive(tokens) {
		t.Errorf("a code used twice: %v, alive: %t", err, alive(tokens))
	}

	if tokens, err = p.exchange(t.Context(), p.code(t, own.AccessToken, verifier), verifier); err != nil {
		t.Fatal(err)
	}
	refresh := func(token string) (*oauth2.Token, error) {
		return p.conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token}).Token()
	}
	// A program's refresh token is no customer's: ours would let it do everything.
	p.refresh(t, tokens.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	next, err := refresh(tokens.RefreshToken)
	if err != nil || !alive(next) {
		t.Fatalf("refresh: %v", err)
	}
	if _, err := refresh(own.RefreshToken); err == nil {
		t.Error("a customer's own refresh token is a program's")
	}
	p.refresh(t, own.RefreshToken).Into(t, 200, &own)
	if _, err := refresh(tokens.RefreshToken); err == nil || alive(next) {
		t.Errorf("a refresh token used twice: %v, alive: %t", err, alive(next))
	}
	if _, err := refresh(next.RefreshToken); err == nil {
		t.Error("its family goes on")
	}

	for name, try := range map[string]func(code string) error{
		"another verifier": func(code string) error {
			_, err := p.exchange(t.Context(), code, oauth2.GenerateVerifier())
			return err
		},
		"no verifier": func(code string) error { _, err := p.conf.Exchange(t.Context(), code); return err },
		"another secret": func(code string) error {
			conf := p.conf
			conf.ClientSecret = "scs_wrong"
			_, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
			return err
		},
		"another page": func(code string) error {
			conf := p.conf
			conf.RedirectURL = "https://evil.example/"
			_, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
			return err
		},
		"a minute later": func(code string) error {
			p.clock.forward(61 * time.Second)
			_, err := p.exchange(t.Context(), code, verifier)
			return err
		},
	} {
		before := scan[int](t, p.db, "SELECT count(*) FROM session")
		if err := try(p.code(t, own.AccessToken, verifier)); err == nil || scan[int](t, p.db, "SELECT count(*) FROM session") != before {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A request is answered once, and nobody else's answer or code comes of it.
	request := p.ask(t, verifier)
	if status, to, _ := get(t, p.url+"/oauth/authorize/callback?id="+request); to != nil && to.Query().Get("code") != "" {
		t.Errorf("a code before anybody said yes: %d %s", status, to)
	}
	to := p.decide(t, own.AccessToken, request, "approve")
	get(t, to)
	if _, again, _ := get(t, to); again != nil && again.Query().Get("code") != "" {
		t.Errorf("a second code: %s", again)
	}
	p.Do(t, testkit.Request{Method: "POST", Path: "/v1/oauth/requests/" + request + "/approve", Token: own.AccessToken}).Problem(t, 404, "no_such_request")
	denied := p.decide(t, own.AccessToken, p.ask(t, verifier), "deny")
	if denied != programCallback+"?error=access_denied&state=the+state" {
		t.Errorf("denied: %s", denied)
	}

	// What was let do ends with the program.
	if tokens, err = p.exchange(t.Context(), p.code(t, own.AccessToken, verifier), verifier); err != nil {
		t.Fatal(err)
	}
	boss := p.signIn(t, "admin@souk.example").AccessToken
	p.Do(t, testkit.Request{Method: "DELETE", Path: "/v1/oauth/clients/" + p.client.ID, Token: boss}).Into(t, 204, nil)
	if _, err := refresh(tokens.RefreshToken); err == nil || alive(tokens) {
		t.Errorf("it goes on without its program: %v", err)
	}
	all := everything(t, p.db)
	for _, secret := range []string{p.client.Secret, tokens.AccessToken, tokens.RefreshToken, code} {
		if strings.Contains(all, secret) {
			t.Error("the database knows a secret")
		}
	}
	var problem map[string]any
	if _, _, body := get(t, p.url+"/oauth/nothing"); json.Unmarshal([]byte(body), &problem) == nil && problem["access_token"] != nil {
		t.Error("there is something where nothing is")
	}
}

func TestOAuth_otherGrantsAreNone(t *testing.T) {
	t.Parallel()
	p := setupOAuth(t, true)
	for _, grant := range []string{
		"password", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
		"urn:ietf:params:oauth:grant-type:device_code", "", "nonsense",
	} {
		form := url.Values{"grant_type": {grant}, "username": {"admin@souk.example"}, "password": {password}, "scope": {"openid"}, "assertion": {"a.b.c"}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/oauth/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(p.client.ID, p.client.Secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode < 400 || strings.Contains(string(b), "access_token") {
			t.Errorf("%s: %s %s", grant, resp.Status, b)
		}
	}
}
