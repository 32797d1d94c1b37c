package testkit

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"souk/shared/identity"
	"souk/shared/identity/policy"

	"github.com/google/uuid"
)

// Stranger is the role, in a walk, of who has not signed in.
const Stranger identity.Role = "stranger"

// Operation is one of an OpenAPI document.
type Operation struct {
	Method, Path string // "POST", "/v1/orders/{id}/pay"
	Permission   identity.Permission
}

// Operations are those of an OpenAPI document. One that declares no permission ends the test.
func Operations(t testing.TB, document []byte) []Operation {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Permission identity.Permission `json:"x-permission"`
		}
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	var all []Operation
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.Permission == "" {
				t.Fatalf("%s %s declares no permission", method, path)
			}
			all = append(all, Operation{strings.ToUpper(method), path, op.Permission})
		}
	}
	slices.SortFunc(all, func(a, b Operation) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	return all
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// SomePath is the operation's path with something in it that can be there, and is not.
func (o Operation) SomePath() string {
	return parameter.ReplaceAllStringFunc(o.Path, func(p string) string {
		switch p {
		case "{currency}":
			return "USD"
		case "{slug}":
			return "no-such-category"
		case "{role}":
			return string(identity.Support)
		default:
			return uuid.NewString()
		}
	})
}

// WalkRoles asks for every operation as every role and as a stranger, each alone, and holds the answers to the policies'
// matrix: who may not is told so with 403, or 401 where nobody has signed in, and who may is told anything else. It gives how
// many questions it asked. Operations for services alone are left out.
func WalkRoles(t testing.TB, operations []Operation, ask func(who identity.Role, method, path string) (status int, code string)) (asked int) {
	t.Helper()
	may := map[identity.Permission][]string{}
	for line := range strings.Lines(policy.Matrix()) {
		name, roles, _ := strings.Cut(strings.TrimSpace(line), ":")
		may[identity.Permission(name)] = strings.Fields(roles)
	}
	for _, op := range operations {
		if op.Permission == identity.Internal {
			continue
		}
		for _, who := range append(identity.Roles(), Stranger) {
			status, code := ask(who, op.Method, op.SomePath())
			asked++
			refused := status == http.StatusForbidden && code == "forbidden" ||
				status == http.StatusUnauthorized && (code == "unauthenticated" || code == "invalid_token" || code == "token_revoked")
			allowed := slices.Contains(may[op.Permission], "anybody") || slices.Contains(may[op.Permission], string(who))
			wrongly := !allowed && (who == Stranger) != (status == http.StatusUnauthorized)
			if refused == allowed || wrongly {
				t.Errorf("%s asks %s %s (%s): got %d %s, and the matrix says may=%t", who, op.Method, op.Path, op.Permission, status, code, allowed)
			}
		}
	}
	return asked
}

// WalkRoles is WalkRoles of the service's own operations, by people who have nothing but their role; data scientists are at
// headquarters, with every clearance. Whose account matters is in ids, the others are new.
func (s *Service) WalkRoles(t testing.TB, ids map[identity.Role]uuid.UUID) {
	t.Helper()
	document, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	operations := Operations(t, document)
	tokens := map[identity.Role]string{}
	for _, role := range identity.Roles() {
		p := identity.Principal{UserID: uuid.New(), Roles: []identity.Role{role}, SessionID: uuid.New()}
		if id, ok := ids[role]; ok {
			p.UserID = id
		}
		if role == identity.DataScientist {
			p.Location, p.Clearance = "HQ", 9
		}
		tokens[role] = s.TokenOf(t, p)
	}
	asked := WalkRoles(t, operations, func(who identity.Role, method, path string) (int, string) {
		answer := s.Do(t, Request{Method: method, Path: path, Token: tokens[who], Key: uuid.NewString()})
		var problem struct{ Code string }
		_ = json.Unmarshal(answer.Body, &problem) // an answer that is none has no code
		return answer.Status, problem.Code
	})
	if asked == 0 {
		t.Error("there was nothing to ask for")
	}
	t.Logf("operations=%d asked=%d", len(operations), asked)
}
