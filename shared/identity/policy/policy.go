package policy

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"souk/shared/identity"

	"github.com/cedar-policy/cedar-go"
)

//go:embed rules/*.cedar
var rules embed.FS

// house are the policies of this repository. That they can be read is certain once a test has run.
//
//nolint:gochecknoglobals // never changes
var house = sync.OnceValue(func() *set {
	files, err := fs.Sub(rules, "rules")
	if err != nil {
		panic(err)
	}
	s, err := parse(files)
	if err != nil {
		panic(err)
	}
	return s
})

// Hash names the policies that decide: eight hexadecimal digits, others for any other text of them.
func Hash() string { return house().hash }

// set is a set of policies. It never changes.
type set struct {
	policies []policy
	byAction map[identity.Permission]chosen
	hash     string
	parents  sync.Map // of principals, by their roles: there are few combinations, and making one costs more than a decision
}

// policy is one with its id.
type policy struct {
	id      string
	actions []identity.Permission // that it is about; nil is all
	rule    *cedar.Policy         // for these
}

// chosen are the policies that can say something about an action, in the order in which they are written.
type chosen []policy

// All makes them what Cedar decides by.
func (c chosen) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range c {
			if !yield(cedar.PolicyID(p.id), p.rule) {
				return
			}
		}
	}
}

// parse reads the policies in files. Each has an @id of its own.
func parse(files fs.FS) (*set, error) {
	names, err := fs.Glob(files, "*.cedar")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	var policies []policy
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		list, err := cedar.NewPolicyListFromBytes(name, text)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		for _, whole := range list {
			p := policy{id: string(whole.Annotations()["id"])}
			if p.id == "" || slices.ContainsFunc(policies, func(o policy) bool { return o.id == p.id }) {
				return nil, fmt.Errorf("read policies: %s has a policy without an id of its own (%q)", name, p.id)
			}
			if p.rule, p.actions, err = scoped(whole); err != nil {
				return nil, fmt.Errorf("read policy %s: %w", p.id, err)
			}
			policies = append(policies, p)
		}
	}
	if len(policies) == 0 {
		return nil, errors.New("read policies: there are none")
	}
	s := newSet(policies)
	s.hash = hex.EncodeToString(sum.Sum(nil))[:8]
	return s, nil
}

// newSet chooses, for each action, the policies that can say something about it: Cedar would evaluate every policy, and
// find by its scope that most say nothing.
func newSet(policies []policy) *set {
	s := &set{policies: policies, byAction: map[identity.Permission]chosen{}}
	for _, a := range identity.Permissions() {
		for _, p := range policies {
			if p.actions == nil || slices.Contains(p.actions, a) {
				s.byAction[a] = append(s.byAction[a], p)
			}
		}
	}
	return s
}

// without is s without one of its policies, for tests of what each is there for.
func (s *set) without(id string) *set {
	return newSet(slices.DeleteFunc(slices.Clone(s.policies), func(p policy) bool { return p.id == id }))
}

// scoped takes the actions out of the scope of a policy: actions are the ones it is about, nil where it is about all, and
// rule is the policy without them. Who evaluates rule for none but those actions has what Cedar would have, and spares it
// looking the action up in each list, which is most of its work.
func scoped(whole *cedar.Policy) (rule *cedar.Policy, actions []identity.Permission, err error) {
	text, err := whole.MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	var parts map[string]json.RawMessage
	type entity struct{ Type, ID string }
	var scope struct {
		Op       string
		Entity   entity
		Entities []entity
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(parts["action"], &scope); err != nil {
		return nil, nil, err
	}
	named := scope.Entities
	switch {
	case scope.Op == "All":
		return whole, nil, nil
	case scope.Op == "==":
		named = append(named, scope.Entity)
	case scope.Op != "in" || len(named) == 0: // a group: there are none
		return nil, nil, fmt.Errorf("its actions are %s", parts["action"])
	}
	for _, e := range named {
		action := identity.Permission(e.ID)
		if cedar.EntityType(e.Type) != typeAction || !slices.Contains(identity.Permissions(), action) {
			return nil, nil, fmt.Errorf("there is no permission %q", e.ID)
		}
		actions = append(actions, action)
	}
	parts["action"] = json.RawMessage(`{"op":"All"}`)
	if text, err = json.Marshal(parts); err != nil {
		return nil, nil, err
	}
	rule = new(cedar.Policy)
	return rule, actions, rule.UnmarshalJSON(text)
}

// Known reports whether perm is a permission that some policy speaks of.
func Known(perm identity.Permission) bool {
	return slices.ContainsFunc(house().byAction[perm], func(p policy) bool { return p.actions != nil })
}

// roleKey names a combination of roles.
func roleKey(roles []identity.Role) string {
	if len(roles) == 1 {
		return string(roles[0])
	}
	var b strings.Builder
	for _, r := range roles {
		b.WriteString(string(r))
		b.WriteByte('\n')
	}
	return b.String()
}
