package user_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/alexedwards/argon2id"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestLogin_givesTokensThatAreGood(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, _ := s.register(t, "in@souk.example")
	answer := s.login(t, " IN@souk.example", password)
	var got wire.Tokens
	answer.Into(t, 200, &got)
	if got.TokenType != "Bearer" || got.ExpiresIn != 600 || !strings.HasPrefix(got.RefreshToken, "srt_") || got.User.ID != u.ID {
		t.Errorf("got %+v", got)
	}
	if cc := answer.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control is %q", cc)
	}
	p, err := identity.NewVerifier(s.user.Keyfunc, s.clock.now).Verify(got.AccessToken)
	if err != nil || p.UserID != u.ID || !slices.Equal(p.Roles, []identity.Role{identity.Customer}) {
		t.Errorf("the access token says %+v, %v", p, err)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM session WHERE id = ? AND user_id = ? AND revoked_at IS NULL", p.SessionID, u.ID); n != 1 {
		t.Error("the token's session is not there")
	}
	s.VerifyWith(identity.NewVerifier(s.user.Keyfunc, s.clock.now))
	s.get(t, got.AccessToken, "/v1/users/me").Into(t, 200, nil)
}

// Who does not get in learns nothing from the answer, and nothing from how long it took: in each case one hash of the
// same cost was compared.
func TestLogin_tellsNobodyWhy(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "known@souk.example")
	gone, _ := s.register(t, "gone@souk.example")
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/users/" + gone.ID.String() + "/disable", Token: s.admin(t), Key: "k"}).Into(t, 200, nil)

	var problems []string
	for _, c := range []struct{ name, email, password string }{
		{"wrong password", "known@souk.example", "not the password"},
		{"unknown account", "unknown@souk.example", password},
		{"disabled account", "gone@souk.example", password},
		{"disabled account, wrong password", "gone@souk.example", "not the password"},
		{"no address at all", "x\x00", password},
	} {
		before := len(s.passwords.compared)
		answer := s.login(t, c.email, c.password)
		answer.Problem(t, 401, "invalid_credentials")
		if n := len(s.passwords.compared) - before; n != 1 {
			t.Errorf("%s: %d hashes were compared, want 1", c.name, n)
		}
		var p map[string]any
		if err := json.Unmarshal(answer.Body, &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "request_id") // names the request, of every answer
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		problems = append(problems, string(b))
	}
	for _, p := range problems {
		if p != problems[0] {
			t.Errorf("answers differ: %s and %s", problems[0], p)
		}
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM session"); n != 0 {
		t.Errorf("%d sessions, want none", n)
	}

	// What an unknown account is compared with must cost what a real hash costs: one that cannot be read costs nothing.
	real, err := user.NewArgon2().Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _, err := argon2id.DecodeHash(real)
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := argon2id.DecodeHash(s.passwords.compared[1])
	if err != nil {
		t.Fatalf("the hash of nobody is not valid: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hash of nobody costs something else (-want +got):\n%s", diff)
	}
}

func TestLogin_refusesBadInput(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, body := range []string{
		`{"email":"a@souk.example"}`, `{"email":"a@souk.example","password":""}`, `{"email":"a@souk.example","password":["x"]}`,
		`{"email":"a@souk.example","password":"` + strings.Repeat("x", 129) + `"}`, `{"email":"a@souk.example","password":"xxxxxxxxxxxx","admin":true}`,
	} {
		s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/login", Body: body}).Problem(t, 422, "invalid")
	}
	if len(s.passwords.compared) != 0 {
		t.Error("a password was compared for a request that cannot be right")
	}
}

