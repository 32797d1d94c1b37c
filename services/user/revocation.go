package user

import (
	"context"
	"strconv"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Revocations tells other services which access tokens are called back.
func (s *Service) Revocations(ctx context.Context, in *user.RevocationsInput) (*contract.Body[user.Revocations], error) {
	items, next, err := s.Revoked(ctx, in.After)
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Revocations]{Body: user.Revocations{Items: items, Next: next}}, nil
}

// Revoked is identity.Fetch. A cursor that is none, or another database's, begins anew.
func (s *Service) Revoked(ctx context.Context, after string) ([]identity.Revocation, string, error) {
	db := s.db.WithContext(ctx)
	// First the cursor: what is open now is told next time, and whatever commits between the two statements both times.
	var next int64
	if err := db.Raw("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").Scan(&next).Error; err != nil {
		return nil, "", err
	}
	var rows []struct {
		UserID    uuid.NullUUID
		Version   *int64
		SessionID uuid.NullUUID
		Key       *string
		At        time.Time
	}
	err := db.Raw("SELECT user_id, version, session_id, key, at FROM revocation WHERE transaction >= ?::text::xid8 AND at > ?",
		cursor(after, next), s.now().Add(-identity.RevocationLife)).Scan(&rows).Error
	if err != nil {
		return nil, "", err
	}
	items := make([]identity.Revocation, len(rows))
	for i, r := range rows {
		items[i] = identity.Revocation{User: r.UserID.UUID, Session: r.SessionID.UUID, At: r.At}
		if r.Version != nil {
			items[i].Version = *r.Version
		}
		if r.Key != nil {
			items[i].Key = *r.Key
		}
	}
	return items, strconv.FormatInt(next, 10), nil
}

// cursor is what after says, if it can be of this database.
func cursor(after string, next int64) string {
	if n, err := strconv.ParseInt(after, 10, 64); err != nil || n < 0 || n > next {
		return "0"
	}
	return after
}

// Standing tells another service whether an access token is good at this moment.
func (s *Service) Standing(ctx context.Context, in *user.StandingInput) (*contract.None, error) {
	p := identity.Principal{UserID: in.User, SessionID: in.Session, Version: in.Version}
	if err := s.InGoodStanding(ctx, p); err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}

// InGoodStanding is nil if p's account is active, may do what its token says, and its session lives; else it is
// identity.Revoked.
func (s *Service) InGoodStanding(ctx context.Context, p identity.Principal) error {
	var one int
	return postgres.Found(s.db.WithContext(ctx).Raw(`SELECT 1 FROM account a JOIN session s ON s.user_id = a.id
		WHERE a.id = ? AND a.state = 'active' AND a.av <= ? AND s.id = ? AND s.revoked_at IS NULL AND s.expires_at > ?`,
		p.UserID, p.Version, p.SessionID, s.now()).Scan(&one), identity.Revoked())
}

// callBackUser makes all of the user's access tokens of before this transaction bad. The caller has locked the account.
func callBackUser(tx *gorm.DB, id uuid.UUID, at time.Time) error {
	return tx.Exec(`WITH newer AS (UPDATE account SET av = av + 1 WHERE id = ? RETURNING id, av)
		INSERT INTO revocation (user_id, version, at) SELECT id, av, ? FROM newer`, id, at).Error
}

func callBackKey(tx *gorm.DB, kid string, at time.Time) error {
	return tx.Exec("INSERT INTO revocation (key, at) VALUES (?, ?)", kid, at).Error
}

// endSessions ends those live sessions that where selects, and calls back their access tokens. It gives the first one
// that it has ended, and how many there were.
func endSessions(tx *gorm.DB, reason string, at time.Time, where string, args ...any) (first session, n int64, err error) {
	var ended []session
	err = tx.Raw(`WITH ended AS (
			UPDATE session SET revoked_at = ?, revoked_for = ? WHERE revoked_at IS NULL AND `+where+` RETURNING id, user_id, expires_at
		), told AS (INSERT INTO revocation (session_id, at) SELECT id, ? FROM ended)
		SELECT id, user_id, expires_at FROM ended`, append(append([]any{at, reason}, args...), at)...).Scan(&ended).Error
	if len(ended) > 0 {
		first = ended[0]
	}
	return first, int64(len(ended)), err
}
