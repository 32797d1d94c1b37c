// Package identity says who is calling and what they may do: the access token, the principal in a context, and the
// decision. A token is verified here and nowhere else; every service verifies again what the gateway has verified.
//
// SECURITY.md, beside this file, says for all of Souk what is defended against whom, how that is known, and what is not
// defended, with the rows of ASVS 5.0.
package identity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Role is a named set of permissions; the policies (package policy) say which.
type Role string

// The roles of the shop, each with the least that its work needs.
const (
	Customer         Role = "customer"          // buys, and sees and cancels what they have bought
	Admin            Role = "admin"             // runs the shop, and gives roles to others
	CatalogueManager Role = "catalogue_manager" // products, categories and stock
	Support          Role = "support"           // looks at orders and accounts, asks for refunds
	Finance          Role = "finance"           // the ledger; approves what support asks for
	Auditor          Role = "auditor"           // looks at everything that was done, and does nothing
	DataScientist    Role = "data_scientist"    // sensitive data, at headquarters and with the clearance for it
	KeyCustodian     Role = "key_custodian"     // the keys that tokens and data are sealed with
)

// Roles are all of them.
func Roles() []Role {
	return []Role{Customer, Admin, CatalogueManager, Support, Finance, Auditor, DataScientist, KeyCustodian}
}

// Permission is what a route demands of its caller, and what a policy allows: an action of theirs. The zero value is not a
// permission: a route without one stops the service from starting.
type Permission string

// The permissions.
const (
	Public   Permission = "public"    // anybody; the token, if there is one, is not looked at
	SignedIn Permission = "signed_in" // any person, about what is their own: there is nothing else such an operation could reach
	Internal Permission = "internal"  // other services of the shop; such paths begin with /internal, never routed by the gateway

	ViewProducts   Permission = "view_products" // anybody
	ManageProducts Permission = "manage_products"

	PlaceOrder   Permission = "place_order"   // and fill the wallet for it
	ReadOrder    Permission = "read_order"    // of an order: its owner, whom they share it with, and who has to look at all
	CancelOrder  Permission = "cancel_order"  // of an order
	PayOrder     Permission = "pay_order"     // of an order: its owner alone
	ShareOrder   Permission = "share_order"   // of an order: its owner alone
	ManageOrders Permission = "manage_orders" // ship and deliver

	ReadWishlist   Permission = "read_wishlist"   // of a wish list
	ManageWishlist Permission = "manage_wishlist" // of a wish list: put things on it and take them off
	OwnWishlist    Permission = "own_wishlist"    // of a wish list: make it, share it, throw it away

	ReadPayment    Permission = "read_payment" // of a payment or a refund
	RequestRefund  Permission = "request_refund"
	ApproveRefund  Permission = "approve_refund" // of a refund that somebody else has asked for
	SettleRefund   Permission = "settle_refund"  // of a refund: that its money moves. No route's; decided before it does
	ManagePayments Permission = "manage_payments"
	ViewLedger     Permission = "view_ledger"

	ViewUsers     Permission = "view_users"
	ManageUsers   Permission = "manage_users"
	GrantRoles    Permission = "grant_roles"    // of an account: its roles, and where and how trusted its person is
	ManageClients Permission = "manage_clients" // other people's programs that sign our customers in

	ViewTransactions   Permission = "view_transactions"
	ManageTransactions Permission = "manage_transactions"
	ViewOperations     Permission = "view_operations" // how the services are and whom they call

	ReadAudit         Permission = "read_audit"
	RotateKeys        Permission = "rotate_keys"
	ReadSensitiveData Permission = "read_sensitive_data" // of what has a class
)

// Fresh reports whether what p allows is not done on the word of a token alone, which may have been called back a second
// ago: everything that an ordinary customer may not do, and paying.
func (p Permission) Fresh() bool {
	switch p {
	case Public, SignedIn, Internal, ViewProducts, PlaceOrder, ReadOrder, CancelOrder, ShareOrder,
		ReadWishlist, ManageWishlist, OwnWishlist, ReadPayment:
		return false
	default:
		return true
	}
}

// Permissions are all of them.
func Permissions() []Permission {
	return []Permission{
		Public, SignedIn, Internal, ViewProducts, ManageProducts,
		PlaceOrder, ReadOrder, CancelOrder, PayOrder, ShareOrder, ManageOrders, ReadWishlist, ManageWishlist, OwnWishlist,
		ReadPayment, RequestRefund, ApproveRefund, SettleRefund, ManagePayments, ViewLedger,
		ViewUsers, ManageUsers, GrantRoles, ManageClients, ViewTransactions, ManageTransactions, ViewOperations,
		ReadAudit, RotateKeys, ReadSensitiveData,
	}
}

// Principal is a person who has shown a valid token. The zero value is nobody and may do nothing but what is Public.
type Principal struct {
	UserID     uuid.UUID
	Roles      []Role
	SessionID  uuid.UUID
	Location   string    // where they work, as their account says; empty is nowhere
	Clearance  int64     // the highest class of data they may see, as their account says; 0 is none
	RolesUntil time.Time // when the first of the roles ends, and a token of them with it; zero is never
	Version    int64     // of what the user may do: a change of roles or password makes it higher
	AuthTime   time.Time // when the user last proved who it is; zero where that is not known
	Client     string    // whose program acts for the user; empty is the shop's own
	Scopes     []string  // what the user lets it do
	Methods    []string  // how: pwd, or fed for another provider's word (RFC 8176)
	token      string    // as it was shown, to be passed on when calling another service for this person
	key        string    // that signed it
	expires    time.Time
}

// Scopes that another's program may have, by what they let it do. Those that are not here let it know something of the
// user, and do nothing.
func scoped(p Permission) string {
	switch p {
	case ReadOrder:
		return "orders.read"
	case ReadPayment:
		return "payments.read"
	case ReadWishlist:
		return "wishlists.read"
	default:
		return ""
	}
}

// Within reports whether perm is something that the program which acts for p was let do. Whether p may do it is another
// question. The shop's own programs may do all that p may.
func (p Principal) Within(perm Permission) bool {
	scope := scoped(perm)
	return p.Client == "" || scope != "" && slices.Contains(p.Scopes, scope)
}

// Expires is when the token that p has shown does; the zero time if there was none. For some seconds more, by which clocks
// may differ, Verify takes it still.
func (p Principal) Expires() time.Time { return p.expires }

// TokenLife is how long an access token of p that is signed now is good for.
func (p Principal) TokenLife(now time.Time) time.Duration {
	life := AccessTokenLife
	if p.Client != "" {
		life = DelegatedTokenLife
	}
	if p.RolesUntil.IsZero() {
		return life
	}
	return max(0, min(life, p.RolesUntil.Sub(now)))
}

// Scope is whose things a query may see. The zero value sees nobody's.
type Scope struct {
	Everybody bool
	User      uuid.UUID // whose, where it is not everybody's
}

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
