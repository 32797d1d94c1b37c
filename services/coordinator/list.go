package coordinator

import (
	"context"
	"errors"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/fault"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// List gives decided transactions, newest first.
func (s *Service) List(ctx context.Context, in *coordinator.ListInput) (*contract.Body[contract.Page[coordinator.Transaction]], error) {
	after, err := contract.After[cursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := s.register.list(ctx, in.State, in.InDoubt, after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), decision.transaction, func(d decision) any { return cursor{d.DecidedAt, d.GID} })
}

// Get gives a transaction with its timeline. One that is under way here and not decided has no timeline yet.
func (s *Service) Get(ctx context.Context, in *contract.ByID) (*contract.Body[coordinator.Timeline], error) {
	d, err := s.register.find(ctx, in.ID)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		if !s.isFlying(in.ID) {
			return nil, fault.New(fault.NotFound, "", "no transaction of that id has been decided")
		}
		d = decision{GID: in.ID, Outcome: coordinator.Pending}
	} else if err != nil {
		return nil, err
	}
	return &contract.Body[coordinator.Timeline]{Body: coordinator.Timeline{
		Transaction: d.transaction(), Events: append([]coordinator.Event{}, d.Timeline...),
	}}, nil
}

func (s *Service) isFlying(gid uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.flights[gid]
	return ok
}

// cursor is where a page of the list ends.
type cursor struct {
	At  time.Time `json:"at"`
	GID uuid.UUID `json:"gid"`
}

func (d decision) transaction() coordinator.Transaction {
	t := coordinator.Transaction{
		GID: d.GID, State: d.Outcome, Reason: d.Reason, CompletedAt: d.CompletedAt, Heuristic: d.Heuristic,
		Attempts: d.Attempts, Services: []string{},
	}
	if !d.DecidedAt.IsZero() {
		t.DecidedAt = &d.DecidedAt
	}
	for _, p := range d.Branches {
		t.Services = append(t.Services, p.Service)
	}
	return t
}

func (r register) list(ctx context.Context, state string, inDoubt bool, after *cursor, limit int) ([]decision, error) {
	q := r.db.WithContext(ctx).Select(columns).Order("decided_at DESC, gid DESC").Limit(limit)
	if state != "" {
		q = q.Where("outcome = ?", state)
	}
	if inDoubt {
		q = q.Where("completed_at IS NULL")
	}
	if after != nil {
		q = q.Where("(decided_at, gid) < (?, ?)", after.At, after.GID)
	}
	var rows []decision
	err := q.Find(&rows).Error
	return rows, err
}

// inDoubt is how many decisions are not carried out everywhere, and how old the oldest is.
func (r register) inDoubt(ctx context.Context) (n int64, oldest time.Duration, err error) {
	var row struct {
		N       int64
		Seconds float64
	}
	err = r.db.WithContext(ctx).Raw(`SELECT count(*) AS n, COALESCE(EXTRACT(EPOCH FROM now() - min(decided_at)), 0) AS seconds
		FROM decision WHERE completed_at IS NULL`).Scan(&row).Error
	return row.N, time.Duration(row.Seconds * float64(time.Second)), err
}
