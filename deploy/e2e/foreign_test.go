package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/user"
)

// visitor is a browser: it follows redirects at the provider, and keeps the one cookie of the shop that a sign-in takes.
// (net/http's own jar sends no Secure cookie to http, not on this machine either, as browsers do.)
type visitor struct{ cookie string }

func (v *visitor) do(t *testing.T, method, to string, form url.Values) seen {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if v.cookie != "" && req.URL.Host == gateway.Host {
		req.Header.Set("Cookie", v.cookie)
	}
	client := http.Client{CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Host == gateway.Host || via[0].URL.Host == gateway.Host {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if c := resp.Header.Get("Set-Cookie"); strings.HasPrefix(c, "__Host-souk-sign-in=") {
		v.cookie, _, _ = strings.Cut(c, ";")
	}
	return seen{resp.StatusCode, resp.Header, resp.Request.URL, string(body)}
}

// seen is what a browser sees in the end, and where.
type seen struct {
	status int
	header http.Header
	at     *url.URL
	body   string
}

// location is where the browser is sent.
func (s seen) location(t *testing.T) *url.URL {
	t.Helper()
	to, err := s.at.Parse(s.header.Get("Location"))
	if err != nil || s.header.Get("Location") == "" {
		t.Fatalf("%s answers %d %s, and sends nobody anywhere", s.at, s.status, s.body)
	}
	return to
}

// signIn goes to Souk Test ID as somebody and comes back.
func (v *visitor) signIn(t *testing.T, name string) {
	t.Helper()
	start := v.do(t, http.MethodGet, gateway.String()+"/api/v1/auth/providers/souk-test-id/start", nil)
	page := v.do(t, http.MethodGet, start.location(t).String(), nil)
	id := page.at.Query().Get("authRequestID")
	back := v.do(t, http.MethodPost, shop.TestID()+"login/username", url.Values{"username": {name}, "password": {"open-sesame-1001"}, "id": {id}})
	callback := back.location(t).String()
	if !strings.HasPrefix(callback, gateway.String()+"/api/v1/auth/providers/souk-test-id/callback?") {
		t.Fatalf("the provider sends the browser to %q", callback)
	}
	if done := v.do(t, http.MethodGet, callback, nil); done.status != http.StatusSeeOther || done.header.Get("Location") != "/sign-in" {
		t.Fatalf("back: %+v", done)
	}
}

// post sends the cookie, and JSON if there is some, and gives the tokens or the problem's code.
func (v *visitor) post(t *testing.T, path, body string) (tokens user.Tokens, code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", v.cookie)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var said struct {
		user.Tokens
		Code string `json:"code"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Tokens, said.Code
}

// People sign in with a provider that is a process of its own: the first time opens an account; an address that has one
// already asks for its password; and one that the provider does not vouch for opens nothing.
func TestForeign_signInWithSoukTestID(t *testing.T) {
	const session, link = "/api/v1/auth/providers/session", "/api/v1/auth/providers/link"
	dora := new(visitor)
	dora.signIn(t, "dora@id.example")
	first, code := dora.post(t, session, "")
	if code != "" || first.User.Email != "dora@id.example" {
		t.Fatalf("got %+v, %q", first.User, code)
	}
	if _, code := dora.post(t, session, ""); code != "no_sign_in" {
		t.Errorf("a second time: %q", code)
	}
	p := nobody()
	p.token = first.AccessToken
	if me, err := user.GetMe.Call(t.Context(), p.client, &contract.None{}); err != nil || me.Body.ID != first.User.ID {
		t.Errorf("me: %+v, %v", me, err)
	}
	p.topUp(t, 5_00) // a customer like any other
	dora.signIn(t, "dora@id.example")
	if again, code := dora.post(t, session, ""); code != "" || again.User.ID != first.User.ID {
		t.Errorf("again: %+v, %q", again.User, code)
	}

	alice := new(visitor)
	alice.signIn(t, "alice@souk.example")
	if _, code := alice.post(t, session, ""); code != "link_required" {
		t.Fatalf("alice: %q", code)
	}
	if _, code := alice.post(t, link, `{"password":"not the password"}`); code != "invalid_credentials" {
		t.Errorf("with another password: %q", code)
	}
	linked, code := alice.post(t, link, `{"password":"open-sesame-1001"}`)
	if code != "" || linked.User.Email != "alice@souk.example" {
		t.Errorf("linked: %+v, %q", linked.User, code)
	}

	mallory := new(visitor)
	mallory.signIn(t, "mallory@id.example") // says to be bob
	if _, code := mallory.post(t, session, ""); code != "email_unverified" {
		t.Errorf("mallory: %q", code)
	}
}
