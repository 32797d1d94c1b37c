package order

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	maxShares   = 50                   // of a thing: people, not an audience
	usualLoan   = 30 * 24 * time.Hour  // where nobody says
	longestLoan = 366 * 24 * time.Hour // who forgets a share is not to find it there for ever
)

// shareRow is a row of share.
type shareRow struct {
	Grantee   uuid.UUID
	May       string
	GrantedAt time.Time
	ExpiresAt time.Time
}

func (r shareRow) share() order.Share {
	return order.Share{UserID: r.Grantee, May: r.May, ExpiresAt: r.ExpiresAt, GrantedAt: r.GrantedAt}
}

// loan is the share by which the caller reaches a thing, as a query joins it; empty where there is none.
type loan struct {
	ShareMay   *string
	ShareUntil *time.Time
}

// share is the loan as the policies know it.
func (l loan) share(with uuid.UUID) *policy.Share {
	if l.ShareMay == nil || l.ShareUntil == nil {
		return nil
	}
	return &policy.Share{With: with, May: *l.ShareMay, Until: *l.ShareUntil}
}

// lent joins the loan of a thing to its row t; its arguments are lentArgs.
func lent(kind, t string) string {
	return " LEFT JOIN share ON share.kind = '" + kind + "' AND share.object = " + t + ".id AND share.grantee = ? AND share.expires_at > ?"
}

// ShareOrder shares an order of the caller. Returns NotFound; Invalid, code invalid_share; Conflict, code too_many_shares.
func (s *Service) ShareOrder(ctx context.Context, in *order.ShareInput) (*contract.Body[order.Share], error) {
	return s.share(ctx, "order", in, func(tx *gorm.DB) error {
		_, err := s.reach(ctx, tx, in.ID, identity.ShareOrder, forChange)
		return err
	})
}

// OrderShares gives the shares of an order of the caller that have not ended. Returns NotFound.
func (s *Service) OrderShares(ctx context.Context, in *order.ListSharesInput) (*contract.Body[contract.Page[order.Share]], error) {
	if _, err := s.reach(ctx, s.db.WithContext(ctx), in.ID, identity.ShareOrder, ""); err != nil {
		return nil, err
	}
	return s.shares(ctx, "order", in)
}

// UnshareOrder ends a share of an order of the caller, if there is one. Returns NotFound for the order.
func (s *Service) UnshareOrder(ctx context.Context, in *order.SharedWith) (*contract.None, error) {
	if _, err := s.reach(ctx, s.db.WithContext(ctx), in.ID, identity.ShareOrder, ""); err != nil {
		return nil, err
	}
	return s.unshare(ctx, "order", in)
}

// share writes a share down, once owned has found that the thing is the caller's, and has locked it: so that people who
// are counted are counted one after the other.
func (s *Service) share(ctx context.Context, kind string, in *order.ShareInput, owned func(tx *gorm.DB) error) (*contract.Body[order.Share], error) {
	me, now := identity.From(ctx).UserID, s.now()
	r := shareRow{Grantee: in.UserID, May: in.Body.May, GrantedAt: now, ExpiresAt: now.Add(usualLoan)}
	if in.Body.ExpiresAt != nil {
		r.ExpiresAt = in.Body.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := owned(tx); err != nil {
			return err
		}
		switch left := r.ExpiresAt.Sub(now); {
		case r.Grantee == me || r.Grantee == uuid.Nil:
			return invalidShare("path.user_id", "must be somebody else's")
		case left <= 0 || left > longestLoan:
			return invalidShare("body.expires_at", "must be within the next year")
		}
		res := tx.Exec(`INSERT INTO share (kind, object, grantee, may, granted_by, granted_at, expires_at)
			SELECT ?, ?, ?, ?, ?, ?, ? WHERE ? > (SELECT count(*) FROM share WHERE kind = ? AND object = ? AND grantee <> ? AND expires_at > ?)
			ON CONFLICT (kind, object, grantee) DO UPDATE SET may = excluded.may, granted_by = excluded.granted_by,
				granted_at = excluded.granted_at, expires_at = excluded.expires_at`,
			kind, in.ID, r.Grantee, r.May, me, r.GrantedAt, r.ExpiresAt, maxShares, kind, in.ID, r.Grantee, now)
		if res.Error == nil && res.RowsAffected == 0 {
			return fault.New(fault.Conflict, "too_many_shares", "it is shared with %d people already", maxShares)
		}
		return res.Error
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[order.Share]{Body: r.share()}, nil
}

func invalidShare(field, detail string) error {
	return fault.New(fault.Invalid, "invalid_share", "it cannot be shared so").With(fault.Field{Pointer: field, Detail: detail})
}

// shares lists what share has written and has not ended; whose it is has been looked at.
func (s *Service) shares(ctx context.Context, kind string, in *order.ListSharesInput) (*contract.Body[contract.Page[order.Share]], error) {
	after, err := contract.After[granteeCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = new(granteeCursor)
	}
	var rows []shareRow
	err = s.db.WithContext(ctx).Raw(`SELECT grantee, may, granted_at, expires_at FROM share
		WHERE kind = ? AND object = ? AND expires_at > ? AND grantee > ? ORDER BY grantee LIMIT ?`,
		kind, in.ID, s.now(), after.Grantee, in.Limit()+1).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), shareRow.share, func(r shareRow) any { return granteeCursor{r.Grantee} })
}

// granteeCursor is where a page of shares ended.
type granteeCursor struct {
	Grantee uuid.UUID `json:"grantee"`
}

func (s *Service) unshare(ctx context.Context, kind string, in *order.SharedWith) (*contract.None, error) {
	err := s.db.WithContext(ctx).Exec("DELETE FROM share WHERE kind = ? AND object = ? AND grantee = ?", kind, in.ID, in.UserID).Error
	return nil, err
}
