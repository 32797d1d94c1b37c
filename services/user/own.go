package user

import (
	"context"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Sessions shows the caller where the own account is signed in.
func (s *Service) Sessions(ctx context.Context, in *user.ListSessionsInput) (*contract.Body[contract.Page[user.Session]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	who := identity.From(ctx)
	rows, err := listSessions(s.db.WithContext(ctx), who.UserID, after, s.now(), in.Limit()+1)
	if err != nil {
		return nil, err
	}
	show := func(r session) user.Session {
		used := r.CreatedAt
		if r.UsedAt != nil {
			used = *r.UsedAt
		}
		return user.Session{
			ID: r.ID, Current: r.ID == who.SessionID, Method: r.Method, Device: r.Device, Network: r.Network,
			CreatedAt: r.CreatedAt, UsedAt: used, ExpiresAt: r.ExpiresAt,
		}
	}
	return contract.PageOf(rows, in.Limit(), show, func(r session) any { return byID{r.ID} })
}

// EndSession ends one of the caller's sessions, with its access tokens. NotFound, code no_such_session, is the answer for
// one that has ended, is another's, or never was.
func (s *Service) EndSession(ctx context.Context, in *contract.ByID) (*contract.None, error) {
	n, err := s.end(ctx, "id = ? AND user_id = ?", in.ID, identity.From(ctx).UserID)
	if err == nil && n == 0 {
		err = fault.New(fault.NotFound, "no_such_session", "there is no such session of yours, or it has ended")
	}
	if err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}

// EndOtherSessions ends all of the caller's sessions but the one that asks.
func (s *Service) EndOtherSessions(ctx context.Context, _ *contract.None) (*contract.None, error) {
	who := identity.From(ctx)
	if _, err := s.end(ctx, "user_id = ? AND id <> ?", who.UserID, who.SessionID); err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}

func (s *Service) end(ctx context.Context, where string, args ...any) (n int64, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		_, n, err = endSessions(tx, "ended", s.now(), where, args...)
		return err
	})
	return n, err
}

// SetPassword changes the caller's password, ends every session there is, and begins a new one. Who knows the old
// password no longer knows anything, and whoever was signed in somewhere has to know the new one. Returns Unauthenticated,
// code invalid_credentials, where the current password is not right.
func (s *Service) SetPassword(ctx context.Context, in *user.SetPasswordInput) (*user.TokensOutput, error) {
	id := identity.From(ctx).UserID
	before, err := findAccount(s.db.WithContext(ctx), id)
	if err != nil {
		return nil, err
	}
	shown, err := s.sealed.show(ctx, before)
	if err != nil {
		return nil, err
	}
	if err := goodPassword(in.Body.Password, shown.Email); err != nil {
		return nil, err
	}
	if err := s.proves(ctx, before, in.Body.Current); err != nil {
		return nil, err
	}
	hash, err := s.passwords.Hash(ctx, in.Body.Password)
	if err != nil {
		return nil, err
	}
	var a account
	var g grant
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		if err := lockAccounts(tx, id); err != nil {
			return err
		}
		if a, err = findAccount(tx, id); err != nil {
			return err
		}
		if a.State != active || a.PasswordHash != before.PasswordHash {
			return invalidCredentials()
		}
		now := s.now()
		c := change{what: "password", by: id, request: contract.RequestIDFrom(ctx), at: now}
		if err := storePassword(tx, id, hash, c); err != nil {
			return err
		}
		if err := s.endEverything(tx, id, "password"); err != nil {
			return err
		}
		if a, err = findAccount(tx, id); err != nil {
			return err
		}
		g, err = s.begin(ctx, tx, id, byPassword, in.Agent)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.tokens(ctx, a, g)
}

// proves is nil if password is that of the account, which somebody says to be theirs who is signed in, as it seems. Such tries
// are counted as those at the door are: whoever has taken a token must not be able to find the password with it.
func (s *Service) proves(ctx context.Context, a account, password string) error {
	tries := []bucket{newBucket("own", a.ID.String(), pairAllowance, true)}
	if err := s.throttle(ctx, tries); err != nil {
		return err
	}
	matches, err := s.passwords.Matches(ctx, password, a.PasswordHash)
	if err != nil {
		return err
	}
	if !matches {
		return invalidCredentials()
	}
	return s.succeed(ctx, tries)
}

// endEverything ends all sessions of an account, which the caller has locked, and calls back all of its access tokens.
func (s *Service) endEverything(tx *gorm.DB, id uuid.UUID, reason string) error {
	now := s.now()
	if err := revokeSessionsOf(tx, id, reason, now); err != nil {
		return err
	}
	return callBackUser(tx, id, now)
}