func TestRefresh_rotatesAndReadsTheRolesAnew(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, _ := s.register(t, "r@souk.example")
	first := s.signIn(t, "r@souk.example")
	if err := s.db.Exec("INSERT INTO account_role (user_id, role, granted_at) VALUES (?, 'admin', now())", u.ID).Error; err != nil {
		t.Fatal(err)
	}
	var second, third wire.Tokens
	s.refresh(t, first.RefreshToken).Into(t, 200, &second)
	s.refresh(t, second.RefreshToken).Into(t, 200, &third)
	v := identity.NewVerifier(s.user.Keyfunc, s.clock.now)
	a, errA := v.Verify(first.AccessToken)
	b, errB := v.Verify(third.AccessToken)
	if errA != nil || errB != nil || a.SessionID != b.SessionID || slices.Contains(a.Roles, identity.Admin) || !slices.Contains(b.Roles, identity.Admin) {
		t.Errorf("got %+v and %+v", a, b)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM refresh_token t JOIN refresh_token p ON p.digest = t.parent WHERE p.used_at IS NOT NULL"); n != 2 {
		t.Errorf("%d tokens descend from used ones, want 2", n)
	}
}

func TestRefresh_endsTheSessionOfATokenThatComesTwice(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "r@souk.example")
	stolen := s.signIn(t, "r@souk.example")
	elsewhere := s.signIn(t, "r@souk.example")
	var next wire.Tokens
	s.refresh(t, stolen.RefreshToken).Into(t, 200, &next)

	s.refresh(t, stolen.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	s.refresh(t, next.RefreshToken).Problem(t, 401, "invalid_refresh_token") // the whole family
	s.refresh(t, elsewhere.RefreshToken).Into(t, 200, nil)                   // and no other
	if got := scan[string](t, s.db, "SELECT string_agg(revoked_for, ',') FROM session"); got != "reuse" {
		t.Errorf("sessions were revoked for %q, want one for reuse", got)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM refresh_token WHERE used_at IS NULL"); n != 2 {
		t.Errorf("%d unused tokens, want the revoked one and the new one elsewhere", n)
	}
}

// Of two refreshes of one token at the same moment one wins, and what it wins is dead, because the other is a reuse.
func TestRefresh_ofOneTokenTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "race@souk.example")
	for range 10 {
		tokens := s.signIn(t, "race@souk.example")
		answers := make([]*testkit.Answer, 2)
		atOnce(len(answers), func(i int) { answers[i] = s.refresh(t, tokens.RefreshToken) })
		winner, loser := answers[0], answers[1]
		if winner.Status != http.StatusOK {
			winner, loser = loser, winner
		}
		var won wire.Tokens
		winner.Into(t, 200, &won)
		loser.Problem(t, 401, "invalid_refresh_token")
		s.refresh(t, won.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM session WHERE revoked_for IS DISTINCT FROM 'reuse'"); n != 0 {
		t.Errorf("%d sessions outlived the race", n)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM (SELECT parent FROM refresh_token WHERE parent IS NOT NULL GROUP BY parent HAVING count(*) > 1) x"); n != 0 {
		t.Errorf("%d tokens were used twice", n)
	}
}

func TestRefresh_refusesWhatIsNotOrNoLongerGood(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "r@souk.example")
	s.refresh(t, "srt_unknown").Problem(t, 401, "invalid_refresh_token")
	s.refresh(t, "").Problem(t, 422, "invalid")
	s.refresh(t, strings.Repeat("x", 129)).Problem(t, 422, "invalid")

	idle := s.signIn(t, "r@souk.example")
	s.clock.forward(14*24*time.Hour + time.Second)
	s.refresh(t, idle.RefreshToken).Problem(t, 401, "invalid_refresh_token")

	busy := s.signIn(t, "r@souk.example")
	for range 4 {
		s.clock.forward(7 * 24 * time.Hour)
		s.refresh(t, busy.RefreshToken).Into(t, 200, &busy)
	}
	s.clock.forward(2*24*time.Hour + time.Second)
	s.refresh(t, busy.RefreshToken).Problem(t, 401, "invalid_refresh_token") // thirty days are the end of any session

	fresh := s.signIn(t, "r@souk.example")
	if err := s.user.ForgetExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, s.db, "SELECT (SELECT count(*) FROM session) * 10 + (SELECT count(*) FROM refresh_token)"); n != 11 {
		t.Errorf("sessions and tokens left: %d, want one of each", n)
	}
	s.refresh(t, fresh.RefreshToken).Into(t, 200, nil)
}

