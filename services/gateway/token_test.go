package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// What is remembered of a token ends with it: from then on each request is verified, though clocks may differ.
func TestTokens_rememberNoneLongerThanItLives(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := time.Now()
	expires := signed.Add(identity.AccessTokenLife).Truncate(time.Second)
	now, asked := expires.Add(-time.Second), 0
	tokens := newTokens(identity.NewVerifier(func(*jwt.Token) (any, error) {
		asked++
		return &key.PublicKey, nil
	}, func() time.Time { return now }), nil, func() time.Time { return now })
	token, err := identity.Sign(identity.Principal{UserID: uuid.New()}, key, "k", signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		now   time.Time
		asked int
	}{{now, 1}, {expires.Add(-time.Millisecond), 1}, {expires, 2}, {expires.Add(time.Second), 3}} {
		now = at.now
		if _, err := tokens.verify(t.Context(), token); err != nil || asked != at.asked {
			t.Errorf("%s after it expired: %v, verified %d times, want %d", now.Sub(expires), err, asked, at.asked)
		}
	}
	now = expires.Add(time.Minute)
	if _, err := tokens.verify(t.Context(), token); !fault.HasCode(err, "token_expired") {
		t.Errorf("a minute after it expired: %v", err)
	}
}

// A token that is called back leaves with the next poll, however lately it was verified.
func TestTokens_rememberNoneThatIsCalledBack(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	v := identity.NewVerifier(func(*jwt.Token) (any, error) {
		asked++
		return &key.PublicKey, nil
	}, time.Now)
	p := identity.Principal{UserID: uuid.New(), SessionID: uuid.New()}
	var told []identity.Revocation
	feed := identity.NewFeed(func(context.Context, string) ([]identity.Revocation, string, error) { return told, "", nil }, time.Now)
	v.Heed(feed)
	tokens := newTokens(v, nil, time.Now)
	token, err := identity.Sign(p, key, "k", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"", "", "token_revoked", "token_revoked"} {
		if code != "" {
			told = []identity.Revocation{{Session: p.SessionID, At: time.Now()}}
		}
		if err := feed.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.verify(t.Context(), token); code == "" && err != nil || code != "" && !fault.HasCode(err, code) {
			t.Errorf("got %v, want %q", err, code)
		}
	}
	if asked != 1 {
		t.Errorf("its signature was verified %d times, want once", asked)
	}
}

// Another's program's token is swapped for one that services take, for half of that one's life at most, and not once it is
// called back.
func TestTokens_swapThoseOfPrograms(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now, swaps := time.Now(), 0
	clock := func() time.Time { return now }
	v := identity.NewVerifier(func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, clock)
	p := identity.Principal{UserID: uuid.New(), SessionID: uuid.New(), Client: "soc-1", Scopes: []string{"orders.read"}}
	var told []identity.Revocation
	feed := identity.NewFeed(func(context.Context, string) ([]identity.Revocation, string, error) { return told, "", nil }, clock)
	v.Heed(feed)
	if err := feed.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens := newTokens(v, func(_ context.Context, token string) (string, error) {
		if token != "sot_good" {
			return "", fault.New(fault.Unauthenticated, "invalid_token", "not valid")
		}
		swaps++
		return identity.Sign(p, key, "k", now)
	}, clock)
	identify := func(token string) (string, error) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := tokens.identify(r, route{path: "/api/v1/orders"})
		return r.Header.Get("Authorization"), err
	}
	for range 3 {
		sent, err := identify("sot_good")
		if err != nil || !strings.HasPrefix(sent, "Bearer ey") || strings.Contains(sent, "sot_") {
			t.Fatalf("the service gets %q, %v", sent, err)
		}
	}
	if swaps != 1 {
		t.Errorf("swapped %d times, want once", swaps)
	}
	now = now.Add(identity.DelegatedTokenLife / 2)
	if _, err := identify("sot_good"); err != nil || swaps != 2 {
		t.Errorf("half of its life later: %v, swapped %d times", err, swaps)
	}
	if _, err := identify("sot_bad"); !fault.HasCode(err, "invalid_token") {
		t.Errorf("one that is not good: %v", err)
	}
	told = []identity.Revocation{{Session: p.SessionID, At: now}}
	if err := feed.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := identify("sot_good"); !fault.HasCode(err, "token_revoked") {
		t.Errorf("called back: %v", err)
	}
}

// A token is verified again when its minute is over, and one that is refused is refused every time.
func TestTokens_rememberTheValidForAWhile(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	now, asked, gone := start, 0, false
	tokens := newTokens(identity.NewVerifier(func(*jwt.Token) (any, error) {
		if asked++; gone {
			return nil, errors.New("no such key")
		}
		return &key.PublicKey, nil
	}, func() time.Time { return now }), nil, func() time.Time { return now })
	user := uuid.New()
	token, err := identity.Sign(identity.Principal{UserID: user}, key, "k", start)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := tokens.verify(t.Context(), token); err != nil || got.holder.UserID != user {
			t.Fatalf("got %s, %v, want %s", got.holder.UserID, err, user)
		}
	}
	if asked != 1 {
		t.Errorf("it was verified %d times, want 1", asked)
	}
	other := token[:len(token)-2] + "AA"
	for range 2 {
		if _, err := tokens.verify(t.Context(), other); !fault.HasCode(err, "invalid_token") {
			t.Errorf("a token that differs in its signature alone: %v", err)
		}
	}
	now, gone = start.Add(tokenMemory), true
	if _, err := tokens.verify(t.Context(), token); !fault.HasCode(err, "invalid_token") {
		t.Errorf("after its time it was not verified again: %v", err)
	}
	now, gone = start.Add(identity.AccessTokenLife+time.Minute), false
	if _, err := tokens.verify(t.Context(), token); !fault.HasCode(err, "token_expired") {
		t.Errorf("an expired token: %v", err)
	}
}
