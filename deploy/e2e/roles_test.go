package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// give gives p these roles and no others, and signs p in with them.
func (p *person) give(t *testing.T, by *person, roles ...identity.Role) {
	t.Helper()
	in := &user.SetRolesInput{ByID: contract.ByID{ID: p.id}}
	in.Body.Roles = roles
	if _, err := user.SetRoles.Call(t.Context(), by.client, in); err != nil {
		t.Fatal(err)
	}
	p.signIn(t, p.email, password)
}

// Every operation that can be reached from outside, as every role, at the shop itself; and none of those for services alone.
func TestRoles_mayDoWhatTheMatrixSays(t *testing.T) {
	boss := admin(t)
	people := map[identity.Role]*person{testkit.Stranger: nobody()}
	for _, role := range identity.Roles() {
		p := register(t)
		if role == identity.DataScientist {
			in := &user.SetAttributesInput{ByID: contract.ByID{ID: p.id}, Body: user.Attributes{Location: "HQ", Clearance: 9}}
			if _, err := user.SetAttributes.Call(t.Context(), boss.client, in); err != nil {
				t.Fatal(err)
			}
		}
		p.give(t, boss, role)
		people[role] = p
	}
	status, _, document := nobody().raw(t, http.MethodGet, "/api/openapi.json", "")
	if status != http.StatusOK {
		t.Fatalf("the document is answered with %d", status)
	}
	operations := testkit.Operations(t, document)
	for _, op := range operations {
		if op.Permission == identity.Internal {
			t.Errorf("%s %s is for services alone, and can be reached", op.Method, op.Path)
		}
	}
	asked := testkit.WalkRoles(t, operations, func(who identity.Role, method, path string) (int, string) {
		if method == http.MethodDelete && strings.HasSuffix(path, "/me/sessions") {
			path += "/" + uuid.NewString() // not their own: they still need it
		}
		status, _, answer := people[who].raw(t, method, path, "")
		var problem struct{ Code string }
		_ = json.Unmarshal(answer, &problem) // an answer that is no problem has no code
		return status, problem.Code
	})
	if asked < 700 {
		t.Errorf("only %d questions were asked", asked)
	}
	t.Logf("roles: operations=%d roles=%d asked=%d", len(operations), len(people), asked)
	for _, path := range []string{"/internal/v1/products", "/api/internal/v1/products", "/api/v1/internal/products", "/api/v1/../internal/v1/products"} {
		for who, p := range people {
			if status, _, answer := p.raw(t, http.MethodGet, path, ""); status != http.StatusNotFound && status != http.StatusBadRequest {
				t.Errorf("%s reaches %s: %d %s", who, path, status, answer)
			}
		}
	}
}

// Nobody becomes more than they are by saying so: not in a header, a query or a field.
func TestRoles_areNotForTheAsking(t *testing.T) {
	p := register(t)
	claims := []string{
		"X-User-Id", uuid.NewString(), "X-User-Roles", "admin,data_scientist", "X-Role", "admin", "X-Roles", "admin", "X-Internal-Role", "admin",
		"X-User-Location", "HQ", "X-User-Clearance", "9", "X-Location", "HQ", "X-Clearance", "9", "X-Forwarded-User", "admin",
	}
	for _, path := range []string{"/api/v1/users", "/api/v1/users/export", "/api/v1/orders/reports/customers", "/api/v1/payments/reports/days?role=admin&location=HQ&clearance=9"} {
		if status, _, answer := p.raw(t, http.MethodGet, path, "", claims...); status != http.StatusForbidden {
			t.Errorf("%s: got %d %s", path, status, answer)
		}
	}
	status, _, answer := p.raw(t, http.MethodPatch, "/api/v1/users/me", `{"display_name":"X","roles":["admin"],"location":"HQ","clearance":9}`)
	if status != http.StatusUnprocessableEntity {
		t.Errorf("fields that are not theirs to say: got %d %s", status, answer)
	}
	own := "/api/v1/users/" + p.id.String()
	for path, body := range map[string]string{own + "/roles": `{"roles":["admin"]}`, own + "/roles/admin": `{}`, own + "/attributes": `{"location":"HQ","clearance":9}`} {
		if status, _, answer := p.raw(t, http.MethodPut, path, body, claims...); status != http.StatusForbidden {
			t.Errorf("%s: got %d %s", path, status, answer)
		}
	}
}
