// Package provider signs people in with identity providers of others: Google, a company's Keycloak, whoever speaks OpenID
// Connect. It is the protocol and nothing else: where the browser goes, and whom the provider says it has come back with. Who
// that is in the shop, the user service decides.
//
// The flow is the authorization code's, with PKCE (S256), state and nonce, all three new for each sign-in and known only to
// the row that the browser's cookie names (see Flow). The issuer must be, letter for letter, the configured one, in its
// discovery document, in the ID token, and in the answer where it says iss (RFC 9207); the ID token must be for us, signed
// with RS256 or ES256, and of this flow.
package provider

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"souk/shared/fault"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config is a provider. Name is in URLs, Label is for people. Scopes are asked for besides openid; email and profile if
// there are none.
type Config struct {
	Name         string   `json:"name"`
	Label        string   `json:"label"`
	Issuer       string   `json:"issuer"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	Scopes       []string `json:"scopes"`
}

// List is the configured providers, as a JSON array in an environment variable. It never shows their secrets.
type List []Config

var names = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// UnmarshalText reads the array, and refuses a provider that anybody between us and it could pretend to be.
func (l *List) UnmarshalText(text []byte) error {
	var list []Config
	if err := json.Unmarshal(text, &list); err != nil {
		return errors.New("not a JSON array of providers") // the cause would quote a secret
	}
	seen := map[string]bool{}
	for _, c := range list {
		u, err := url.Parse(c.Issuer)
		switch {
		case !names.MatchString(c.Name) || seen[c.Name]:
			return fmt.Errorf("provider %q: a name is of small letters, digits and hyphens, and there once", c.Name)
		case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("provider %s: its issuer is no URL", c.Name)
		case u.Scheme != "https" && (u.Scheme != "http" || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())):
			return fmt.Errorf("provider %s: its issuer must be https, but on this machine", c.Name)
		case c.ClientID == "":
			return fmt.Errorf("provider %s: it has no client_id", c.Name)
		}
		seen[c.Name] = true
	}
	*l = list
	return nil
}

// String hides the secrets from fmt and slog.
func (l List) String() string { return fmt.Sprintf("%d providers", len(l)) }

// Providers knows the configured ones. It is safe for concurrent use.
type Providers struct {
	list     List
	callback func(name string) string
	client   *http.Client
	now      func() time.Time

	mu    sync.Mutex
	known map[string]*oidc.Provider // by name; discovered when first needed
}

// New makes Providers, to which browsers come back at callback(name). They are called with client.
func New(list List, callback func(name string) string, client *http.Client, now func() time.Time) *Providers {
	return &Providers{list: list, callback: callback, client: client, now: now, known: map[string]*oidc.Provider{}}
}

// List is the configured providers.
func (p *Providers) List() List { return p.list }

// Flow is a sign-in under way. All of it but Provider is secret, and good for one sign-in.
type Flow struct {
	Provider string
	State    string
	Nonce    string
	Verifier string // PKCE's
}

// Person is whom a provider vouches for. Issuer and Subject name the person; the rest may change.
type Person struct {
	Issuer, Subject string
	Email           string
	EmailVerified   bool // by the provider
	Name            string
}

// Start begins a sign-in with the provider of that name, and gives the URL to send the browser to. NotFound, code
// no_such_provider, where there is none; Unavailable where it does not answer.
func (p *Providers) Start(ctx context.Context, name string) (Flow, string, error) {
	_, conf, err := p.find(ctx, name)
	if err != nil {
		return Flow{}, "", err
	}
	f := Flow{Provider: name, State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	return f, conf.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), nil
}

// Answer is what a browser comes back with.
type Answer struct{ Code, State, Issuer, Error string }

// Finish ends the sign-in f with what the browser came back with. Malformed, code sign_in_failed, is all that is told of an
// answer that is not the one to f; Unavailable where the provider does not answer.
func (p *Providers) Finish(ctx context.Context, f Flow, a Answer) (Person, error) {
	if subtle.ConstantTimeCompare([]byte(a.State), []byte(f.State)) != 1 || f.State == "" {
		return Person{}, failed(errors.New("state is not the flow's"))
	}
	found, conf, err := p.find(ctx, f.Provider)
	if err != nil {
		return Person{}, err
	}
	issuer := p.config(f.Provider).Issuer
	switch {
	case a.Issuer != "" && a.Issuer != issuer:
		return Person{}, failed(errors.New("answered by another issuer"))
	case a.Error != "":
		return Person{}, failed(fmt.Errorf("the provider says %.100q", a.Error))
	case a.Code == "":
		return Person{}, failed(errors.New("no code"))
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := conf.Exchange(ctx, a.Code, oauth2.VerifierOption(f.Verifier))
	if _, refused := errors.AsType[*oauth2.RetrieveError](err); refused {
		return Person{}, failed(err)
	}
	if err != nil {
		return Person{}, away(f.Provider, err)
	}
	raw, _ := token.Extra("id_token").(string)
	verifier := found.VerifierContext(context.WithoutCancel(ctx), &oidc.Config{
		ClientID: conf.ClientID, Now: p.now,
		// Pinned: what discovery offers is for others. HS256 is not among them, whose key would be our secret.
		SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256},
	})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return Person{}, failed(err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 { // Verify does not look at it
		return Person{}, failed(errors.New("the ID token is of another flow"))
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return Person{}, failed(err)
		}
	}
	return p.person(ctx, found, token, id)
}

// person is whom the ID token, or, of what it leaves out, the provider's userinfo speaks of.
func (p *Providers) person(ctx context.Context, found *oidc.Provider, token *oauth2.Token, id *oidc.IDToken) (Person, error) {
	var c struct {
		Email         string `json:"email"`
		EmailVerified bool   `json:"email_verified"`
		Name          string `json:"name"`
	}
	if err := id.Claims(&c); err != nil {
		return Person{}, failed(err)
	}
	if c.Email == "" && found.UserInfoEndpoint() != "" {
		info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return Person{}, failed(err)
		}
		if info.Subject != id.Subject { // OpenID Connect Core, 5.3.2
			return Person{}, failed(errors.New("userinfo is about somebody else"))
		}
		if err := info.Claims(&c); err != nil {
			return Person{}, failed(err)
		}
	}
	if id.Subject == "" {
		return Person{}, failed(errors.New("no subject"))
	}
	return Person{Issuer: id.Issuer, Subject: id.Subject, Email: c.Email, EmailVerified: c.EmailVerified, Name: c.Name}, nil
}

func (p *Providers) config(name string) Config {
	i := slices.IndexFunc(p.list, func(c Config) bool { return c.Name == name })
	if i < 0 {
		return Config{}
	}
	return p.list[i]
}

func (p *Providers) find(ctx context.Context, name string) (*oidc.Provider, *oauth2.Config, error) {
	c := p.config(name)
	if c.Name == "" {
		return nil, nil, fault.New(fault.NotFound, "no_such_provider", "nobody signs in with that here")
	}
	p.mu.Lock()
	found := p.known[name]
	p.mu.Unlock()
	if found == nil {
		var err error
		// The provider keeps the context, of which it wants the client only.
		if found, err = oidc.NewProvider(oidc.ClientContext(ctx, p.client), c.Issuer); err != nil {
			return nil, nil, away(name, err)
		}
		p.mu.Lock()
		p.known[name] = found
		p.mu.Unlock()
	}
	scopes := c.Scopes
	if len(scopes) == 0 {
		scopes = []string{"email", "profile"}
	}
	return found, &oauth2.Config{
		ClientID: c.ClientID, ClientSecret: c.ClientSecret, Endpoint: found.Endpoint(), RedirectURL: p.callback(name),
		Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}, nil
}

func failed(cause error) error {
	return fault.New(fault.Malformed, "sign_in_failed", "the sign-in did not succeed; begin anew").Because(cause)
}

func away(name string, cause error) error {
	return fault.New(fault.Unavailable, "provider_unavailable", "%s does not answer just now", name).Because(cause)
}
