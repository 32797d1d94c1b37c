// Package identity says who is calling and what they may do: the access token, the principal in a context, and the
// decision. A token is verified here and nowhere else; every service verifies again what the gateway has verified.
package identity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Role is a named set of permissions.
type Role string

// The roles of the shop.
const (
	Customer Role = "customer"
	Admin    Role = "admin"
)

// Permission is what a route demands of its caller. The zero value is not a permission: a route without one stops the
// service from starting.
type Permission string

// The permissions. Public, SignedIn and Internal belong to no role.
const (
	Public   Permission = "public"    // anybody; the token, if there is one, is not looked at
	SignedIn Permission = "signed_in" // any principal; the operation narrows to what is the caller's own
	Internal Permission = "internal"  // other services of the shop; such paths begin with /internal, never routed by the gateway

	PlaceOrder         Permission = "place_order"
	ManageOrders       Permission = "manage_orders"
	ManageProducts     Permission = "manage_products"
	ManagePayments     Permission = "manage_payments"
	ViewUsers          Permission = "view_users"
	ManageUsers        Permission = "manage_users"
	ViewTransactions   Permission = "view_transactions"
	ManageTransactions Permission = "manage_transactions"
	ViewOperations     Permission = "view_operations" // how the services are and whom they call
)

// granted is what each role may do.
func granted(r Role) []Permission {
	switch r {
	case Customer:
		return []Permission{PlaceOrder}
	case Admin:
		return []Permission{ManageOrders, ManageProducts, ManagePayments, ViewUsers, ManageUsers, ViewTransactions, ManageTransactions, ViewOperations}
	default:
		return nil
	}
}

// Principal is a person who has shown a valid token. The zero value is nobody and may do nothing but what is Public.
type Principal struct {
	UserID    uuid.UUID
	Roles     []Role
	SessionID uuid.UUID
	token     string // as it was shown, to be passed on when calling another service for this person
	expires   time.Time
}

// Expires is when the token that p has shown does; the zero time if there was none. For some seconds more, by which clocks
// may differ, Verify takes it still.
func (p Principal) Expires() time.Time { return p.expires }

// May reports whether p may do what perm names.
func (p Principal) May(perm Permission) bool {
	switch perm {
	case Public, Internal:
		return true
	case SignedIn:
		return p.UserID != uuid.Nil
	default:
		return slices.ContainsFunc(p.Roles, func(r Role) bool { return slices.Contains(granted(r), perm) })
	}
}

// Scope is whose things a query may see. The zero value sees nobody's.
type Scope struct {
	Everybody bool
	User      uuid.UUID // whose, where it is not everybody's
}

// Scope is what p may see: everybody's things where it may do all, else its own.
func (p Principal) Scope(all Permission) Scope { return Scope{Everybody: p.May(all), User: p.UserID} }

// Sees reports whether owner's things are in s.
func (s Scope) Sees(owner uuid.UUID) bool { return s.Everybody || owner != uuid.Nil && owner == s.User }

type principalKey struct{}

// With returns a context in which p is calling.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From is who is calling in ctx; the zero Principal where nobody has signed in.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// Token is the access token the principal of ctx has shown, to be passed on to the next service; empty for nobody.
func Token(ctx context.Context) string { return From(ctx).token }
