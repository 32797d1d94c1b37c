package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Operator does what a person does about transactions, with the register and nothing else: it works while every
// coordinator and every participant is away. It can look; it can write a decision where there is none, as anybody in doubt
// can; and it can have a decision carried out sooner. It cannot change a decision.
type Operator struct {
	register register
	now      func() time.Time
	instance string // named in timelines
}

// NewOperator makes an operator on the register in db.
func NewOperator(db *gorm.DB, now func() time.Time, instance string) *Operator {
	return &Operator{register: register{db}, now: now, instance: instance}
}

// Filter says which transactions an operator wants to see. The zero value is all that are in doubt.
type Filter struct {
	All       bool              // also those that are carried out everywhere
	State     coordinator.State // committed or aborted; empty is both
	Older     time.Duration     // decided at least so long ago
	Heuristic bool              // instead: heuristic outcomes that nobody has acknowledged; with All, acknowledged ones too
	Limit     int
}

// List gives what is in doubt, or heuristic, oldest first: the oldest is what to look at. All transactions come newest
// first, since of those the last ones are.
func (o *Operator) List(ctx context.Context, f Filter) ([]coordinator.Transaction, error) {
	q := filter{state: string(f.State), older: f.Older}.on(o.register.db.WithContext(ctx).Select(columns).Limit(f.Limit))
	switch {
	case f.Heuristic && f.All:
		q = q.Where("heuristic").Order("decided_at, gid")
	case f.Heuristic:
		q = filter{heuristic: true}.on(q).Order("decided_at, gid")
	case f.All:
		q = q.Order("decided_at DESC, gid DESC")
	default:
		q = filter{inDoubt: true}.on(q).Order("decided_at, gid")
	}
	var rows []decision
	err := q.Find(&rows).Error
	list := make([]coordinator.Transaction, len(rows))
	for i, d := range rows {
		list[i] = d.transaction()
	}
	return list, err
}

// Show gives a transaction with its timeline. Returns NotFound for one that is not decided.
func (o *Operator) Show(ctx context.Context, gid uuid.UUID) (*coordinator.Timeline, error) {
	d, err := known(o.register.db.WithContext(ctx), gid)
	if err != nil {
		return nil, err
	}
	return d.line(), nil
}

// Statistics counts the register, or what of it was decided since then; the zero time is all of it.
func (o *Operator) Statistics(ctx context.Context, since time.Time) (*coordinator.Statistics, error) {
	out := new(coordinator.Statistics)
	q := `SELECT count(*) FILTER (WHERE outcome = 'committed') AS committed, count(*) FILTER (WHERE outcome = 'aborted') AS aborted,
		count(resolved_by) AS resolved, count(*) FILTER (WHERE heuristic) AS heuristic,
		count(*) FILTER (WHERE attempts > 0) AS taken_over, COALESCE(sum(attempts - 1) FILTER (WHERE attempts > 1), 0) AS retries,
		min(decided_at) AS oldest_decided_at FROM decision`
	var args []any
	if !since.IsZero() {
		q, args = q+" WHERE decided_at >= ?", []any{since}
	}
	if err := o.register.db.WithContext(ctx).Raw(q, args...).Scan(out).Error; err != nil {
		return nil, err
	}
	if !since.IsZero() {
		out.Since = &since // only now: Scan begins with an empty one
	}
	open, err := o.register.open(ctx)
	out.InDoubt, out.OldestInDoubtS, out.Unacknowledged = open.InDoubt, open.OldestSeconds, open.Unacknowledged
	return out, err
}

// CallOff decides a transaction against committing, unless it is decided already, and gives the outcome that is true from
// now on. Returns Conflict, code already_committed, for one that is committed: nothing was changed. Branches that have
// voted learn of it from the coordinator that was settling it, or by asking.
func (o *Operator) CallOff(ctx context.Context, gid uuid.UUID, by coordinator.Resolution) (out *coordinator.Outcome, err error) {
	err = postgres.InTx(ctx, o.register.db, func(tx *gorm.DB) error {
		out, err = o.callOff(tx, gid, by)
		return err
	})
	return out, err
}

