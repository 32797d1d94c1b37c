package user_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// heed makes the service heed what it calls back itself, as its main function does, and gives a poll of it.
func (s *shop) heed(t *testing.T) (v *identity.Verifier, poll func()) {
	t.Helper()
	v = identity.NewVerifier(s.user.Keyfunc, s.clock.now)
	feed := identity.NewFeed(s.user.Revoked, s.clock.now)
	v.Heed(feed)
	v.Ask(s.user.InGoodStanding)
	s.VerifyWith(v)
	poll = func() {
		t.Helper()
		if err := feed.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	return v, poll
}

// Whatever takes from somebody what a token says takes the token as well: at once where it is asked about online, and
// for everybody else with the next poll of the feed.
func TestRevocation_whatEndsAToken(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.admin(t)
	v, poll := s.heed(t)
	boss := s.signIn(t, "admin@souk.example").AccessToken
	post := func(path string, token string, body any) *testkit.Answer {
		return s.Do(t, testkit.Request{Method: "POST", Path: path, Token: token, Key: uuid.NewString(), Body: body})
	}
	for name, end := range map[string]func(own wire.Tokens){
		"logout": func(own wire.Tokens) {
			post("/v1/auth/logout", "", map[string]any{"refresh_token": own.RefreshToken}).Into(t, http.StatusNoContent, nil)
		},
		"disabled": func(own wire.Tokens) {
			s.setState(t, boss, own.User.ID, "disable").Into(t, 200, nil)
		},
		"other roles": func(own wire.Tokens) {
			s.setRoles(t, boss, own.User.ID, "admin", "customer").Into(t, 200, nil)
		},
		"a refresh token used twice": func(own wire.Tokens) {
			s.refresh(t, own.RefreshToken).Into(t, 200, nil)
			s.refresh(t, own.RefreshToken).Problem(t, 401, "invalid_refresh_token")
		},
		"another password": func(own wire.Tokens) {
			s.setPassword(t, own.AccessToken, password, "another long password").Into(t, 200, nil)
		},
		"ended from a list": func(own wire.Tokens) {
			p, err := v.Verify(own.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			s.Do(t, testkit.Request{Method: "DELETE", Path: "/v1/users/me/sessions/" + p.SessionID.String(), Token: own.AccessToken}).Into(t, 204, nil)
		},
		"the key withdrawn": func(wire.Tokens) {
			if err := s.user.RevokeKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			boss = s.signIn(t, "admin@souk.example").AccessToken
		},
	} {
		email := uuid.NewString() + "@souk.example"
		s.register(t, email)
		own := s.signIn(t, email)
		p, err := v.Verify(own.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Online(t.Context(), p); err != nil {
			t.Errorf("%s, before: %v", name, err)
		}
		end(own)
		if err := v.Online(t.Context(), p); name != "the key withdrawn" && !fault.HasCode(err, "token_revoked") {
			t.Errorf("%s, online: %v", name, err)
		}
		poll()
		if err := v.Recheck(p); !fault.HasCode(err, "token_revoked") {
			t.Errorf("%s, after a poll: %v", name, err)
		}
		if a := s.get(t, own.AccessToken, "/v1/users/me"); a.Status != http.StatusUnauthorized {
			t.Errorf("%s: its holder reads on: %d %s", name, a.Status, a.Body)
		}
	}
	if _, err := v.Verify(boss); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}

// What is fresh does not wait for the feed.
func TestRevocation_adminRoutesKnowAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.admin(t)
	s.heed(t)
	boss := s.signIn(t, "admin@souk.example")
	s.get(t, boss.AccessToken, "/v1/users").Into(t, 200, nil)
	if err := s.db.Exec("UPDATE session SET revoked_at = now(), revoked_for = 'logout'").Error; err != nil { // and nobody is told
		t.Fatal(err)
	}
	s.get(t, boss.AccessToken, "/v1/users").Problem(t, 401, "token_revoked")
	s.get(t, boss.AccessToken, "/v1/users/me").Into(t, 200, nil) // this one would wait for the feed
}

// A transaction that began first and commits last is not passed over, whatever was told in between.
func TestRevoked_missesNoneThatCommitsLate(t *testing.T) {
	t.Parallel()
	s := setup(t)
	insert := func(tx *gorm.DB) uuid.UUID {
		id := uuid.New()
		if err := tx.Exec("INSERT INTO revocation (session_id, at) VALUES (?, ?)", id, s.clock.now()).Error; err != nil {
			t.Fatal(err)
		}
		return id
	}
	ask := func(after string) (ids []uuid.UUID, next string) {
		told, next, err := s.user.Revoked(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range told {
			ids = append(ids, r.Session)
		}
		return ids, next
	}
	early := s.db.Begin()
	late := insert(early)
	first := insert(s.db)
	ids, next := ask("")
	if !slices.Equal(ids, []uuid.UUID{first}) {
		t.Errorf("got %v, want %v", ids, first)
	}
	if err := early.Commit().Error; err != nil {
		t.Fatal(err)
	}
	ids, next = ask(next)
	if !slices.Contains(ids, late) {
		t.Error("the late one was missed")
	}
	testkit.Eventually(t, 10*time.Second, func() bool { // other tests' transactions, in their databases, hold the cursor back
		ids, next = ask(next)
		return len(ids) == 0
	})
	for _, odd := range []string{"x", "-1", "99999999999999", "1 OR 1=1"} { // another database's, or nobody's
		if ids, _ = ask(odd); len(ids) != 2 {
			t.Errorf("after %q: %v", odd, ids)
		}
	}
	s.clock.forward(identity.RevocationLife)
	if ids, _ = ask(""); len(ids) != 0 {
		t.Errorf("told when no token is left: %v", ids)
	}
	if err := s.user.ForgetExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM revocation"); n != 0 {
		t.Errorf("%d kept", n)
	}
}

// A key signs for thirty days; the next one is published a day before, and the last one until its tokens have expired.
func TestKeys_turn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "k@souk.example")
	other, err := user.New(t.Context(), s.deps(s.passwords)) // another instance
	if err != nil {
		t.Fatal(err)
	}
	states := func() string {
		return scan[string](t, s.db, "SELECT string_agg(state, ' ' ORDER BY created_at) FROM signing_key WHERE use = 'access'")
	}
	published := func() (n int) {
		out, err := other.Keys(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Body.Keys)
	}
	turn := func() {
		for range 2 { // a second time changes nothing
			atOnce(2, func(i int) {
				if err := []*user.Service{s.user, other}[i].TurnKeys(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	verifies := func(token string) error {
		_, err := identity.NewVerifier(other.Keyfunc, s.clock.now).Verify(token)
		return err
	}
	for _, c := range []struct {
		forward   time.Duration
		states    string
		published int
	}{
		{0, "active", 1},
		{28 * 24 * time.Hour, "active", 1},
		{24*time.Hour + time.Minute, "active next", 2},
		{23 * time.Hour, "active next", 2},
		{time.Hour + time.Minute, "retired active", 2},
		{identity.AccessTokenLife, "retired active", 2},
		{2 * time.Minute, "active", 1},
		{28*24*time.Hour + 23*time.Hour, "active", 1},
		{time.Hour, "active next", 2},
		{40 * 24 * time.Hour, "retired active", 2}, // the shop was away
	} {
		before := s.signIn(t, "k@souk.example").AccessToken
		s.clock.forward(c.forward)
		turn()
		if got := states(); got != c.states || published() != c.published {
			t.Errorf("after %s: %s, %d published; want %s, %d", c.forward, got, published(), c.states, c.published)
		}
		if err := verifies(s.signIn(t, "k@souk.example").AccessToken); err != nil {
			t.Errorf("after %s: a new token: %v", c.forward, err)
		}
		if c.forward < identity.AccessTokenLife {
			if err := verifies(before); err != nil {
				t.Errorf("after %s: a token of before: %v", c.forward, err)
			}
		}
	}
}
