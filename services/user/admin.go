package user

import (
	"context"
	"slices"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// byID is where a list that is ordered by id alone goes on.
type byID struct {
	ID uuid.UUID `json:"id"`
}

// List gives accounts to an admin, newest first.
func (s *Service) List(ctx context.Context, in *user.ListUsersInput) (*contract.Body[contract.Page[user.User]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	var w wrong
	q := w.text("query.q", in.Q, 0, maxEmail)
	if err := w.err(); err != nil {
		return nil, err
	}
	people, err := s.sealed.listPeople(s.db.WithContext(ctx), q, after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(people, in.Limit(), func(u user.User) user.User { return u }, func(u user.User) any { return byID{u.ID} })
}

// User gives an account to an admin.
func (s *Service) User(ctx context.Context, in *contract.ByID) (*contract.Body[user.User], error) {
	return s.show(ctx, in.ID)
}

// Disable keeps an account from signing in and ends its sessions. Returns Conflict, code illegal_state, where it is
// disabled already, and Forbidden, code not_on_yourself, for the caller's own.
func (s *Service) Disable(ctx context.Context, in *contract.ByID) (*contract.Body[user.User], error) {
	return s.setState(ctx, in.ID, disabled)
}

// Enable lets a disabled account sign in again; its old sessions stay ended. It returns what Disable does.
func (s *Service) Enable(ctx context.Context, in *contract.ByID) (*contract.Body[user.User], error) {
	return s.setState(ctx, in.ID, active)
}

func (s *Service) setState(ctx context.Context, id uuid.UUID, to state) (*contract.Body[user.User], error) {
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Body[user.User], error) {
		a, err := forChange(ctx, tx, id, identity.ManageUsers, nil)
		if err != nil {
			return nil, err
		}
		if err := a.State.move(to); err != nil {
			return nil, err
		}
		c := change{what: "state", was: string(a.State), became: string(to), by: identity.From(ctx).UserID, request: contract.RequestIDFrom(ctx), at: s.now()}
		if err := storeState(tx, id, to, c); err != nil {
			return nil, err
		}
		if to == disabled {
			if err := s.endEverything(tx, id, "disabled"); err != nil {
				return nil, err
			}
		}
		a.State = to
		return s.showAccount(ctx, a)
	})
}

// SetRoles gives an account these roles and no others, and calls back the tokens that say otherwise. Returns
// Forbidden, code not_on_yourself, for the caller's own account.
func (s *Service) SetRoles(ctx context.Context, in *user.SetRolesInput) (*contract.Body[user.User], error) {
	roles := slices.Compact(slices.Sorted(slices.Values(in.Body.Roles)))
	var a account
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		if a, err = forChange(ctx, tx, in.ID, identity.GrantRoles, func([]identity.Role) []identity.Role { return roles }); err != nil {
			return err
		}
		became := joinRoles(roles)
		if became == a.Roles {
			return nil
		}
		c := change{what: "roles", was: a.Roles, became: became, by: identity.From(ctx).UserID, request: contract.RequestIDFrom(ctx), at: s.now()}
		a.Roles = became
		if err := storeRoles(tx, in.ID, roles, c); err != nil {
			return err
		}
		return callBackUser(tx, in.ID, c.at)
	})
	if err != nil {
		return nil, err
	}
	return s.showAccount(ctx, a)
}

// forChange locks the account id and the caller's, and gives the first. The caller's token may be older than what its
// account may do now, so that is looked at here, under the lock: an admin who has just been disabled changes nobody, and
// of two admins who take the role from each other at once, one comes too late. So one is always left.
// become tells which roles the account will have of those it has; nil where that is not what changes.
func forChange(ctx context.Context, tx *gorm.DB, id uuid.UUID, perm identity.Permission, become func([]identity.Role) []identity.Role) (account, error) {
	caller, on := identity.From(ctx).UserID, policy.Resource{Kind: policy.Account, ID: id.String(), Owner: id}
	if err := lockAccounts(tx, caller, id); err != nil {
		return account{}, err
	}
	admin, err := findAccount(tx, caller)
	if fault.Is(err, fault.NotFound) || err == nil && admin.State != active {
		return account{}, fault.New(fault.Forbidden, "", "your roles do not allow this")
	}
	if err != nil {
		return account{}, err
	}
	a, missing := findAccount(tx, id)
	if missing != nil && !fault.Is(missing, fault.NotFound) {
		return account{}, missing
	}
	if become != nil {
		on.Roles = become(a.roles())
	}
	err = policy.Check(identity.With(ctx, admin.principal()), perm, on)
	switch {
	case policy.DeniedBy(err, "sod.self"):
		return account{}, fault.New(fault.Forbidden, "not_on_yourself", "another admin has to do that to your account").Because(err)
	case policy.DeniedBy(err, "sod.conflict"):
		return account{}, fault.New(fault.Forbidden, "conflicting_roles", "nobody has these roles at once: who does a thing does not look whether it was right").Because(err)
	case err != nil:
		return account{}, err
	}
	return a, missing
}
