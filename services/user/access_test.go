package user_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"souk/services/user"
	"souk/shared/contract"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

func (s *shop) access(t *testing.T, method, token string, id uuid.UUID, what string, body any) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: method, Path: "/v1/users/" + id.String() + "/" + what, Token: token, Body: body})
}

func TestGrantRole_givesItUntilItEnds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "g@souk.example")
	soon := time.Now().Add(3 * time.Minute).UTC().Truncate(time.Second)
	var got wire.Access
	s.access(t, "PUT", admin, u.ID, "roles/support", map[string]any{"valid_until": soon}).Into(t, 200, &got)
	if len(got.Roles) != 2 || got.Roles[1].Role != identity.Support || *got.Roles[1].GrantedBy != user.SeedAdmin || !got.Roles[1].ValidUntil.Equal(soon) || got.Roles[0].ValidUntil != nil {
		t.Errorf("got %+v", got)
	}
	tokens := s.signIn(t, "g@souk.example")
	if tokens.ExpiresIn > 180 || tokens.ExpiresIn < 60 || len(tokens.User.Roles) != 2 {
		t.Errorf("a token of a role that ends in 3 minutes is good for %d s: %+v", tokens.ExpiresIn, tokens.User)
	}
	p, err := identity.NewVerifier(s.user.Keyfunc, s.clock.now).Verify(tokens.AccessToken)
	if err != nil || p.Expires().After(soon) {
		t.Errorf("it ends %s, after %s (%v)", p.Expires(), soon, err)
	}
	if err := s.db.Exec("UPDATE account_role SET valid_until = now() - interval '1 microsecond' WHERE role = 'support'").Error; err != nil {
		t.Fatal(err)
	}
	s.access(t, "GET", admin, u.ID, "access", nil).Into(t, 200, &got)
	if tokens = s.signIn(t, "g@souk.example"); len(got.Roles) != 1 || len(tokens.User.Roles) != 1 || tokens.ExpiresIn != 600 {
		t.Errorf("a role that has ended is there: %+v, %+v", got, tokens.User)
	}

	s.access(t, "PUT", admin, u.ID, "roles/support", map[string]any{}).Into(t, 200, nil)
	s.access(t, "DELETE", admin, u.ID, "roles/support", nil).Into(t, 200, &got)
	s.access(t, "DELETE", admin, u.ID, "roles/support", nil).Into(t, 200, &got) // it has it no more
	if len(got.Roles) != 1 || got.Roles[0].Role != identity.Customer {
		t.Errorf("got %+v", got)
	}
	s.access(t, "PUT", admin, u.ID, "roles/owner", map[string]any{}).Problem(t, 422, "invalid")
	s.access(t, "PUT", admin, u.ID, "roles/support", map[string]any{"valid_until": time.Now().Add(-time.Hour)}).Problem(t, 422, "invalid_time")

	auditor := s.Token(t, uuid.New(), identity.Auditor)
	var page contract.Page[wire.AccountChange]
	s.access(t, "GET", auditor, u.ID, "history", nil).Into(t, 200, &page)
	if len(page.Items) != 5 || page.Items[4].Changed != "state" || page.Items[0].Actor != user.SeedAdmin || !strings.Contains(page.Items[3].Became, "support until") {
		t.Errorf("got %+v", page.Items)
	}
	s.access(t, "GET", admin, u.ID, "history", nil).Problem(t, 403, "forbidden") // who grants does not look whether it was right
}

// The token in somebody's hand does not outlive what it says: the account's version is another with each change.
func TestGrantRole_callsTokensBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "c@souk.example")
	for what, change := range map[string]func(){
		"a grant":      func() { s.access(t, "PUT", admin, u.ID, "roles/support", map[string]any{}).Into(t, 200, nil) },
		"a revocation": func() { s.access(t, "DELETE", admin, u.ID, "roles/support", nil).Into(t, 200, nil) },
		"attributes": func() {
			s.access(t, "PUT", admin, u.ID, "attributes", wire.Attributes{Location: "HQ", Clearance: 2}).Into(t, 200, nil)
		},
	} {
		p, err := identity.NewVerifier(s.user.Keyfunc, s.clock.now).Verify(s.signIn(t, "c@souk.example").AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.user.InGoodStanding(t.Context(), p); err != nil {
			t.Errorf("before %s: %v", what, err)
		}
		change()
		if s.user.InGoodStanding(t.Context(), p) == nil {
			t.Errorf("after %s the token is still good", what)
		}
	}
}

