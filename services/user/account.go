package user

import (
	"context"
	"strings"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// state is whether an account can sign in.
type state string

const (
	active   state = "active"
	disabled state = "disabled"
)

// move is the transition table of accounts: what each state may become.
func (s state) move(to state) error {
	switch {
	case s == active && to == disabled, s == disabled && to == active:
		return nil
	default:
		return fault.New(fault.Conflict, "illegal_state", "the account is %s already", to)
	}
}

// account is a row of account, with its roles.
type account struct {
	ID           uuid.UUID
	SealedEmail  []byte
	SealedName   []byte
	PasswordHash string
	State        state
	AV           int64  // version of what it may do: see identity.Principal
	Roles        string // separated by commas, in order
	RolesUntil   *time.Time
	Location     string
	Clearance    int64
	CreatedAt    time.Time
}

func (a account) roles() []identity.Role { return splitRoles(a.Roles) }

func (a account) principal() identity.Principal {
	p := identity.Principal{UserID: a.ID, Roles: a.roles(), Location: a.Location, Clearance: a.Clearance, Version: a.AV}
	if a.RolesUntil != nil {
		p.RolesUntil = *a.RolesUntil
	}
	return p
}

func splitRoles(s string) []identity.Role {
	roles := []identity.Role{}
	for r := range strings.SplitSeq(s, ",") {
		if r != "" {
			roles = append(roles, identity.Role(r))
		}
	}
	return roles
}

func joinRoles(roles []identity.Role) string {
	s := make([]string, len(roles))
	for i, r := range roles {
		s[i] = string(r)
	}
	return strings.Join(s, ",")
}

const displayNameLen = 100

// Register opens an account, as a customer. It returns Conflict, code email_taken, where the address has one, and so
// tells who is a customer, until registration goes by way of the mailbox; but nobody can ask that often (see allowance).
func (s *Service) Register(ctx context.Context, in *user.RegisterInput) (*contract.Created[user.User], error) {
	var w wrong
	email, ok := normalEmail(in.Body.Email)
	if !ok {
		w.add("body.email", "must be an e-mail address")
	}
	name := w.text("body.display_name", in.Body.DisplayName, 1, displayNameLen)
	if err := w.err(); err != nil {
		return nil, err
	}
	if err := goodPassword(in.Body.Password, email); err != nil {
		return nil, err
	}
	asks := s.asksOf(ctx)
	if err := s.throttle(ctx, asks); err != nil {
		return nil, err
	}
	// Outside of the transaction, because it may wait for its turn; and before we know whether the address is taken, so
	// that both take the same time.
	hash, err := s.passwords.Hash(ctx, in.Body.Password)
	if err != nil {
		return nil, err
	}
	made, err := idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[user.User], error) {
		a := account{
			ID: uuid.Must(uuid.NewV7()), PasswordHash: hash, State: active, Roles: string(identity.Customer), CreatedAt: s.now(),
		}
		opened, err := s.sealed.openAccount(tx, a, email, name, contract.RequestIDFrom(ctx))
		if err != nil {
			return nil, err
		}
		if !opened {
			return nil, fault.New(fault.Conflict, "email_taken", "there is an account with this e-mail address")
		}
		return &contract.Created[user.User]{Location: "/api/v1/users/me", Body: user.User{
			ID: a.ID, Email: email, DisplayName: name, Roles: a.roles(), CreatedAt: a.CreatedAt,
		}}, nil
	})
	if err != nil {
		return nil, err
	}
	return made, s.succeed(ctx, asks)
}

// Me is the caller's account.
func (s *Service) Me(ctx context.Context, _ *contract.None) (*contract.Body[user.User], error) {
	return s.show(ctx, identity.From(ctx).UserID)
}

func (s *Service) show(ctx context.Context, id uuid.UUID) (*contract.Body[user.User], error) {
	a, err := findAccount(s.db.WithContext(ctx), id)
	if err != nil {
		return nil, err
	}
	return s.showAccount(ctx, a)
}

// showAccount is the answer that shows a.
func (s *Service) showAccount(ctx context.Context, a account) (*contract.Body[user.User], error) {
	u, err := s.sealed.show(ctx, a)
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.User]{Body: u}, nil
}

// UpdateMe changes the caller's account.
func (s *Service) UpdateMe(ctx context.Context, in *user.UpdateMeInput) (*contract.Body[user.User], error) {
	if in.Body.DisplayName == nil {
		return s.Me(ctx, nil)
	}
	var w wrong
	name := w.text("body.display_name", *in.Body.DisplayName, 1, displayNameLen)
	if err := w.err(); err != nil {
		return nil, err
	}
	var a account
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		id := identity.From(ctx).UserID
		if err := s.sealed.rename(tx, id, name, s.now()); err != nil {
			return err
		}
		a, err = findAccount(tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.showAccount(ctx, a)
}
