package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// people are attacks on who somebody is: tokens, passwords, sessions.
func people() []attack {
	return []attack{
		token("a token without a signature algorithm", func(s *scene, f *forgery) { f.header["alg"], f.sign = "none", nil }),
		token("a token signed with the public key as a secret (HS256)", func(s *scene, f *forgery) {
			f.header["alg"] = "HS256"
			f.sign = func(text string) []byte {
				mac := hmac.New(sha256.New, []byte(f.jwks))
				mac.Write([]byte(text))
				return mac.Sum(nil)
			}
		}),
		token("a token signed by a stranger under our key's id", func(*scene, *forgery) {}),
		token("a token that brings its own key (jwk)", func(_ *scene, f *forgery) { f.header["jwk"] = f.own() }),
		token("a token that says where its key is (jku)", func(s *scene, f *forgery) { f.header["jku"] = s.traces.URL + "/jwks.json" }),
		token("a token whose key id is a path", func(_ *scene, f *forgery) { f.header["kid"] = "../../../../dev/null" }),
		token("a token whose key id is SQL", func(_ *scene, f *forgery) { f.header["kid"] = "x' UNION SELECT '1" }),
		token("a token with a critical header nobody knows", func(_ *scene, f *forgery) { f.header["crit"] = []string{"exp"} }),
		token("an id token in place of an access token", func(_ *scene, f *forgery) { f.header["typ"] = "JWT" }),
		token("a token that never expires", func(_ *scene, f *forgery) { delete(f.claims, "exp") }),
		token("a token for another audience", func(_ *scene, f *forgery) { f.claims["aud"] = "svc:payment" }),
		token("a customer's token that now says admin", func(s *scene, f *forgery) {
			parts := strings.Split(s.thief.token, ".")
			f.claims["sub"] = s.thief.id
			f.whole = parts[0] + "." + encode(f.claims) + "." + parts[2]
		}),
		token("an admin's token with its signature cut off", func(s *scene, f *forgery) {
			f.whole = s.admin.token[:strings.LastIndexByte(s.admin.token, '.')+1]
		}),
		token("an admin's token with another's signature", func(s *scene, f *forgery) {
			f.whole = s.admin.token[:strings.LastIndexByte(s.admin.token, '.')] + s.thief.token[strings.LastIndexByte(s.thief.token, '.'):]
		}),
		token("a token of 64 KiB", func(_ *scene, f *forgery) { f.whole = strings.Repeat("a.", 2) + strings.Repeat("A", 60<<10) }),
		token("a token of ten thousand dots", func(_ *scene, f *forgery) { f.whole = strings.Repeat(".", 10_000) }),
		token("a refresh token in place of an access token", func(s *scene, f *forgery) { f.whole = s.admin.refresh }),
		meets("an access token in the query", func(s *scene) request {
			return request{method: "GET", path: "/api/v1/users?access_token=" + s.admin.token}
		}, 401),
		meets("two tokens at once, the admin's second", func(s *scene) request {
			return request{method: "GET", path: "/api/v1/users", token: s.thief.token, header: []string{"Authorization: Bearer " + s.admin.token}}
		}, 400, 401),

		{"signing in tells who has an account", tellsApart},
		{"a thousand passwords for one account (150 of them)", guess},
		{"a refresh token used twice, by its thief", refreshTwice},
		{"a token after signing out", afterLogout},
		{"a token of a disabled account", afterDisable},
		{"a token from before the password was changed", afterPassword},
		meets("another's password changed without knowing it", func(s *scene) request {
			return request{method: "PUT", path: "/api/v1/users/me/password", token: s.victim.token, body: `{"current_password":"not the password","password":"` + uuid.NewString() + `"}`}
		}, 401),
		{"another's session ended", func(ctx context.Context, s *scene) outcome {
			var list struct{ Items []struct{ ID string } }
			if err := s.as(s.victim).get(ctx, "/api/v1/users/me/sessions", &list); err != nil || len(list.Items) == 0 {
				return outcome{"", fmt.Sprint("no sessions: ", err), false}
			}
			r := request{method: "DELETE", path: "/api/v1/users/me/sessions/" + list.Items[0].ID, token: s.thief.token}
			a := s.send(ctx, r)
			return outcome{r.String(), a.String(), a.status == http.StatusNotFound}
		}},
		meets("a registration that makes itself an admin", func(*scene) request {
			return registration(`"roles":["admin"]`)
		}, 422),
		meets("the same with the field in capitals", func(*scene) request { return registration(`"Roles":["admin"]`) }, 422),
		meets("an account under somebody's address in other letters", func(s *scene) request {
			r := registration(`"x":1`)
			r.body = `{"email":"` + strings.ToUpper(s.victim.email) + `","password":"` + uuid.NewString() + `","display_name":"X"}`
			return r
		}, 409),
		meets("an address with a line break, for mail headers", func(*scene) request {
			r := registration(`"x":1`)
			r.body = `{"email":"a@souk.example\r\nBcc: b@souk.example","password":"` + uuid.NewString() + `","display_name":"X"}`
			return r
		}, 422),
		meets("a password that everybody tries first", func(*scene) request {
			r := registration(`"x":1`)
			r.body = `{"email":"` + uuid.NewString() + `@souk.example","password":"password123","display_name":"X"}`
			return r
		}, 422),
		meets("a sign-in from a provider nobody has begun", func(*scene) request {
			return request{method: "GET", path: "/api/v1/auth/providers/test/callback?code=stolen&state=made-up"}
		}, 400, 401, 403, 404, 302, 303),
		{"a sign-in that returns to another site", func(ctx context.Context, s *scene) outcome {
			r := request{method: "GET", path: `/api/v1/auth/providers/test/start?return_to=//evil.example/%5Cevil.example`}
			a := s.send(ctx, r)
			return outcome{r.String(), a.String() + " " + a.header.Get("Location"), !strings.Contains(a.header.Get("Location"), "evil.example") && a.status >= 400}
		}},
	}
}

