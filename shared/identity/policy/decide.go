package policy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/telemetry"

	"github.com/cedar-policy/cedar-go"
	"github.com/google/uuid"
)

// Kind is what sort of thing a decision is about.
type Kind string

// The kinds. Of a Route it is not known yet whose thing it will be about.
const (
	Route    Kind = "Route"
	Order    Kind = "Order"
	Wishlist Kind = "Wishlist"
	Payment  Kind = "Payment"
	Refund   Kind = "Refund"
	Account  Kind = "Account"
	Report   Kind = "Report"
)

const (
	typeAction  cedar.EntityType = "Action"
	typeRole    cedar.EntityType = "Role"
	typeUser    cedar.EntityType = "User"
	typeVisitor cedar.EntityType = "Visitor"
)

// What a share lets its holder do.
const (
	MayRead   = "read"
	MayManage = "manage"
)

// Share is what the owner of a thing lets another do with it.
type Share struct {
	With  uuid.UUID
	May   string    // MayRead or MayManage
	Until time.Time // and not at it
}

// Resource is what a decision is about, as the database says and never as a client does. A zero field is not there: a
// policy that needs it says no.
type Resource struct {
	Kind        Kind
	ID          string
	Owner       uuid.UUID
	Share       *Share          // the one that the caller may have
	Class       int64           // how sensitive it is
	RequestedBy uuid.UUID       // who asked for the refund
	ApprovedBy  uuid.UUID       // who said yes to it
	Amount      int64           // of the refund, in minor units
	Limit       int64           // of what is refunded without a second person, in minor units
	Roles       []identity.Role // that the account is to have; nil: that is not what it is about
}

// Decision is an answer, and which policy gave it.
type Decision struct {
	Allowed bool
	// Policy is the id of the policy that decided: the first permit, or the first forbid. "default" is no where none spoke;
	// "failed:" and an id is no where one could not be evaluated.
	Policy string
	failed error
}

const (
	byDefault = "default"
	failed    = "failed:"
)

// Decide says whether p may do perm to r. It asks nobody and takes microseconds. A policy that cannot be evaluated makes it
// a no, and is counted: see Metrics. It may be called concurrently.
func Decide(p identity.Principal, perm identity.Permission, r Resource) Decision {
	d := house().decide(p, perm, r, time.Now())
	counted.add(d)
	return d
}

// Allowed is Decide without its reason.
func Allowed(p identity.Principal, perm identity.Permission, r Resource) bool {
	return Decide(p, perm, r).Allowed
}

// Check says whether who is calling in ctx may do perm to r, and leaves in the log event of the request which policy said
// so. A no is Forbidden.
func Check(ctx context.Context, perm identity.Permission, r Resource) error {
	d := Decide(identity.From(ctx), perm, r)
	d.note(ctx, perm, r)
	if d.Allowed {
		return nil
	}
	return fault.New(fault.Forbidden, "", "your roles do not allow this").Because(&denial{d})
}

// denial is why Check said no.
type denial struct{ Decision }

func (d *denial) Error() string { return "denied by " + d.Policy }

func (d *denial) Unwrap() error { return d.failed }

// DeniedBy reports whether err is the no of that policy.
func DeniedBy(err error, id string) bool {
	d, ok := errors.AsType[*denial](err)
	return ok && d.Policy == id
}

// note leaves the decision in the log event of the request: that on the route as policy, with the hash of all policies, that
// on a thing under the thing's kind, and of a no what it was about.
func (d Decision) note(ctx context.Context, perm identity.Permission, r Resource) {
	attrs := make([]slog.Attr, 0, 4)
	if r.Kind == Route {
		attrs = append(attrs, slog.String("policy", d.Policy), slog.String("policies", Hash()))
	} else {
		attrs = append(attrs, slog.String("policy."+strings.ToLower(string(r.Kind)), d.Policy))
	}
	if !d.Allowed {
		attrs = append(attrs, slog.String("denied", string(perm)))
	}
	if d.failed != nil {
		attrs = append(attrs, slog.String("policy_error", d.failed.Error()))
	}
	telemetry.Note(ctx, attrs...)
}

// Scope is whose things of a kind the caller may do perm to: everybody's where a policy allows it on a thing whoever owns
// it. It narrows the query; Check then decides on what was found.
func Scope(ctx context.Context, perm identity.Permission, kind Kind) identity.Scope {
	p := identity.From(ctx)
	return identity.Scope{Everybody: Allowed(p, perm, Resource{Kind: kind}), User: p.UserID}
}