func (o *Operator) callOff(tx *gorm.DB, gid uuid.UUID, by coordinator.Resolution) (*coordinator.Outcome, error) {
	now := o.now()
	d := decision{
		GID: gid, Outcome: coordinator.Aborted, CompletedAt: &now,
		Reason:   fault.New(fault.Conflict, "voided", "the transaction was called off by an operator").Problem(),
		Timeline: []coordinator.Event{o.event("decided", "aborted by "+by.By+": "+by.Reason)},
	}
	document, err := documentOf([]decision{d})
	if err != nil {
		return nil, err
	}
	written, err := postgres.Collect[verdict](tx, insertForced, document, lease.Seconds())
	if err != nil {
		return nil, err
	}
	won := len(written) == 1
	if won {
		// Heuristic, because it did not come of the protocol; acknowledged, because the person who did it gave the reason.
		err = tx.Exec(`UPDATE decision SET heuristic = true, resolved_by = @by, resolve_reason = @why,
			acknowledged_by = @by, acknowledge_reason = @why, acknowledged_at = @now WHERE gid = @gid`,
			map[string]any{"gid": gid, "by": by.By, "why": by.Reason, "now": now}).Error
	} else {
		d, err = find(tx, gid)
	}
	if err != nil {
		return nil, err
	}
	if d.Outcome == coordinator.Committed {
		return nil, fault.New(fault.Conflict, "already_committed", "the transaction is committed, and that is for ever")
	}
	return &coordinator.Outcome{GID: gid, State: d.Outcome, Reason: d.Reason, Replayed: !won}, nil
}

// Redrive has a transaction in doubt carried out at recovery's next turn, half a second from now, whatever pause it was
// in. Returns NotFound for one that is not decided, and Conflict, code already_completed, where there is nothing to do.
func (o *Operator) Redrive(ctx context.Context, gid uuid.UUID, by string) (out *coordinator.Transaction, err error) {
	err = postgres.InTx(ctx, o.register.db, func(tx *gorm.DB) error {
		out, err = o.redrive(tx, gid, by)
		return err
	})
	return out, err
}

func (o *Operator) redrive(tx *gorm.DB, gid uuid.UUID, by string) (*coordinator.Transaction, error) {
	event, err := json.Marshal([]coordinator.Event{o.event("redriven", "by "+by)})
	if err != nil {
		return nil, err
	}
	res := tx.Exec(`UPDATE decision SET next_at = clock_timestamp(), timeline = timeline || CAST(? AS jsonb)
		WHERE gid = ? AND completed_at IS NULL`, string(event), gid)
	return changed(tx, res, gid, fault.New(fault.Conflict, "already_completed", "every branch has carried out the decision already"))
}

// Acknowledge says that a person has looked at a heuristic outcome, and what came of it; the alarm ends. Returns NotFound
// for a transaction that is not decided, and Conflict, code nothing_to_acknowledge, for one that is not heuristic or is
// acknowledged.
func (o *Operator) Acknowledge(ctx context.Context, gid uuid.UUID, by coordinator.Resolution) (out *coordinator.Transaction, err error) {
	err = postgres.InTx(ctx, o.register.db, func(tx *gorm.DB) error {
		out, err = o.acknowledge(tx, gid, by)
		return err
	})
	return out, err
}

func (o *Operator) acknowledge(tx *gorm.DB, gid uuid.UUID, by coordinator.Resolution) (*coordinator.Transaction, error) {
	event, err := json.Marshal([]coordinator.Event{o.event("acknowledged", "by "+by.By+": "+by.Reason)})
	if err != nil {
		return nil, err
	}
	res := tx.Exec(`UPDATE decision SET acknowledged_by = ?, acknowledge_reason = ?, acknowledged_at = ?, timeline = timeline || CAST(? AS jsonb)
		WHERE gid = ? AND heuristic AND acknowledged_at IS NULL`, by.By, by.Reason, o.now(), string(event), gid)
	return changed(tx, res, gid, fault.New(fault.Conflict, "nothing_to_acknowledge", "the transaction is not heuristic, or is acknowledged already"))
}

// changed is the transaction after res has changed it. Where res found nothing to change, it is the error why.
func changed(tx *gorm.DB, res *gorm.DB, gid uuid.UUID, why error) (*coordinator.Transaction, error) {
	if res.Error != nil {
		return nil, res.Error
	}
	d, err := known(tx, gid)
	if err == nil {
		err = postgres.Found(res, why)
	}
	if err != nil {
		return nil, err
	}
	t := d.transaction()
	return &t, nil
}

// known reads a decision; a NotFound fault where there is none.
func known(tx *gorm.DB, gid uuid.UUID) (decision, error) {
	d, err := find(tx, gid)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = undecided()
	}
	return d, err
}

func undecided() error {
	return fault.New(fault.NotFound, "", "no transaction of that id has been decided")
}

