package user

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Points gives what the caller has.
func (s *Service) Points(ctx context.Context, _ *contract.None) (*contract.Body[user.PointsBalance], error) {
	var b user.PointsBalance
	res := s.db.WithContext(ctx).Raw("SELECT available, held FROM points_account WHERE user_id = ?", identity.From(ctx).UserID).Scan(&b)
	err := postgres.Found(res, errNoUser)
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.PointsBalance]{Body: b}, nil
}

// entry is a row of points_entry.
type entry struct {
	ID        uuid.UUID
	Kind      string
	Points    int64
	GID       uuid.UUID
	Reference string
	CreatedAt time.Time
}

func (e entry) entry() user.PointsEntry {
	return user.PointsEntry{ID: e.ID, Kind: e.Kind, Points: e.Points, GID: e.GID, Reference: e.Reference, CreatedAt: e.CreatedAt}
}

// PointsHistory gives what came and went, newest first. What a transaction holds is not there yet.
func (s *Service) PointsHistory(ctx context.Context, in *user.ListPointsInput) (*contract.Body[contract.Page[user.PointsEntry]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = &byID{uuid.Max} // newest first, so every id is after it
	}
	var rows []entry
	err = s.db.WithContext(ctx).Raw(`SELECT id, kind, points, gid, reference, created_at FROM points_entry
		WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`, identity.From(ctx).UserID, after.ID, in.Limit()+1).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), entry.entry, func(e entry) any { return byID{e.ID} })
}

// holdPoints moves n points from available to held, and reports whether it did: where atMost is set it does not take
// more than there is. The guard is in the statement, so two at once cannot both take the last points.
func holdPoints(tx *gorm.DB, id uuid.UUID, n int64, atMost bool) (bool, error) {
	q := "UPDATE points_account SET available = available - ?, held = held + ? WHERE user_id = ?"
	args := []any{n, n, id}
	if atMost {
		q, args = q+" AND available >= ?", append(args, n)
	}
	res := tx.Exec(q, args...)
	return res.RowsAffected == 1, res.Error
}

// changePoints adds to what an account has and holds.
func changePoints(tx *gorm.DB, id uuid.UUID, available, held int64) error {
	return postgres.Found(tx.Exec("UPDATE points_account SET available = available + ?, held = held + ? WHERE user_id = ?", available, held, id), errNoUser)
}

func insertEntry(tx *gorm.DB, owner uuid.UUID, e entry) error {
	return tx.Exec("INSERT INTO points_entry (id, user_id, gid, kind, points, reference, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		e.ID, owner, e.GID, e.Kind, e.Points, e.Reference, e.CreatedAt).Error
}