// registration is one with a field more than there is.
func registration(more string) request {
	return request{method: "POST", path: "/api/v1/auth/register", body: `{"email":"` + uuid.NewString() + `@souk.example","password":"` +
		uuid.NewString() + `","display_name":"X",` + more + `}`}
}

// forgery is a token in the making. Unless it is changed it says that its bearer is the admin, signed with a key of its own.
type forgery struct {
	header, claims map[string]any
	sign           func(text string) []byte
	whole          string // in place of all that
	jwks           string // the shop's public keys
	key            *ecdsa.PrivateKey
}

// token is an attack with a token on a route for admins.
func token(name string, change func(*scene, *forgery)) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		f, err := newForgery(ctx, s)
		if err != nil {
			return outcome{"", err.Error(), false}
		}
		change(s, f)
		text := f.whole
		if text == "" {
			text = encode(f.header) + "." + encode(f.claims)
			var signature []byte
			if f.sign != nil {
				signature = f.sign(text)
			}
			text += "." + base64.RawURLEncoding.EncodeToString(signature)
		}
		r := request{method: "GET", path: "/api/v1/users", token: text}
		a := s.send(ctx, r)
		return outcome{r.String() + " with " + text, a.String(), a.status == http.StatusUnauthorized || a.status == http.StatusRequestHeaderFieldsTooLarge}
	}}
}

func newForgery(ctx context.Context, s *scene) (*forgery, error) {
	jwks := s.send(ctx, request{method: "GET", path: "/.well-known/jwks.json"})
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(jwks.body, &set); err != nil || len(set.Keys) == 0 {
		return nil, fmt.Errorf("no keys are published: %s", jwks)
	}
	f := &forgery{jwks: string(jwks.body), header: map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": set.Keys[0].Kid}}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(s.admin.token, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &f.claims)
	}
	if err != nil {
		return nil, err
	}
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	f.sign = func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		r, v, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
		if err != nil {
			return nil
		}
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	return f, nil
}

// own is the forger's key as a JWK.
func (f *forgery) own() map[string]any {
	point, err := f.key.PublicKey.Bytes()
	if err != nil {
		return nil
	}
	e := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "EC", "crv": "P-256", "x": e(point[1:33]), "y": e(point[33:])}
}