func (o *Operator) event(name, detail string) coordinator.Event {
	return coordinator.Event{At: o.now(), Instance: o.instance, Event: name, Detail: detail}
}

// The same by HTTP.

func (s *Service) operator() *Operator { return NewOperator(s.deps.DB, s.deps.Now, s.deps.Instance) }

// Force is Operator.CallOff for a signed-in administrator.
func (s *Service) Force(ctx context.Context, in *coordinator.ForceInput) (*contract.Body[coordinator.Outcome], error) {
	by := coordinator.Resolution{By: identity.From(ctx).UserID.String(), Reason: in.Body.Reason.Reason}
	won := false
	out, err := idempotency.Once(ctx, s.deps.DB, func(tx *gorm.DB) (*contract.Body[coordinator.Outcome], error) {
		o, err := s.operator().callOff(tx, in.ID, by)
		if err != nil {
			return nil, err
		}
		won = !o.Replayed
		return &contract.Body[coordinator.Outcome]{Body: *o}, nil
	})
	if err == nil && won {
		s.seen.decided(decision{Outcome: out.Body.State, Reason: out.Body.Reason})
		s.deps.Log.WarnContext(ctx, "a transaction was called off by force", "gid", in.ID, "by", by.By)
	}
	return out, err
}

// Retry is Operator.Redrive for a signed-in administrator.
func (s *Service) Retry(ctx context.Context, in *contract.ByID) (*contract.Body[coordinator.Transaction], error) {
	return s.once(ctx, func(tx *gorm.DB, by string) (*coordinator.Transaction, error) {
		return s.operator().redrive(tx, in.ID, by)
	})
}

// Acknowledge is Operator.Acknowledge for a signed-in administrator.
func (s *Service) Acknowledge(ctx context.Context, in *coordinator.AcknowledgeInput) (*contract.Body[coordinator.Transaction], error) {
	return s.once(ctx, func(tx *gorm.DB, by string) (*coordinator.Transaction, error) {
		return s.operator().acknowledge(tx, in.ID, coordinator.Resolution{By: by, Reason: in.Body.Reason})
	})
}

func (s *Service) once(ctx context.Context, do func(tx *gorm.DB, by string) (*coordinator.Transaction, error)) (*contract.Body[coordinator.Transaction], error) {
	return idempotency.Once(ctx, s.deps.DB, func(tx *gorm.DB) (*contract.Body[coordinator.Transaction], error) {
		t, err := do(tx, identity.From(ctx).UserID.String())
		if err != nil {
			return nil, err
		}
		return &contract.Body[coordinator.Transaction]{Body: *t}, nil
	})
}

// Statistics is Operator.Statistics by HTTP.
func (s *Service) Statistics(ctx context.Context, in *coordinator.StatisticsInput) (*contract.Body[coordinator.Statistics], error) {
	out, err := s.operator().Statistics(ctx, in.Since)
	if err != nil {
		return nil, err
	}
	return &contract.Body[coordinator.Statistics]{Body: *out}, nil
}

// contradicted records that the only branch of a transaction has done otherwise than the register says. That branch has
// decided without the register, as it may; somebody has called it off all the same.
func (s *Service) contradicted(ctx context.Context, f *flight, did coordinator.State) {
	first, err := s.register.contradict(ctx, f.gid, append(f.timeline, s.event("heuristic", f.branches[0].Service, "the only branch has "+string(did))))
	if err != nil {
		s.seen.registerErrors.Inc()
	}
	if first {
		s.seen.heuristics.Inc()
	}
	s.deps.Log.ErrorContext(ctx, "a participant contradicts the decision", "gid", f.gid, "error", err)
}

// contradict marks a decision as contradicted by a participant, and reports whether it was not before. An acknowledgment
// is taken back: it was of something else.
func (r register) contradict(ctx context.Context, gid uuid.UUID, events []coordinator.Event) (first bool, err error) {
	timeline, err := json.Marshal(events)
	if err != nil {
		return false, err
	}
	err = postgres.InTx(ctx, r.db, func(tx *gorm.DB) error {
		res := tx.Exec(`UPDATE decision SET heuristic = true, acknowledged_by = NULL, acknowledge_reason = NULL, acknowledged_at = NULL,
				timeline = timeline || CAST(? AS jsonb)
			WHERE gid = ? AND NOT timeline @> '[{"event": "heuristic"}]'`, string(timeline), gid)
		first = res.RowsAffected == 1
		return res.Error
	})
	return first, err
}