func (s *set) decide(p identity.Principal, perm identity.Permission, r Resource, now time.Time) Decision {
	if r.Kind == "" {
		return Decision{Policy: byDefault} // Cedar cannot ask after the attributes of a thing without a name
	}
	f := facts{
		principal: s.principal(p),
		resource:  cedar.Entity{UID: cedar.EntityUID{Type: cedar.EntityType(r.Kind), ID: cedar.String(r.ID)}, Attributes: r.attributes()},
	}
	answer, why := cedar.Authorize(s.byAction[perm], &f, cedar.Request{
		Principal: f.principal.UID,
		Action:    cedar.EntityUID{Type: typeAction, ID: cedar.String(perm)},
		Resource:  f.resource.UID,
		Context:   r.context(now),
	})
	switch {
	case len(why.Errors) > 0: // even if others have spoken: one that failed may have been the no
		return Decision{Policy: failed + string(why.Errors[0].PolicyID), failed: &evaluationError{why.Errors[0].Message}}
	case len(why.Reasons) == 0:
		return Decision{Policy: byDefault}
	default:
		return Decision{Allowed: answer == cedar.Allow, Policy: string(why.Reasons[0].PolicyID)}
	}
}

// evaluationError is why a policy could not be evaluated.
type evaluationError struct{ message string }

func (e *evaluationError) Error() string { return "evaluate policy: " + e.message }

// facts are all the entities that a decision knows. Roles and actions have nothing to know.
type facts struct{ principal, resource cedar.Entity }

// Get is called by Cedar.
func (f *facts) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case f.principal.UID:
		return f.principal, true
	case f.resource.UID:
		return f.resource, true
	default:
		return cedar.Entity{}, false
	}
}

func (s *set) principal(p identity.Principal) cedar.Entity {
	if p.UserID == uuid.Nil {
		return cedar.Entity{UID: cedar.EntityUID{Type: typeVisitor}}
	}
	e := cedar.Entity{UID: user(p.UserID), Parents: s.roles(p.Roles)}
	if p.Location == "" && p.Clearance == 0 {
		return e
	}
	known := cedar.RecordMap{}
	if p.Location != "" {
		known["location"] = cedar.String(p.Location)
	}
	if p.Clearance != 0 {
		known["clearance"] = cedar.Long(p.Clearance)
	}
	e.Attributes = cedar.NewRecord(known)
	return e
}

// roles are those of a principal as Cedar has them.
func (s *set) roles(roles []identity.Role) cedar.EntityUIDSet {
	key := roleKey(roles)
	if known, ok := s.parents.Load(key); ok {
		if set, ok := known.(cedar.EntityUIDSet); ok {
			return set
		}
	}
	uids := make([]cedar.EntityUID, len(roles))
	for i, r := range roles {
		uids[i] = cedar.EntityUID{Type: typeRole, ID: cedar.String(r)}
	}
	set := cedar.NewEntityUIDSet(uids...)
	s.parents.Store(key, set)
	return set
}

func user(id uuid.UUID) cedar.EntityUID {
	return cedar.EntityUID{Type: typeUser, ID: cedar.String(id.String())}
}

// attributes are what is known of r. What is zero is not there.
func (r Resource) attributes() cedar.Record {
	if r.Owner == uuid.Nil && r.Share == nil && r.Class == 0 && r.RequestedBy == uuid.Nil && r.ApprovedBy == uuid.Nil &&
		r.Amount == 0 && r.Limit == 0 && r.Roles == nil {
		return cedar.Record{}
	}
	known := make(cedar.RecordMap, 8)
	person := func(name cedar.String, id uuid.UUID) {
		if id != uuid.Nil {
			known[name] = user(id)
		}
	}
	number := func(name cedar.String, n int64) {
		if n != 0 {
			known[name] = cedar.Long(n)
		}
	}
	person("owner", r.Owner)
	person("requested_by", r.RequestedBy)
	person("approved_by", r.ApprovedBy)
	number("class", r.Class)
	number("amount", r.Amount)
	number("limit", r.Limit)
	if r.Share != nil {
		person("shared_with", r.Share.With)
		known["shared_to"] = cedar.String(r.Share.May)
		number("shared_until", r.Share.Until.UnixMicro())
	}
	if r.Roles != nil {
		roles := make([]cedar.Value, len(r.Roles))
		for i, role := range r.Roles {
			roles[i] = cedar.String(role)
		}
		known["roles"] = cedar.NewSet(roles...)
	}
	return cedar.NewRecord(known)
}

// context is what is so whoever asks: the time, in microseconds, where something ends.
func (r Resource) context(now time.Time) cedar.Record {
	if r.Share == nil {
		return cedar.Record{}
	}
	return cedar.NewRecord(cedar.RecordMap{"now": cedar.Long(now.UnixMicro())})
}
