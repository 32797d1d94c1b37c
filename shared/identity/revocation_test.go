package identity_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// teller is who is asked what has been called back.
type teller struct {
	mu    sync.Mutex
	told  []identity.Revocation
	err   error
	asked []string
}

func (s *teller) fetch(_ context.Context, after string) ([]identity.Revocation, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, after)
	return s.told, "next", s.err
}

func (s *teller) tell(err error, told ...identity.Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.err = told, err
}

// heeding is a verifier that heeds a feed, with a key of its own.
func heeding(t testing.TB, fetch identity.Fetch, now func() time.Time) (*ecdsa.PrivateKey, *identity.Verifier, *identity.Feed) {
	t.Helper()
	key, _ := setup(t, now())
	v := identity.NewVerifier(func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, now)
	feed := identity.NewFeed(fetch, now)
	v.Heed(feed)
	return key, v, feed
}

func TestFeed_callsTokensBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	source := new(teller)
	key, v, feed := heeding(t, source.fetch, func() time.Time { return now })
	p := identity.Principal{UserID: uuid.New(), SessionID: uuid.New(), Version: 3}
	token := sign(t, p, key, now)
	for name, c := range map[string]struct {
		revoked identity.Revocation
		good    bool
	}{
		"nothing":             {identity.Revocation{}, true},
		"another's":           {identity.Revocation{User: uuid.New(), Version: 9}, true},
		"another session":     {identity.Revocation{Session: uuid.New()}, true},
		"another key":         {identity.Revocation{Key: "k2"}, true},
		"the version it has":  {identity.Revocation{User: p.UserID, Version: 3}, true},
		"its session":         {identity.Revocation{Session: p.SessionID}, false},
		"what its user may":   {identity.Revocation{User: p.UserID, Version: 4}, false},
		"the key it is under": {identity.Revocation{Key: "k1"}, false},
	} {
		c.revoked.At = now
		source := new(teller)
		source.tell(nil, c.revoked)
		v := identity.NewVerifier(func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, func() time.Time { return now })
		feed := identity.NewFeed(source.fetch, func() time.Time { return now })
		v.Heed(feed)
		if err := feed.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := v.Verify(token)
		if c.good != (err == nil) || !c.good && !fault.HasCode(err, "token_revoked") {
			t.Errorf("%s: %v", name, err)
		}
		if c.good && v.Recheck(got) != nil {
			t.Errorf("%s: refused when looked at again", name)
		}
	}

	// Who was let in before is noticed when looked at again, and so for as long as the token lives.
	if err := feed.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	source.tell(nil, identity.Revocation{Session: p.SessionID, At: now})
	if err := feed.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	source.tell(errors.New("away")) // last known
	if err := feed.Poll(t.Context()); err == nil {
		t.Error("a poll that failed said nothing")
	}
	now = now.Add(identity.AccessTokenLife)
	if err := v.Recheck(got); !fault.HasCode(err, "token_revoked") {
		t.Errorf("called back, and the teller away: %v", err)
	}
	source.tell(nil)
	for range 2 {
		if err := feed.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"", "next", "next", "", "next"}; len(source.asked) != len(want) || source.asked[3] != "" || source.asked[4] != "next" {
		t.Errorf("asked after %q, want %q: all anew when it has failed", source.asked, want)
	}
	now = now.Add(identity.RevocationLife)
	if err := feed.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Recheck(got); err != nil {
		t.Errorf("remembered for ever: %v", err)
	}
}

// Until the feed was heard, no token is good; and a request waits a moment for it, because that is how a service starts.
func TestFeed_unheardIsNotTheTokensFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(teller)
		source.tell(errors.New("away"))
		key, v, feed := heeding(t, source.fetch, time.Now)
		token := sign(t, identity.Principal{UserID: uuid.New()}, key, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = feed.Run(ctx, slog.New(slog.DiscardHandler)) }()
		begin := time.Now()
		if _, err := v.Verify(token); !fault.Is(err, fault.Unavailable) || time.Since(begin) != time.Second {
			t.Errorf("unheard: %v after %s", err, time.Since(begin))
		}
		source.tell(nil)
		begin = time.Now()
		if _, err := v.Verify(token); err != nil || time.Since(begin) > 200*time.Millisecond {
			t.Errorf("heard: %v after %s", err, time.Since(begin))
		}
		// From now on it asks every two seconds, so nothing stays unheard for longer.
		p := identity.Principal{UserID: uuid.New(), SessionID: uuid.New()}
		token = sign(t, p, key, time.Now())
		source.tell(nil, identity.Revocation{Session: p.SessionID, At: time.Now()})
		time.Sleep(2*time.Second + time.Millisecond) //nolint:forbidigo // the bubble's clock
		if _, err := v.Verify(token); !fault.HasCode(err, "token_revoked") {
			t.Errorf("after two seconds: %v", err)
		}
		cancel()
		synctest.Wait()
	})
}

func TestOnline_asksWhoKnows(t *testing.T) {
	t.Parallel()
	_, v := setup(t, time.Now())
	if err := v.Online(t.Context(), identity.Principal{}); err != nil {
		t.Errorf("with nobody to ask: %v", err)
	}
	var asked atomic.Int32
	v.Ask(func(context.Context, identity.Principal) error { asked.Add(1); return identity.Revoked() })
	if err := v.Online(t.Context(), identity.Principal{}); !fault.HasCode(err, "token_revoked") || asked.Load() != 1 {
		t.Errorf("got %v, asked %d times", err, asked.Load())
	}
}

// What looking up whether a token was called back adds to a request, with ten thousand sessions that were.
func BenchmarkRecheck(b *testing.B) {
	source := new(teller)
	for range 10_000 {
		source.told = append(source.told, identity.Revocation{Session: uuid.New(), At: time.Now()})
	}
	key, v, feed := heeding(b, source.fetch, time.Now)
	if err := feed.Poll(b.Context()); err != nil {
		b.Fatal(err)
	}
	token, err := identity.Sign(identity.Principal{UserID: uuid.New(), SessionID: uuid.New()}, key, "k1", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	p, err := v.Verify(token)
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if v.Recheck(p) != nil {
				b.Error("refused")
			}
		}
	})
}