func encode(part map[string]any) string {
	b, err := json.Marshal(part)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var ids = regexp.MustCompile(`"(request_id|trace_id)":"[^"]*"`)

// tellsApart compares what is answered for a wrong password with what is answered where there is no account.
func tellsApart(ctx context.Context, s *scene) outcome {
	known, unknown := login(s.thief.email, "not the password"), login(uuid.NewString()+"@souk.example", "not the password")
	a, b := s.send(ctx, known), s.send(ctx, unknown)
	same := a.status == http.StatusUnauthorized && a.status == b.status && bytes.Equal(ids.ReplaceAll(a.body, nil), ids.ReplaceAll(b.body, nil))
	return outcome{"a wrong password, and an unknown address", fmt.Sprintf("%s and %s", a, b), same}
}

func guess(ctx context.Context, s *scene) outcome {
	p, err := s.register(ctx, "guessed-"+uuid.NewString()+"@souk.example")
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	tried := 0
	var last answer
	for tried < 150 {
		last = s.send(ctx, login(p.email, fmt.Sprintf("password number %d", tried)))
		if tried++; last.status != http.StatusUnauthorized {
			break
		}
	}
	return outcome{fmt.Sprintf("%d passwords", tried), last.String() + ", Retry-After " + last.header.Get("Retry-After"), last.status == http.StatusTooManyRequests}
}

func refresh(token string) request {
	return request{method: "POST", path: "/api/v1/auth/refresh", body: `{"refresh_token":"` + token + `"}`}
}

// me is a request that any token is good for.
func me(token string) request {
	return request{method: "GET", path: "/api/v1/users/me", token: token}
}

func refreshTwice(ctx context.Context, s *scene) outcome {
	p, err := s.register(ctx, "robbed-"+uuid.NewString()+"@souk.example")
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	first := s.send(ctx, refresh(p.refresh))
	second := s.send(ctx, refresh(p.refresh))
	after := s.send(ctx, refresh(first.field("refresh_token")))
	var access answer
	ended := within(ctx, 6, func() bool {
		access = s.send(ctx, me(first.field("access_token")))
		return access.status == http.StatusUnauthorized
	})
	return outcome{
		"one refresh token twice, then what the first use gave", fmt.Sprintf("%s, then %s; the new one %s, its access token %s", first, second, after, access),
		first.status == http.StatusOK && second.status == http.StatusUnauthorized && after.status == http.StatusUnauthorized && ended,
	}
}

// dead registers somebody, ends their tokens, and has the access token tried until it is refused, for the five seconds that
// it may take.
func dead(ctx context.Context, s *scene, sent string, end func(*person) answer) outcome {
	p, err := s.register(ctx, "ended-"+uuid.NewString()+"@souk.example")
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	if a := s.send(ctx, me(p.token)); a.status != http.StatusOK {
		return outcome{sent, "before: " + a.String(), false}
	}
	began := time.Now()
	if a := end(p); a.status >= http.StatusBadRequest {
		return outcome{sent, a.String(), false}
	}
	var last answer
	ended := within(ctx, 6, func() bool { last = s.send(ctx, me(p.token)); return last.status == http.StatusUnauthorized })
	again := s.send(ctx, refresh(p.refresh))
	return outcome{sent, fmt.Sprintf("%s after %.1f s; the refresh token %s", last, time.Since(began).Seconds(), again), ended && again.status == http.StatusUnauthorized}
}

func afterLogout(ctx context.Context, s *scene) outcome {
	return dead(ctx, s, "GET /api/v1/users/me with it", func(p *person) answer {
		return s.send(ctx, request{method: "POST", path: "/api/v1/auth/logout", body: `{"refresh_token":"` + p.refresh + `"}`})
	})
}

func afterDisable(ctx context.Context, s *scene) outcome {
	return dead(ctx, s, "GET /api/v1/users/me with it", func(p *person) answer {
		return s.send(ctx, request{method: "POST", path: "/api/v1/users/" + p.id + "/disable", token: s.admin.token})
	})
}

func afterPassword(ctx context.Context, s *scene) outcome {
	return dead(ctx, s, "GET /api/v1/users/me with it", func(p *person) answer {
		return s.send(ctx, request{
			method: "PUT", path: "/api/v1/users/me/password", token: p.token,
			body: `{"current_password":"` + p.password + `","password":"` + uuid.NewString() + `"}`,
		})
	})
}
