package e2e

import (
	"net/http"
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/user"
	"souk/shared/fault"

	"github.com/google/uuid"
	"golang.org/x/oauth2"
)

// Somebody else's program reads a customer's orders, through the gateway, for as long as the customer lets it, and does
// nothing else.
func TestOAuth_aProgramReadsOrders(t *testing.T) {
	const callback = "https://tea.example/callback"
	boss, ann := admin(t), register(t)
	in := new(user.RegisterClientInput)
	in.Body.Name, in.Body.RedirectURIs, in.Body.Confidential = "Tea diary", []string{callback}, true
	in.Body.Scopes = []string{"openid", "offline_access", "orders.read"}
	client, err := user.RegisterClient.Call(t.Context(), boss.client, in)
	if err != nil {
		t.Fatal(err)
	}
	conf := oauth2.Config{
		ClientID: client.Body.ID, ClientSecret: client.Body.Secret, RedirectURL: callback, Scopes: in.Body.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: gateway.String() + "/oauth/authorize", TokenURL: gateway.String() + "/oauth/token"},
	}
	verifier := oauth2.GenerateVerifier()
	browser := new(visitor)
	to := browser.do(t, http.MethodGet, conf.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), nil).location(t)
	if to.Path != "/sign-in" {
		t.Fatalf("authorize: to %v", to)
	}
	if page := browser.do(t, http.MethodGet, to.String(), nil); page.status != http.StatusOK || !strings.Contains(page.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the page to decide on: %d, policy %q", page.status, page.header.Get("Content-Security-Policy"))
	}
	id, err := uuid.Parse(to.Query().Get("request"))
	if err != nil {
		t.Fatal(err)
	}
	yes, err := user.ApproveOAuthRequest.Call(t.Context(), ann.client, &contract.ByID{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	back := browser.do(t, http.MethodGet, yes.Body.Location, nil).location(t)
	if back.Host != "tea.example" {
		t.Fatalf("back to %v", back)
	}
	tokens, err := conf.Exchange(t.Context(), back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}

	diary := nobody()
	diary.token = tokens.AccessToken
	placed := ann.place(t, boss.goods(t, 1_00, 5), 1)
	seen, err := order.List.Call(t.Context(), diary.client, &order.ListInput{})
	if err != nil || len(seen.Body.Items) != 1 || seen.Body.Items[0].ID != placed.ID {
		t.Errorf("the program sees %+v, %v", seen, err)
	}
	if _, err := diary.pay(t.Context(), placed.ID, uuid.NewString()); !fault.HasCode(err, "insufficient_scope") {
		t.Errorf("it pays: %v", err)
	}
	if _, err := user.GetMe.Call(t.Context(), diary.client, &contract.None{}); !fault.HasCode(err, "insufficient_scope") {
		t.Errorf("it reads the account: %v", err)
	}
	inside := &person{}
	inside.client = &http.Client{Transport: inside}
	exchange := new(user.ExchangeInput)
	exchange.Body.Token = tokens.AccessToken
	if _, err := user.ExchangeToken.Call(t.Context(), inside.client, exchange); !fault.Is(err, fault.NotFound) {
		t.Errorf("the door inside is open outside: %v", err)
	}

	sessions, err := user.ListSessions.Call(t.Context(), ann.client, &user.ListSessionsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions.Body.Items {
		if s.Method == "program" {
			if _, err := user.EndSession.Call(t.Context(), ann.client, &contract.ByID{ID: s.ID}); err != nil {
				t.Fatal(err)
			}
		}
	}
	calledBack(t, "the program", func() error { return diary.orders(t) })
	if _, err := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token(); err == nil {
		t.Error("it refreshes what has ended")
	}
}
