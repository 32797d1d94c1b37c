package user_test

import (
	"net/http"
	"testing"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

func (s *shop) setState(t *testing.T, token string, id uuid.UUID, action string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/users/" + id.String() + "/" + action, Token: token, Key: uuid.NewString()})
}

func (s *shop) setRoles(t *testing.T, token string, id uuid.UUID, roles ...string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/users/" + id.String() + "/roles", Token: token, Body: map[string]any{"roles": roles}})
}

func TestDisable_endsSessionsUntilEnabled(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "d@souk.example")
	tokens := s.signIn(t, "d@souk.example")
	another := s.signIn(t, "bob@souk.example")

	var got wire.User
	request := testkit.Request{Method: "POST", Path: "/v1/users/" + u.ID.String() + "/disable", Token: admin, Key: "once"}
	s.Do(t, request).Into(t, 200, &got)
	s.Do(t, request).Into(t, 200, &got) // the stored answer
	if !got.Disabled || got.ID != u.ID {
		t.Errorf("got %+v", got)
	}
	s.setState(t, admin, u.ID, "disable").Problem(t, 409, "illegal_state")
	s.login(t, "d@souk.example", password).Problem(t, 401, "invalid_credentials")
	s.refresh(t, tokens.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	s.refresh(t, another.RefreshToken).Into(t, 200, nil)

	s.setState(t, admin, u.ID, "enable").Into(t, 200, &got)
	s.setState(t, admin, u.ID, "enable").Problem(t, 409, "illegal_state")
	if got.Disabled {
		t.Errorf("got %+v", got)
	}
	s.refresh(t, tokens.RefreshToken).Problem(t, 401, "invalid_refresh_token") // what was ended stays so
	s.signIn(t, "d@souk.example")
	s.get(t, admin, "/v1/users/"+u.ID.String()).Into(t, 200, &got)
	history := scan[string](t, s.db, "SELECT string_agg(was || '>' || became || ' ' || (actor = ?), ', ' ORDER BY id) FROM account_history WHERE user_id = ? AND request_id <> ''", user.SeedAdmin, u.ID)
	if want := ">active false, active>disabled true, disabled>active true"; history != want {
		t.Errorf("got history %q, want %q", history, want)
	}
}

func TestSetRoles_givesTheseAndNoOthers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "r@souk.example")
	var got wire.User
	s.setRoles(t, admin, u.ID, "customer", "admin").Into(t, 200, &got)
	s.setRoles(t, admin, u.ID, "admin", "customer").Into(t, 200, &got) // the same: no move
	if len(got.Roles) != 2 {
		t.Errorf("got %v", got.Roles)
	}
	s.setRoles(t, admin, u.ID, "admin", "admin").Into(t, 200, &got)
	if len(got.Roles) != 1 || got.Roles[0] != identity.Admin {
		t.Errorf("got %v", got.Roles)
	}
	s.get(t, admin, "/v1/users/"+u.ID.String()).Into(t, 200, &got)
	if len(got.Roles) != 1 || got.Roles[0] != identity.Admin {
		t.Errorf("got %v", got.Roles)
	}
	history := scan[string](t, s.db, "SELECT string_agg(was || '>' || became, ', ' ORDER BY id) FROM account_history WHERE user_id = ? AND changed = 'roles'", u.ID)
	if want := "customer>admin,customer, admin,customer>admin"; history != want {
		t.Errorf("got history %q, want %q", history, want)
	}
	s.setRoles(t, admin, u.ID).Problem(t, 422, "invalid")
	s.setRoles(t, admin, u.ID, "owner").Problem(t, 422, "invalid")
	s.setRoles(t, admin, u.ID, "").Problem(t, 422, "invalid")
}

