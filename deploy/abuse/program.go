package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

const programPage = "https://tea.example/callback"

// programs are attacks by, and with, other people's programs, which customers let act for them.
func programs() []attack {
	ask := func(name string, change func(url.Values)) attack {
		return attack{name, func(ctx context.Context, s *scene) outcome {
			conf, err := s.program(ctx)
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			q := url.Values{
				"client_id": {conf.ClientID}, "redirect_uri": {programPage}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"},
				"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
			}
			change(q)
			r := request{method: "GET", path: "/oauth/authorize?" + q.Encode()}
			a := s.send(ctx, r)
			to := a.header.Get("Location")
			return outcome{r.String(), a.String() + " " + to, a.err == nil && !strings.Contains(to, "/sign-in") && !strings.Contains(to, "evil.example")}
		}}
	}
	acts := func(name string, make func(*scene, *oauth2.Token) request, statuses ...int) attack {
		return attack{name, func(ctx context.Context, s *scene) outcome {
			_, _, token, err := s.letAct(ctx)
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			return meets(name, func(s *scene) request { return make(s, token) }, statuses...).try(ctx, s)
		}}
	}
	return []attack{
		ask("a program that asks without PKCE", func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }),
		ask("a program that asks with plain PKCE", func(q url.Values) { q.Set("code_challenge_method", "plain") }),
		ask("a program that asks with PKCE of no method", func(q url.Values) { q.Del("code_challenge_method") }),
		ask("a program that wants its token in the URL", func(q url.Values) { q.Set("response_type", "token") }),
		ask("a code sent to another page", func(q url.Values) { q.Set("redirect_uri", "https://evil.example/callback") }),
		ask("a code sent below the page", func(q url.Values) { q.Set("redirect_uri", programPage+"/..%2f..%2fevil.example") }),
		acts("a program that reads the account", func(_ *scene, t *oauth2.Token) request {
			return request{method: "GET", path: "/api/v1/users/me", token: t.AccessToken}
		}, 403),
		acts("a program that spends its user's money", func(_ *scene, t *oauth2.Token) request {
			return request{method: "POST", path: "/api/v1/wallets/USD/top-ups", token: t.AccessToken, body: `{}`, header: []string{"Idempotency-Key: k"}}
		}, 403),
		acts("a program that makes its refresh token a customer's", func(_ *scene, t *oauth2.Token) request {
			return request{method: "POST", path: "/api/v1/auth/refresh", body: `{"refresh_token":"` + t.RefreshToken + `"}`}
		}, 401),
		{"a code used twice, by its thief", func(ctx context.Context, s *scene) outcome {
			conf, code, token, err := s.letAct(ctx)
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			_, err = conf.Exchange(ctx, code.text, oauth2.VerifierOption(code.verifier))
			a := s.send(ctx, request{method: "GET", path: "/api/v1/orders", token: token.AccessToken})
			return outcome{"the code again, then the first one's token", fmt.Sprint(err, "; ", a.String()), err != nil && a.status == http.StatusUnauthorized}
		}},
		{"a stolen code without its verifier", func(ctx context.Context, s *scene) outcome {
			conf, err := s.program(ctx)
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			code, err := s.code(ctx, conf)
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			_, err = conf.Exchange(ctx, code.text, oauth2.VerifierOption(oauth2.GenerateVerifier()))
			return outcome{"the code and another verifier", fmt.Sprint(err), err != nil}
		}},
	}
}

// program registers a program.
func (s *scene) program(ctx context.Context) (*oauth2.Config, error) {
	a := s.send(ctx, request{
		method: "POST", path: "/api/v1/oauth/clients", token: s.admin.token,
		body: `{"name":"Tea diary","redirect_uris":["` + programPage + `"],"scopes":["openid","offline_access","orders.read"],"confidential":true}`,
	})
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(a.body, &made); err != nil || a.status != http.StatusCreated {
		return nil, fmt.Errorf("register a program: %s, %w", a.String(), err)
	}
	return &oauth2.Config{
		ClientID: made.ID, ClientSecret: made.Secret, RedirectURL: programPage, Scopes: []string{"openid", "offline_access", "orders.read"},
		Endpoint: oauth2.Endpoint{AuthURL: s.shop.Gateway + "/oauth/authorize", TokenURL: s.shop.Gateway + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader},
	}, nil
}

// code is an authorization code with the verifier that goes with it.
type code struct{ text, verifier string }

// code has the victim let the program act.
func (s *scene) code(ctx context.Context, conf *oauth2.Config) (code, error) {
	verifier := oauth2.GenerateVerifier()
	path := func(whole string) string { return strings.TrimPrefix(whole, s.shop.Gateway) }
	asked := s.send(ctx, request{method: "GET", path: path(conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))})
	_, id, ok := strings.Cut(asked.header.Get("Location"), "/sign-in?request=")
	if !ok {
		return code{}, fmt.Errorf("ask for access: %s", asked.String())
	}
	yes := s.send(ctx, request{method: "POST", path: "/api/v1/oauth/requests/" + id + "/approve", token: s.victim.token})
	var to struct{ Location string }
	if err := json.Unmarshal(yes.body, &to); err != nil {
		return code{}, fmt.Errorf("approve: %s, %w", yes.String(), err)
	}
	back := s.send(ctx, request{method: "GET", path: path(to.Location)})
	at, err := url.Parse(back.header.Get("Location"))
	if err != nil || at.Query().Get("code") == "" {
		return code{}, errors.Join(fmt.Errorf("no code: %s", back.String()), err)
	}
	return code{at.Query().Get("code"), verifier}, nil
}

// letAct goes all the way to the tokens of a program that the victim lets act.
func (s *scene) letAct(ctx context.Context) (*oauth2.Config, code, *oauth2.Token, error) {
	conf, err := s.program(ctx)
	if err != nil {
		return nil, code{}, nil, err
	}
	c, err := s.code(ctx, conf)
	if err != nil {
		return nil, code{}, nil, err
	}
	token, err := conf.Exchange(ctx, c.text, oauth2.VerifierOption(c.verifier))
	return conf, c, token, err
}
