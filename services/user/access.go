package user

import (
	"context"
	"fmt"
	"slices"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Access tells what an account may do, and who says so. Returns NotFound, code no_such_user.
func (s *Service) Access(ctx context.Context, in *contract.ByID) (*contract.Body[user.Access], error) {
	a, err := findAccount(s.db.WithContext(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	return access(s.db.WithContext(ctx), a)
}

// GrantRole gives an account a role, until some time if one is said, and calls back the tokens that do not have it yet.
// Returns Forbidden, code not_on_yourself, for the caller's own account, and conflicting_roles; Invalid, code invalid_time.
func (s *Service) GrantRole(ctx context.Context, in *user.GrantRoleInput) (*contract.Body[user.Access], error) {
	if until := in.Body.ValidUntil; until != nil && !until.After(s.now()) {
		return nil, fault.New(fault.Invalid, "invalid_time", "the time is over already").With(fault.Field{Pointer: "body.valid_until", Detail: "must be to come"})
	}
	with := func(roles []identity.Role) []identity.Role {
		return slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(roles), in.Role))))
	}
	return s.changeAccess(ctx, in.ID, with, func(tx *gorm.DB, a account, c change) (change, error) {
		c.what, c.was, c.became = "roles", a.Roles, joinRoles(with(a.roles()))
		if in.Body.ValidUntil != nil {
			c.became += fmt.Sprintf(" (%s until %s)", in.Role, in.Body.ValidUntil.UTC().Format(time.RFC3339))
		}
		return c, tx.Exec(`INSERT INTO account_role (user_id, role, granted_by, granted_at, valid_until) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (user_id, role) DO UPDATE SET granted_by = excluded.granted_by, granted_at = excluded.granted_at, valid_until = excluded.valid_until`,
			a.ID, in.Role, c.by, c.at, in.Body.ValidUntil).Error
	})
}

// RevokeRole takes a role from an account, if it has it, and calls back the tokens that do. It returns what GrantRole does.
func (s *Service) RevokeRole(ctx context.Context, in *user.RoleOf) (*contract.Body[user.Access], error) {
	without := func(roles []identity.Role) []identity.Role {
		return slices.DeleteFunc(slices.Clone(roles), func(r identity.Role) bool { return r == in.Role })
	}
	return s.changeAccess(ctx, in.ID, without, func(tx *gorm.DB, a account, c change) (change, error) {
		c.what, c.was, c.became = "roles", a.Roles, joinRoles(without(a.roles()))
		return c, tx.Exec("DELETE FROM account_role WHERE user_id = ? AND role = ?", a.ID, in.Role).Error
	})
}

// SetAttributes says where an account's person works and what class of sensitive data they may see, and calls back the
// tokens that say otherwise. It returns what GrantRole does.
func (s *Service) SetAttributes(ctx context.Context, in *user.SetAttributesInput) (*contract.Body[user.Access], error) {
	same := func(roles []identity.Role) []identity.Role { return roles }
	return s.changeAccess(ctx, in.ID, same, func(tx *gorm.DB, a account, c change) (change, error) {
		c.what, c.was, c.became = "attributes", attributes(a.Location, a.Clearance), attributes(in.Body.Location, in.Body.Clearance)
		return c, tx.Exec("UPDATE account SET location = ?, clearance = ?, updated_at = ? WHERE id = ?", in.Body.Location, in.Body.Clearance, c.at, a.ID).Error
	})
}

func attributes(location string, clearance int64) string {
	return fmt.Sprintf("%q %d", location, clearance)
}

// changeAccess makes a change that leaves an account with the roles that become tells, and writes down what it was.
func (s *Service) changeAccess(ctx context.Context, id uuid.UUID, become func([]identity.Role) []identity.Role,
	do func(tx *gorm.DB, a account, c change) (change, error),
) (out *contract.Body[user.Access], err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		a, err := forChange(ctx, tx, id, identity.GrantRoles, become)
		if err != nil {
			return err
		}
		c, err := do(tx, a, change{by: identity.From(ctx).UserID, request: contract.RequestIDFrom(ctx), at: s.now()})
		if err != nil {
			return err
		}
		if err := record(tx, id, c); err != nil {
			return err
		}
		if err := callBackUser(tx, id, c.at); err != nil {
			return err
		}
		if a, err = findAccount(tx, id); err != nil {
			return err
		}
		out, err = access(tx, a)
		return err
	})
	return out, err
}

func access(tx *gorm.DB, a account) (*contract.Body[user.Access], error) {
	var rows []struct {
		Role       identity.Role
		GrantedBy  *uuid.UUID
		GrantedAt  time.Time
		ValidUntil *time.Time
	}
	err := tx.Raw("SELECT role, granted_by, granted_at, valid_until FROM account_role r WHERE user_id = ? AND "+stillValid+" ORDER BY role", a.ID).Scan(&rows).Error
	out := user.Access{UserID: a.ID, Roles: make([]user.Grant, len(rows)), Attributes: user.Attributes{Location: a.Location, Clearance: a.Clearance}}
	for i, r := range rows {
		out.Roles[i] = user.Grant(r)
	}
	return &contract.Body[user.Access]{Body: out}, err
}

// Changes tells an auditor what was done to an account. Of an account that is not there it is empty. Returns Malformed, code
// invalid_page_token.
func (s *Service) Changes(ctx context.Context, in *user.ListChangesInput) (*contract.Body[contract.Page[user.AccountChange]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = &byID{uuid.Max}
	}
	type changeRow struct {
		ID                   uuid.UUID
		Changed, Was, Became string
		Actor                uuid.UUID
		RequestID            string
		At                   time.Time
	}
	var rows []changeRow
	err = s.db.WithContext(ctx).Raw(`SELECT id, changed, was, became, actor, request_id, at FROM account_history
		WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`, in.ID, after.ID, in.Limit()+1).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r changeRow) user.AccountChange {
		return user.AccountChange{Changed: r.Changed, Was: r.Was, Became: r.Became, Actor: r.Actor, RequestID: r.RequestID, At: r.At}
	}, func(r changeRow) any { return byID{r.ID} })
}

// Export gives everybody's personal data, newest first, to those whom the policies let see its class. Returns Malformed, code
// invalid_page_token.
func (s *Service) Export(ctx context.Context, in *user.ExportInput) (*contract.Body[contract.Page[user.Person]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	people, err := s.sealed.listPeople(s.db.WithContext(ctx), "", after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(people, in.Limit(), func(u user.User) user.Person {
		return user.Person{ID: u.ID, Email: u.Email, DisplayName: u.DisplayName, Roles: u.Roles, CreatedAt: u.CreatedAt}
	}, func(u user.User) any { return byID{u.ID} })
}