func TestAdmin_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, customer := s.register(t, "c@souk.example")
	other, _ := s.register(t, "o@souk.example")
	impostor := s.Token(t, u.ID, identity.Admin) // a token from before the role was taken away
	for name, c := range map[string]struct {
		answer *testkit.Answer
		status int
		code   string
	}{
		"a customer who lists":                      {s.get(t, customer, "/v1/users"), 403, "forbidden"},
		"a customer who looks":                      {s.get(t, customer, "/v1/users/"+other.ID.String()), 403, "forbidden"},
		"a customer who disables":                   {s.setState(t, customer, other.ID, "disable"), 403, "forbidden"},
		"a customer who gives roles":                {s.setRoles(t, customer, u.ID, "admin"), 403, "forbidden"},
		"nobody":                                    {s.get(t, "", "/v1/users"), 401, "unauthenticated"},
		"an admin who is none any more disables":    {s.setState(t, impostor, other.ID, "disable"), 403, "forbidden"},
		"an admin who is none any more gives roles": {s.setRoles(t, impostor, other.ID, "admin"), 403, "forbidden"},
		"an admin without an account":               {s.setState(t, s.Token(t, uuid.New(), identity.Admin), other.ID, "disable"), 403, "forbidden"},
		"one who disables the own account":          {s.setState(t, admin, user.SeedAdmin, "disable"), 403, "not_on_yourself"},
		"one who changes the own roles":             {s.setRoles(t, admin, user.SeedAdmin, "customer"), 403, "not_on_yourself"},
		"an unknown account":                        {s.get(t, admin, "/v1/users/"+uuid.NewString()), 404, "no_such_user"},
		"an unknown account that is to be disabled": {s.setState(t, admin, uuid.New(), "disable"), 404, "no_such_user"},
		"an unknown account that is to have a role": {s.setRoles(t, admin, uuid.New(), "admin"), 404, "no_such_user"},
		"no id":  {s.get(t, admin, "/v1/users/abc"), 422, "invalid"},
		"no key": {s.Do(t, testkit.Request{Method: "POST", Path: "/v1/users/" + other.ID.String() + "/disable", Token: admin}), 400, "idempotency_key_required"},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); c.answer.Problem(t, c.status, c.code) })
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM account_history WHERE was <> ''"); n != 0 {
		t.Errorf("%d changes, want none", n)
	}
}

// Two admins who take the role from each other at the same moment cannot leave the shop without one.
func TestSetRoles_leavesAnAdmin(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := s.admin(t)
	u, _ := s.register(t, "second@souk.example")
	second := s.Token(t, u.ID, identity.Admin)
	for range 5 {
		s.setRoles(t, first, u.ID, "admin").Into(t, 200, nil)
		answers := make([]*testkit.Answer, 2)
		atOnce(2, func(i int) {
			if i == 0 {
				answers[0] = s.setRoles(t, first, u.ID, "customer")
			} else {
				answers[1] = s.setRoles(t, second, user.SeedAdmin, "customer")
			}
		})
		if got := scan[int](t, s.db, "SELECT count(*) FROM account_role WHERE role = 'admin'"); got != 1 {
			t.Fatalf("%d admins are left, want 1 (answers %d, %d)", got, answers[0].Status, answers[1].Status)
		}
		if answers[0].Status != http.StatusOK { // the second won: have it give the role back
			s.setRoles(t, second, user.SeedAdmin, "admin").Into(t, 200, nil)
		}
	}
}

// A login that runs beside a disable either comes too late or is ended by it: no session outlives the account's state.
func TestDisable_missesNoSession(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "d@souk.example")
	for range 5 {
		atOnce(5, func(i int) {
			if i == 0 {
				s.setState(t, admin, u.ID, "disable").Into(t, 200, nil)
			} else {
				s.login(t, "d@souk.example", password)
			}
		})
		if n := scan[int](t, s.db, "SELECT count(*) FROM session WHERE revoked_at IS NULL"); n != 0 {
			t.Fatalf("%d sessions of a disabled account are alive", n)
		}
		s.setState(t, admin, u.ID, "enable").Into(t, 200, nil)
	}
}

func TestSeed_changesNothingTheSecondTime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	bob, _ := s.register(t, "bob@souk.example") // somebody was faster
	s.admin(t)
	if err := s.db.Exec("UPDATE account SET password_hash = '$argon2id$changed' WHERE id = ?", user.SeedAlice).Error; err != nil {
		t.Fatal(err)
	}
	before := everything(t, s.db)
	if err := s.user.Seed(t.Context(), "another password"); err != nil {
		t.Fatal(err)
	}
	if everything(t, s.db) != before {
		t.Error("seeding again changed something")
	}
	var out wire.Tokens
	s.login(t, "alice@souk.example", password).Problem(t, 401, "invalid_credentials") // her password is still the changed one
	s.login(t, "bob@souk.example", password).Into(t, 200, &out)
	if out.User.ID != bob.ID {
		t.Errorf("bob is %s, want who was faster", out.User.ID)
	}
	s.login(t, "admin@souk.example", password).Into(t, 200, &out)
	if out.User.ID != user.SeedAdmin || len(out.User.Roles) != 1 || out.User.Roles[0] != identity.Admin {
		t.Errorf("the admin is %+v", out.User)
	}
	if err := s.user.Seed(t.Context(), "too short"); err == nil {
		t.Error("a password that registration would refuse was taken")
	}
}
