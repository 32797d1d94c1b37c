package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// List gives decided transactions, newest first.
func (s *Service) List(ctx context.Context, in *coordinator.ListInput) (*contract.Body[contract.Page[coordinator.Transaction]], error) {
	after, err := contract.After[cursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := s.register.list(ctx, filter{state: in.State, inDoubt: in.InDoubt, heuristic: in.Heuristic}, after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), decision.transaction, func(d decision) any { return cursor{d.DecidedAt, d.GID} })
}

// Get gives a transaction with its timeline. One that is under way here and not decided has no timeline yet.
func (s *Service) Get(ctx context.Context, in *contract.ByID) (*contract.Body[coordinator.Timeline], error) {
	d, err := find(s.register.db.WithContext(ctx), in.ID)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		if !s.isFlying(in.ID) {
			return nil, undecided()
		}
		d = decision{GID: in.ID, Outcome: coordinator.Pending}
	} else if err != nil {
		return nil, err
	}
	return &contract.Body[coordinator.Timeline]{Body: *d.line()}, nil
}

// line is the transaction with its timeline in the order of time. It is written in pieces, by several instances.
func (d decision) line() *coordinator.Timeline {
	events := append([]coordinator.Event{}, d.Timeline...)
	slices.SortStableFunc(events, func(a, b coordinator.Event) int { return a.At.Compare(b.At) })
	return &coordinator.Timeline{Transaction: d.transaction(), Events: events}
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
	if d.WaitingFor != nil {
		t.WaitingFor = *d.WaitingFor
	}
	if d.ResolvedBy != nil {
		t.Resolved = &coordinator.Resolution{By: *d.ResolvedBy, Reason: *d.ResolveReason}
	}
	if d.AcknowledgedAt != nil {
		t.Acknowledged = &coordinator.Acknowledgment{
			Resolution: coordinator.Resolution{By: *d.AcknowledgedBy, Reason: *d.AcknowledgeReason}, At: *d.AcknowledgedAt,
		}
	}
	for _, p := range d.Branches {
		t.Services = append(t.Services, p.Service)
	}
	return t
}

// filter says which decisions a list shows. The zero value shows all.
type filter struct {
	state     string // committed or aborted; empty is both
	inDoubt   bool
	heuristic bool // and not acknowledged
	older     time.Duration
}

func (f filter) on(q *gorm.DB) *gorm.DB {
	if f.state != "" {
		q = q.Where("outcome = ?", f.state)
	}
	if f.inDoubt {
		q = q.Where("completed_at IS NULL")
	}
	if f.heuristic {
		q = q.Where("heuristic AND acknowledged_at IS NULL")
	}
	if f.older > 0 {
		q = q.Where("decided_at <= now() - make_interval(secs => ?)", f.older.Seconds())
	}
	return q
}

func (r register) list(ctx context.Context, f filter, after *cursor, limit int) ([]decision, error) {
	q := f.on(r.db.WithContext(ctx).Select(columns).Order("decided_at DESC, gid DESC").Limit(limit))
	if after != nil {
		q = q.Where("(decided_at, gid) < (?, ?)", after.At, after.GID)
	}
	var rows []decision
	err := q.Find(&rows).Error
	return rows, err
}

// open is what is not over: decisions that are not carried out everywhere, and heuristic outcomes that nobody has
// looked at.
type open struct {
	InDoubt        int64
	OldestSeconds  float64 // age of the oldest in doubt
	Unacknowledged int64
}

// mostOpen are counted: beyond, it does not matter how many more.
const mostOpen = 100_000

// open reads two small indexes, whatever the size of the register. The first is walked in its order, so that the entries of
// what has left it are thrown away on the walk: at speed there are thousands until the next vacuum.
func (r register) open(ctx context.Context) (o open, err error) {
	err = r.db.WithContext(ctx).Raw(`SELECT count(*) AS in_doubt, COALESCE(EXTRACT(EPOCH FROM now() - min(decided_at)), 0) AS oldest_seconds,
			(SELECT count(*) FROM decision WHERE heuristic AND acknowledged_at IS NULL) AS unacknowledged
		FROM (SELECT decided_at FROM decision WHERE completed_at IS NULL ORDER BY next_at LIMIT ?) AS waiting`, mostOpen).Scan(&o).Error
	return o, err
}
