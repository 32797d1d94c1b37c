package policy

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"souk/shared/identity"

	"github.com/cedar-policy/cedar-go"
	"github.com/google/uuid"
)

var (
	alice = uuid.MustParse("01920000-0000-7000-8000-000000000002")
	bob   = uuid.MustParse("01920000-0000-7000-8000-000000000003")
	now   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	later = now.Add(time.Hour)
)

func is(id uuid.UUID, roles ...identity.Role) identity.Principal {
	return identity.Principal{UserID: id, Roles: roles}
}

func scientist(location string, clearance int64) identity.Principal {
	return identity.Principal{UserID: alice, Roles: []identity.Role{identity.DataScientist}, Location: location, Clearance: clearance}
}

// row is a decision that is wanted, and of which policy.
type row struct {
	why  string
	who  identity.Principal
	perm identity.Permission
	on   Resource
	want bool
	by   string
}

func table() []row {
	var nobody identity.Principal
	customer, admin, support := is(alice, identity.Customer), is(alice, identity.Admin), is(alice, identity.Support)
	own, others := Resource{Kind: Order, ID: "o", Owner: alice}, Resource{Kind: Order, ID: "o", Owner: bob}
	shared := func(with uuid.UUID, may string, until time.Time) Resource {
		r := others
		r.Share = &Share{With: with, May: may, Until: until}
		return r
	}
	route := Resource{Kind: Route, ID: "r"}
	report := Resource{Kind: Report, ID: "customers", Class: 2}
	refund := func(asked, approved uuid.UUID, amount int64) Resource {
		return Resource{Kind: Refund, ID: "f", Owner: bob, RequestedBy: asked, ApprovedBy: approved, Amount: amount, Limit: 100}
	}
	account := func(owner uuid.UUID, roles ...identity.Role) Resource {
		return Resource{Kind: Account, ID: owner.String(), Owner: owner, Roles: roles}
	}
	everything := identity.Principal{UserID: alice, Roles: identity.Roles(), Location: "HQ", Clearance: 9}
	return []row{
		{"a stranger looks at the catalogue", nobody, identity.ViewProducts, route, true, "anybody"},
		{"a stranger signs in", nobody, identity.Public, route, true, "anybody"},
		{"a service asks another", nobody, identity.Internal, route, true, "service"},
		{"somebody looks at their own account", is(alice), identity.SignedIn, route, true, "signed_in"},
		{"a stranger has no account", nobody, identity.SignedIn, route, false, byDefault},
		{"a stranger orders", nobody, identity.PlaceOrder, route, false, byDefault},
		{"a customer orders", customer, identity.PlaceOrder, route, true, "role.customer"},
		{"somebody without a role orders", is(alice), identity.PlaceOrder, route, false, byDefault},
		{"a role that does not exist", is(alice, "owner"), identity.PlaceOrder, route, false, byDefault},
		{"an admin does not order", admin, identity.PlaceOrder, route, false, byDefault},
		{"a role that is another's name in capitals", is(alice, "Admin"), identity.ManageOrders, route, false, byDefault},
		{"a person whose id is a role's", is(uuid.MustParse("01920000-0000-7000-8000-0000000000ad")), identity.ManageOrders, route, false, byDefault},
		{"a customer manages orders", customer, identity.ManageOrders, route, false, byDefault},
		{"an admin manages orders", admin, identity.ManageOrders, route, true, "role.admin"},
		{"an admin of the catalogue", is(alice, identity.CatalogueManager), identity.ManageProducts, route, true, "role.catalogue_manager"},
		{"who manages the catalogue does not manage orders", is(alice, identity.CatalogueManager), identity.ManageOrders, route, false, byDefault},
		{"an auditor reads what was done", is(alice, identity.Auditor), identity.ReadAudit, route, true, "role.auditor"},
		{"an auditor does nothing", is(alice, identity.Auditor), identity.ManageTransactions, route, false, byDefault},
		{"an admin is no auditor", admin, identity.ReadAudit, route, false, byDefault},
		{"a custodian of keys rotates them", is(alice, identity.KeyCustodian), identity.RotateKeys, route, true, "role.key_custodian"},
		{"an admin does not rotate keys", admin, identity.RotateKeys, route, false, byDefault},
		{"a permission that there is not", everything, "fly", route, false, byDefault},
		{"no permission", everything, "", route, false, byDefault},

		{"a customer may ask for orders", customer, identity.ReadOrder, route, true, "role.customer"},
		{"a customer reads their own order", customer, identity.ReadOrder, own, true, "owner"},
		{"a customer cancels their own order", customer, identity.CancelOrder, own, true, "owner"},
		{"a customer pays their own order", customer, identity.PayOrder, own, true, "owner"},
		{"a customer does not read another's", customer, identity.ReadOrder, others, false, byDefault},
		{"a customer does not cancel another's", customer, identity.CancelOrder, others, false, byDefault},
		{"an order of nobody is nobody's", customer, identity.ReadOrder, Resource{Kind: Order, ID: "o"}, false, byDefault},
		{"a stranger does not own what nobody owns", nobody, identity.ReadOrder, Resource{Kind: Order, ID: "o"}, false, byDefault},
		{"owning does not manage", customer, identity.ManageOrders, own, false, byDefault},
		{"an owner who is no customer any more", is(alice, identity.CatalogueManager), identity.ReadOrder, own, false, byDefault},
		{"support reads everybody's orders", support, identity.ReadOrder, others, true, "role.support"},
		{"support does not pay them", support, identity.PayOrder, others, false, byDefault},
		{"an admin does not pay another's order", admin, identity.PayOrder, others, false, byDefault},
		{"finance reads orders", is(alice, identity.Finance), identity.ReadOrder, others, true, "role.finance"},

		{"whom an order is shared with reads it", customer, identity.ReadOrder, shared(alice, MayRead, later), true, "acl.read"},
		{"who may manage it reads it too", customer, identity.ReadOrder, shared(alice, MayManage, later), true, "acl.read"},
		{"who may read it does not cancel it", customer, identity.CancelOrder, shared(alice, MayRead, later), false, byDefault},
		{"who may manage it cancels it", customer, identity.CancelOrder, shared(alice, MayManage, later), true, "acl.manage"},
		{"who may manage it does not pay it", customer, identity.PayOrder, shared(alice, MayManage, later), false, byDefault},
		{"who may manage it does not share it", customer, identity.ShareOrder, shared(alice, MayManage, later), false, byDefault},
		{"a share that has ended", customer, identity.ReadOrder, shared(alice, MayRead, now), false, byDefault},
		{"a share to manage that has ended", customer, identity.CancelOrder, shared(alice, MayManage, now.Add(-time.Microsecond)), false, byDefault},
		{"a share of somebody else", customer, identity.ReadOrder, shared(bob, MayManage, later), false, byDefault},
		{"a share that says something else", customer, identity.CancelOrder, shared(alice, "MANAGE", later), false, byDefault},
		{"a wish list that is shared", customer, identity.ManageWishlist, Resource{Kind: Wishlist, Owner: bob, Share: &Share{alice, MayManage, later}}, true, "acl.manage"},

		{"a data scientist at headquarters with the clearance", scientist("HQ", 2), identity.ReadSensitiveData, report, true, "role.data_scientist"},
		{"more clearance than needed", scientist("HQ", 3), identity.ReadSensitiveData, report, true, "role.data_scientist"},
		{"less clearance than needed", scientist("HQ", 1), identity.ReadSensitiveData, report, false, "mac"},
		{"no clearance", scientist("HQ", 0), identity.ReadSensitiveData, report, false, "mac"},
		{"somewhere else", scientist("Basel", 2), identity.ReadSensitiveData, report, false, "mac"},
		{"nowhere", scientist("", 2), identity.ReadSensitiveData, report, false, "mac"},
		{"headquarters in small letters are not headquarters", scientist("hq", 2), identity.ReadSensitiveData, report, false, "mac"},
		{"what has no class is not read as sensitive", scientist("HQ", 9), identity.ReadSensitiveData, route, false, "mac"},
		{"an admin at headquarters with every clearance", identity.Principal{UserID: alice, Roles: []identity.Role{identity.Admin}, Location: "HQ", Clearance: 9}, identity.ReadSensitiveData, report, false, "mac"},
		{
			"an owner, with whom it is shared too, who is not cleared",
			identity.Principal{UserID: alice, Roles: []identity.Role{identity.Customer, identity.DataScientist}, Location: "HQ", Clearance: 1},
			identity.ReadSensitiveData,
			Resource{Kind: Order, ID: "o", Owner: alice, Class: 2, Share: &Share{alice, MayManage, later}},
			false, "mac",
		},
		{"an owner does not read what has a class as their own", customer, identity.ReadOrder, Resource{Kind: Order, ID: "o", Owner: alice, Class: 1}, false, "mac.class"},
		{"an admin does not read what has a class as an order", admin, identity.ReadOrder, Resource{Kind: Order, ID: "o", Owner: bob, Class: 1}, false, "mac.class"},

		{"support asks for a refund", support, identity.RequestRefund, refund(uuid.Nil, uuid.Nil, 500), true, "role.support"},
		{"nobody asks for a refund to themselves", is(bob, identity.Support), identity.RequestRefund, refund(uuid.Nil, uuid.Nil, 500), false, "sod.own_refund"},
		{"nor of a payment that is nobody's", support, identity.RequestRefund, Resource{Kind: Refund}, false, "sod.own_refund"},
		{"support does not approve", support, identity.ApproveRefund, refund(bob, uuid.Nil, 500), false, byDefault},
		{"finance approves what another has asked for", is(alice, identity.Finance), identity.ApproveRefund, refund(uuid.New(), uuid.Nil, 500), true, "role.finance"},
		{"an admin approves what another has asked for", admin, identity.ApproveRefund, refund(uuid.New(), uuid.Nil, 500), true, "role.admin"},
		{"an admin does not approve what they asked for", admin, identity.ApproveRefund, refund(alice, uuid.Nil, 500), false, "sod.refund"},
		{"nobody approves a refund to themselves", is(bob, identity.Admin), identity.ApproveRefund, refund(alice, uuid.Nil, 500), false, "sod.refund"},
		{"what nobody has asked for is not approved", admin, identity.ApproveRefund, refund(uuid.Nil, uuid.Nil, 500), false, "sod.refund"},
		{"finance does not ask", is(alice, identity.Finance), identity.RequestRefund, refund(uuid.Nil, uuid.Nil, 500), false, byDefault},
		{"up to the limit one is enough", support, identity.SettleRefund, refund(alice, uuid.Nil, 100), true, "refund.settle"},
		{"above it one is not", support, identity.SettleRefund, refund(alice, uuid.Nil, 101), false, byDefault},
		{"two are", support, identity.SettleRefund, refund(alice, bob, 101), true, "refund.settle"},
		{"the same one twice is not", support, identity.SettleRefund, refund(alice, alice, 101), false, "sod.settle"},
		{"a refund of nothing known", admin, identity.SettleRefund, Resource{Kind: Refund}, false, byDefault},

		{"an admin gives roles", admin, identity.GrantRoles, account(bob, identity.Support), true, "role.admin"},
		{"an admin takes all roles", admin, identity.GrantRoles, Resource{Kind: Account, Owner: bob, Roles: []identity.Role{}}, true, "role.admin"},
		{"nobody gives themselves a role", admin, identity.GrantRoles, account(alice, identity.Admin, identity.Support), false, "sod.self"},
		{"support gives no roles", support, identity.GrantRoles, account(bob, identity.Customer), false, byDefault},
		{"roles that are not told are not given", admin, identity.GrantRoles, Resource{Kind: Account, Owner: bob}, false, "sod.conflict"},
		{"roles of nobody are not given", admin, identity.GrantRoles, Resource{Kind: Account, Roles: []identity.Role{identity.Customer}}, false, "sod.self"},
		{"an admin who audits", admin, identity.GrantRoles, account(bob, identity.Admin, identity.Auditor), false, "sod.conflict"},
		{"an admin who reads sensitive data", admin, identity.GrantRoles, account(bob, identity.DataScientist, identity.Admin), false, "sod.conflict"},
		{"an admin who has the keys", admin, identity.GrantRoles, account(bob, identity.Admin, identity.Customer, identity.KeyCustodian), false, "sod.conflict"},
		{"who asks for refunds and approves them", admin, identity.GrantRoles, account(bob, identity.Support, identity.Finance), false, "sod.conflict"},
		{"an admin locks another's account", admin, identity.ManageUsers, account(bob), true, "role.admin"},
		{"an admin does not lock the own account", admin, identity.ManageUsers, account(alice), false, "sod.self"},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, r := range table() {
		if got := house().decide(r.who, r.perm, r.on, now); got.Allowed != r.want || got.Policy != r.by {
			t.Errorf("%s: got %t by %s, want %t by %s", r.why, got.Allowed, got.Policy, r.want, r.by)
		}
	}
}

// What is taken from Cedar to be faster, the policies and the scopes of actions that cannot match, changes no decision.
func TestTable_isAsCedarDecidesIt(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(rules, "rules/*.cedar")
	if err != nil {
		t.Fatal(err)
	}
	all := cedar.NewPolicySet()
	for _, file := range files {
		text, err := rules.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := cedar.NewPolicyListFromBytes(file, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			all.Add(cedar.PolicyID(p.Annotations()["id"]), p)
		}
	}
	for _, r := range table() {
		f := facts{
			principal: house().principal(r.who),
			resource:  cedar.Entity{UID: cedar.EntityUID{Type: cedar.EntityType(r.on.Kind), ID: cedar.String(r.on.ID)}, Attributes: r.on.attributes()},
		}
		got, why := cedar.Authorize(all, &f, cedar.Request{
			Principal: f.principal.UID, Action: cedar.EntityUID{Type: typeAction, ID: cedar.String(r.perm)}, Resource: f.resource.UID, Context: r.on.context(now),
		})
		if bool(got) != r.want || len(why.Errors) > 0 {
			t.Errorf("%s: Cedar says %s (%v), want %t", r.why, got, why, r.want)
		}
	}
}

// Every policy is there for something: without it some decision is another.
func TestTable_losesARowWithEveryPolicy(t *testing.T) {
	t.Parallel()
	for _, p := range house().policies {
		mutant := house().without(p.id)
		if !slices.ContainsFunc(table(), func(r row) bool { return mutant.decide(r.who, r.perm, r.on, now).Allowed != r.want }) {
			t.Errorf("no row is decided otherwise without the policy %s", p.id)
		}
	}
}

// What is not known is never a reason to say yes, and no policy fails for want of it. A share, a class and the like are taken
// away whole, as they would be missing in the database.
func TestTable_noAttributeMayBeMissing(t *testing.T) {
	t.Parallel()
	removed := 0
	for _, r := range table() {
		for _, of := range []reflect.Value{reflect.ValueOf(&r.who).Elem(), reflect.ValueOf(&r.on).Elem()} {
			for i := range of.NumField() {
				f, name := of.Field(i), of.Type().Field(i).Name
				if !f.CanSet() || f.IsZero() || name == "Class" && r.perm != identity.ReadSensitiveData { // a class is what makes it sensitive
					continue
				}
				was := reflect.New(f.Type()).Elem()
				was.Set(f)
				f.SetZero()
				got := house().decide(r.who, r.perm, r.on, now)
				f.Set(was)
				removed++
				if got.failed != nil {
					t.Errorf("%s: without %s: %s", r.why, name, got.failed)
				}
				if got.Allowed && !r.want {
					t.Errorf("%s: without %s it is a yes, by %s", r.why, name, got.Policy)
				}
			}
		}
	}
	if removed < len(table()) {
		t.Errorf("only %d attributes were removed", removed)
	}
}

// A policy that fails may have been the no. Cedar itself would pass over it: that is shown here too.
func TestDecide_failingPolicyIsANo(t *testing.T) {
	t.Parallel()
	for name, unguarded := range map[string]string{
		"a forbid": `@id("bad") forbid (principal, action == Action::"read_sensitive_data", resource) unless { principal.location == "HQ" };`,
		"a permit": `@id("bad") permit (principal, action == Action::"read_sensitive_data", resource) when { principal.location == "HQ" };`,
	} {
		s, err := parse(fstest.MapFS{
			"a.cedar": {Data: []byte(`@id("all") permit (principal, action, resource);`)}, "b.cedar": {Data: []byte(unguarded)},
		})
		if err != nil {
			t.Fatal(err)
		}
		d := s.decide(scientist("", 1), identity.ReadSensitiveData, Resource{Kind: Report, Class: 1}, now)
		if d.Allowed || d.Policy != "failed:bad" || d.failed == nil {
			t.Errorf("%s that fails: got %+v", name, d)
		}
		if d := s.decide(scientist("HQ", 1), identity.ReadSensitiveData, Resource{Kind: Report, Class: 1}, now); !d.Allowed {
			t.Errorf("%s that does not fail: got %+v", name, d)
		}
		var c counts
		c.add(d)
		if c.failed.Load() != 1 || c.denied.Load() != 0 {
			t.Error("a failed decision is not counted as one")
		}
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no policy":               "",
		"a policy without an id":  `permit (principal, action, resource);`,
		"two of one id":           `@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);`,
		"a permission unheard of": `@id("a") permit (principal, action == Action::"reed_order", resource);`,
		"a group of actions":      `@id("a") permit (principal, action in ActionGroup::"all", resource);`,
		"no Cedar":                `permit everything`,
	} {
		if _, err := parse(fstest.MapFS{"a.cedar": {Data: []byte(text)}}); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestPermissions_areAllSpokenOf(t *testing.T) {
	t.Parallel()
	for _, p := range identity.Permissions() {
		if !Known(p) {
			t.Errorf("no policy speaks of %s", p)
		}
	}
	if Known("fly") || Known("") {
		t.Error("a permission that there is not is known")
	}
}

var update = flag.Bool("update", false, "write matrix.txt")

// The matrix says for a person to review, and for the walk over every route and role to hold the services to, which role
// may ask for what.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, p := range identity.Permissions() {
		var may []string
		if house().decide(identity.Principal{}, p, Resource{Kind: Route, ID: "r"}, now).Allowed {
			may = append(may, "anybody")
		} else {
			for _, role := range identity.Roles() {
				on := Resource{Kind: Route, ID: "r"}
				who := is(alice, role)
				if p == identity.ReadSensitiveData { // from a place and with a clearance that are good enough
					on.Class, who.Location, who.Clearance = 1, "HQ", 1
				}
				if house().decide(who, p, on, now).Allowed {
					may = append(may, string(role))
				}
			}
		}
		fmt.Fprintf(&b, "%s: %s\n", p, strings.Join(may, " "))
	}
	const file = "matrix.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the policies say otherwise than %s; look whether that is meant, and run with -update:\n%s", file, b.String())
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, c := range map[string]struct {
		who  identity.Principal
		perm identity.Permission
		on   Resource
	}{
		"route":     {is(alice, identity.Customer), identity.PlaceOrder, Resource{Kind: Route, ID: "place-order"}},
		"owner":     {is(alice, identity.Customer), identity.ReadOrder, Resource{Kind: Order, ID: "o", Owner: alice}},
		"share":     {is(alice, identity.Customer), identity.CancelOrder, Resource{Kind: Order, ID: "o", Owner: bob, Share: &Share{alice, MayManage, time.Now().Add(time.Hour)}}},
		"sensitive": {scientist("HQ", 2), identity.ReadSensitiveData, Resource{Kind: Report, ID: "r", Class: 2}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !Decide(c.who, c.perm, c.on).Allowed {
					b.Fatal("no")
				}
			}
		})
	}
}