func TestGrantRole_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, customer := s.register(t, "r@souk.example")
	s.access(t, "PUT", admin, u.ID, "roles/admin", map[string]any{}).Into(t, 200, nil)
	before := scan[int](t, s.db, "SELECT count(*) FROM account_history")
	attributes := wire.Attributes{Location: "HQ", Clearance: 9}
	for name, c := range map[string]struct {
		answer *testkit.Answer
		status int
		code   string
	}{
		"a role to oneself":            {s.access(t, "PUT", admin, user.SeedAdmin, "roles/support", map[string]any{}), 403, "not_on_yourself"},
		"a role from oneself":          {s.access(t, "DELETE", admin, user.SeedAdmin, "roles/admin", nil), 403, "not_on_yourself"},
		"headquarters to oneself":      {s.access(t, "PUT", admin, user.SeedAdmin, "attributes", attributes), 403, "not_on_yourself"},
		"an auditor to an admin":       {s.access(t, "PUT", admin, u.ID, "roles/auditor", map[string]any{}), 403, "conflicting_roles"},
		"both at once":                 {s.setRoles(t, admin, u.ID, "admin", "auditor"), 403, "conflicting_roles"},
		"support and finance":          {s.setRoles(t, admin, u.ID, "finance", "support", "customer"), 403, "conflicting_roles"},
		"by a customer":                {s.access(t, "PUT", customer, u.ID, "roles/admin", map[string]any{}), 403, "forbidden"},
		"by support":                   {s.access(t, "PUT", s.Token(t, uuid.New(), identity.Support), u.ID, "roles/admin", map[string]any{}), 403, "forbidden"},
		"by an admin without account":  {s.access(t, "PUT", s.Token(t, uuid.New(), identity.Admin), u.ID, "roles/support", map[string]any{}), 403, "forbidden"},
		"to nobody":                    {s.access(t, "PUT", admin, uuid.New(), "roles/support", map[string]any{}), 404, "no_such_user"},
		"a clearance that there isn't": {s.access(t, "PUT", admin, u.ID, "attributes", wire.Attributes{Location: "HQ", Clearance: 10}), 422, "invalid"},
		"a place with markup in it":    {s.access(t, "PUT", admin, u.ID, "attributes", wire.Attributes{Location: `HQ" }`}), 422, "invalid"},
		"an unknown field":             {s.access(t, "PUT", admin, u.ID, "roles/support", map[string]any{"granted_by": user.SeedBob}), 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); c.answer.Problem(t, c.status, c.code) })
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM account_history"); n != before {
		t.Errorf("%d changes were made", n-before)
	}
}

// What the policies call a conflict, the database refuses too, and nothing else; nor does it let anybody give themselves a role.
func TestRoleConflict_isTheSameInTheDatabase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.admin(t)
	admin := identity.Principal{UserID: uuid.New(), Roles: []identity.Role{identity.Admin}}
	conflicts := 0
	for _, one := range identity.Roles() {
		for _, other := range identity.Roles() {
			if one == other {
				continue
			}
			on := policy.Resource{Kind: policy.Account, Owner: user.SeedBob, Roles: []identity.Role{one, other}}
			allowed := policy.Allowed(admin, identity.GrantRoles, on)
			if !allowed {
				conflicts++
			}
			if err := s.db.Exec("DELETE FROM account_role WHERE user_id = ?", user.SeedBob).Error; err != nil {
				t.Fatal(err)
			}
			err := s.db.Exec("INSERT INTO account_role (user_id, role, granted_at) VALUES (?, ?, now()), (?, ?, now())", user.SeedBob, one, user.SeedBob, other).Error
			if (err == nil) != allowed {
				t.Errorf("%s and %s: the policies say %t, the database %v", one, other, allowed, err)
			}
		}
	}
	if conflicts != 8 {
		t.Errorf("%d conflicts, want four both ways", conflicts)
	}
	if s.db.Exec("UPDATE account_role SET granted_by = user_id").Error == nil {
		t.Error("the database lets somebody give themselves a role")
	}
}

// The export is for data scientists at headquarters with the clearance, as their account says and no header does.
func TestExport_isForWhomTheirAccountClears(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "scientist@souk.example")
	export := func(header http.Header) *testkit.Answer {
		token := s.signIn(t, "scientist@souk.example").AccessToken
		v := identity.NewVerifier(s.user.Keyfunc, s.clock.now)
		p, err := v.Verify(token)
		if err != nil {
			t.Fatal(err)
		}
		return s.Do(t, testkit.Request{Method: "GET", Path: "/v1/users/export?page_size=2", Token: s.TokenOf(t, p), Header: header})
	}
	forged := http.Header{"X-User-Location": {"HQ"}, "X-User-Clearance": {"9"}, "X-Role": {"data_scientist"}, "X-User-Id": {user.SeedAdmin.String()}}
	export(forged).Problem(t, 403, "forbidden") // a customer
	s.access(t, "PUT", admin, u.ID, "roles/data_scientist", map[string]any{}).Into(t, 200, nil)
	export(forged).Problem(t, 403, "forbidden") // nowhere, and not cleared
	for _, a := range []wire.Attributes{{Location: "HQ"}, {Location: "HQ", Clearance: 2}, {Location: "Basel", Clearance: 3}, {Clearance: 9}} {
		s.access(t, "PUT", admin, u.ID, "attributes", a).Into(t, 200, nil)
		export(forged).Problem(t, 403, "forbidden")
	}
	s.access(t, "PUT", admin, u.ID, "attributes", wire.Attributes{Location: "HQ", Clearance: 3}).Into(t, 200, nil)
	var page contract.Page[wire.Person]
	export(nil).Into(t, 200, &page)
	if len(page.Items) != 2 || page.Items[0].Email != "scientist@souk.example" || page.NextPageToken == "" {
		t.Errorf("got %+v", page)
	}
	s.get(t, admin, "/v1/users/export").Problem(t, 403, "forbidden")
	s.get(t, "", "/v1/users/export").Problem(t, 401, "unauthenticated")
}