func TestLogout_endsTheSession(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "out@souk.example")
	logout := func(token string) *testkit.Answer {
		return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/logout", Body: map[string]any{"refresh_token": token}})
	}
	first := s.signIn(t, "out@souk.example")
	var second wire.Tokens
	s.refresh(t, first.RefreshToken).Into(t, 200, &second)
	if a := logout(second.RefreshToken); a.Status != http.StatusNoContent || len(a.Body) != 0 {
		t.Errorf("got %d %s, want 204 and nothing", a.Status, a.Body)
	}
	logout(second.RefreshToken).Into(t, http.StatusNoContent, nil)
	logout("srt_unknown").Into(t, http.StatusNoContent, nil)
	logout("").Problem(t, 422, "invalid")
	s.refresh(t, second.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	if got := scan[string](t, s.db, "SELECT string_agg(revoked_for, ',') FROM session"); got != "logout" {
		t.Errorf("sessions were revoked for %q, want logout", got)
	}
}

func TestKeys_arePublishedAndTheSameForEveryInstance(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if err := s.db.Exec("DELETE FROM signing_key").Error; err != nil {
		t.Fatal(err)
	}
	instances := make([]*user.Service, 4)
	atOnce(len(instances), func(i int) {
		var err error
		if instances[i], err = user.New(t.Context(), s.deps(s.passwords)); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM signing_key WHERE use = 'access'"); n != 1 {
		t.Fatalf("%d keys, want 1", n)
	}
	signs := testkit.NewService(t, "user")
	instances[0].Routes(signs.Server)
	s.Service = signs
	s.register(t, "k@souk.example")
	tokens := s.signIn(t, "k@souk.example")
	for i, other := range instances {
		if _, err := identity.NewVerifier(other.Keyfunc, s.clock.now).Verify(tokens.AccessToken); err != nil {
			t.Errorf("instance %d: %v", i, err)
		}
	}

	answer := s.get(t, "", "/.well-known/jwks.json")
	if cc := answer.Header.Get("Cache-Control"); !strings.Contains(cc, "max-age=300") {
		t.Errorf("Cache-Control is %q", cc)
	}
	var set map[string][]map[string]any
	answer.Into(t, 200, &set)
	if kid := scan[string](t, s.db, "SELECT kid FROM signing_key WHERE use = 'access'"); kid == "" || set["keys"][0]["kid"] != kid {
		t.Errorf("the key is published as %q, want %q", set["keys"][0]["kid"], kid)
	}
	if len(set["keys"]) != 1 || set["keys"][0]["d"] != nil || len(set["keys"][0]) != 7 {
		t.Errorf("got %s, want one key and its public half alone", answer.Body)
	}
	// As another service fetches and uses it.
	find, err := identity.RemoteKeys(t.Context(), "http://user/.well-known/jwks.json", testkit.Hosts{"user": signs.Handler()}.Client(), s.Log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.NewVerifier(find, s.clock.now).Verify(tokens.AccessToken); err != nil {
		t.Errorf("verified with the published key: %v", err)
	}
	if bytes.Contains(answer.Body, []byte(`"d"`)) {
		t.Error("the private half is published")
	}
}

func TestNew_refusesABrokenKey(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if err := s.db.Exec("UPDATE signing_key SET sealed_key = '\\x00'").Error; err != nil {
		t.Fatal(err)
	}
	if _, err := user.New(t.Context(), s.deps(s.passwords)); err == nil {
		t.Error("the service was made with a key that cannot be read")
	}
	if _, err := identity.NewVerifier(s.user.Keyfunc, s.clock.now).Verify(s.Token(t, uuid.New())); err == nil {
		t.Error("a token signed with another's key is good")
	}
}
