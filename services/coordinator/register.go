package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// decision is a row of the register.
type decision struct {
	GID         uuid.UUID
	Outcome     coordinator.State
	Reason      *fault.Problem `gorm:"serializer:json"`
	Digest      []byte
	Branches    []part `gorm:"serializer:json"`
	Deadline    *time.Time
	DecidedAt   time.Time
	CompletedAt *time.Time
	Heuristic   bool
	Attempts    int
	Timeline    []coordinator.Event `gorm:"serializer:json"`
	WaitingFor  *string

	// What a person has done: see operator.go.
	ResolvedBy        *string
	ResolveReason     *string
	AcknowledgedBy    *string
	AcknowledgeReason *string
	AcknowledgedAt    *time.Time
}

// part is a branch that must be told.
type part struct {
	Branch  int    `json:"branch"`
	Service string `json:"service"`
}

const columns = "gid, outcome, reason, digest, branches, deadline, decided_at, completed_at, heuristic, attempts, timeline, waiting_for, " +
	"resolved_by, resolve_reason, acknowledged_by, acknowledge_reason, acknowledged_at"

// TableName is GORM's hook.
func (decision) TableName() string { return "decision" }

// lease is how long whoever has decided, or taken over, a transaction is left to carry it out before recovery takes it.
// It only saves work: what keeps the outcome safe is the register and the participants' own state.
const lease = 2 * time.Second

// errTooLate is returned by register.decide for a commit that comes after its deadline.
var errTooLate = errors.New("the deadline is over")

// register is the decision register.
type register struct{ db *gorm.DB }

// decide writes d unless the transaction is decided already, and returns the row that is true from now on, with whether
// it is d. A commit is written only before its deadline, by the database's clock; too late, and with no other decision
// there, it returns errTooLate. Lazily leaves the disk to catch up.
func (r register) decide(ctx context.Context, d decision, lazily bool) (truth decision, won bool, err error) {
	inTx := postgres.InTx
	if lazily {
		inTx = postgres.InLazyTx
	}
	err = inTx(ctx, r.db, func(tx *gorm.DB) error {
		won, err = insert(tx, d)
		if err != nil {
			return err
		}
		if won {
			truth = d
			return nil
		}
		truth, err = find(tx, d.GID)
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return errTooLate
		}
		return err
	})
	return truth, won, err
}

// insert reports whether d is now the row. It does nothing where there is one, and for a commit past its deadline.
func insert(tx *gorm.DB, d decision) (bool, error) {
	reason, err := document(d.Reason)
	if err != nil {
		return false, err
	}
	branches, err := json.Marshal(append([]part{}, d.Branches...))
	if err != nil {
		return false, err
	}
	timeline, err := json.Marshal(append([]coordinator.Event{}, d.Timeline...))
	if err != nil {
		return false, err
	}
	res := tx.Exec(`INSERT INTO decision (gid, outcome, reason, digest, branches, deadline, completed_at, next_at, timeline)
		SELECT CAST(@gid AS uuid), CAST(@outcome AS text), CAST(@reason AS jsonb), CAST(@digest AS bytea), CAST(@branches AS jsonb),
			CAST(@deadline AS timestamptz), CAST(@completed AS timestamptz),
			clock_timestamp() + make_interval(secs => @lease), CAST(@timeline AS jsonb)
		WHERE CAST(@outcome AS text) <> 'committed' OR clock_timestamp() < COALESCE(CAST(@deadline AS timestamptz), 'infinity')
		ON CONFLICT (gid) DO NOTHING`,
		map[string]any{
			"gid": d.GID, "outcome": d.Outcome, "reason": reason, "digest": postgres.Bytea(d.Digest), "branches": string(branches),
			"deadline": d.Deadline, "completed": d.CompletedAt, "lease": lease.Seconds(), "timeline": string(timeline),
		})
	return res.RowsAffected == 1, res.Error
}

func document(p *fault.Problem) (any, error) {
	if p == nil {
		return nil, nil
	}
	b, err := json.Marshal(p)
	return string(b), err
}

// find reads a decision; gorm.ErrRecordNotFound where there is none.
func find(tx *gorm.DB, gid uuid.UUID) (decision, error) {
	var d decision
	err := tx.Select(columns).Take(&d, "gid = ?", gid).Error
	return d, err
}

// find reads a decision outside a transaction.
func (r register) find(ctx context.Context, gid uuid.UUID) (decision, error) {
	return find(r.db.WithContext(ctx), gid)
}

// fence answers who is in doubt. A transaction that nobody has decided by its deadline is made an aborted one first, so
// that the answer can never be contradicted; fenced is how many were. One that is neither decided nor past its deadline has
// no row in the result.
func (r register) fence(ctx context.Context, questions []coordinator.Question, by coordinator.Event) (known []decision, fenced int64, err error) {
	// In one order everywhere: two coordinators that fence the same transactions must not wait for each other.
	questions = slices.SortedFunc(slices.Values(questions), func(a, b coordinator.Question) int { return bytes.Compare(a.GID[:], b.GID[:]) })
	ids := make([]uuid.UUID, len(questions))
	for i, q := range questions {
		ids[i] = q.GID
	}
	err = postgres.InTx(ctx, r.db, func(tx *gorm.DB) error {
		known, fenced = nil, 0
		if err := tx.Select(columns).Find(&known, "gid IN ?", ids).Error; err != nil || len(known) == len(questions) {
			return err
		}
		timeline, err := json.Marshal([]coordinator.Event{by})
		if err != nil {
			return err
		}
		reason, err := json.Marshal(fault.New(fault.Deadline, "deadline", "the transaction was not settled in time").Problem())
		if err != nil {
			return err
		}
		for _, q := range questions {
			res := tx.Exec(`INSERT INTO decision (gid, outcome, reason, branches, deadline, completed_at, next_at, timeline)
				SELECT CAST(? AS uuid), 'aborted', CAST(? AS jsonb), '[]', CAST(? AS timestamptz), now(), now(), CAST(? AS jsonb)
				WHERE clock_timestamp() >= CAST(? AS timestamptz)
				ON CONFLICT (gid) DO NOTHING`, q.GID, string(reason), q.Deadline, string(timeline), q.Deadline)
			if res.Error != nil {
				return res.Error
			}
			fenced += res.RowsAffected
		}
		known = nil
		return tx.Select(columns).Find(&known, "gid IN ?", ids).Error
	})
	return known, fenced, err
}

// append adds to a decision's timeline. It is not forced: nothing depends on it.
func (r register) append(ctx context.Context, gid uuid.UUID, events []coordinator.Event) error {
	timeline, err := json.Marshal(append([]coordinator.Event{}, events...))
	if err != nil {
		return err
	}
	return postgres.InLazyTx(ctx, r.db, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE decision SET timeline = timeline || CAST(? AS jsonb) WHERE gid = ?", string(timeline), gid).Error
	})
}

// complete marks transactions as carried out everywhere. It is not forced: recovery would find them and ask again.
func (r register) complete(ctx context.Context, gid uuid.UUID, heuristic bool, events []coordinator.Event) error {
	timeline, err := json.Marshal(events)
	if err != nil {
		return err
	}
	return postgres.InLazyTx(ctx, r.db, func(tx *gorm.DB) error {
		return tx.Exec(`UPDATE decision SET completed_at = now(), waiting_for = NULL, heuristic = heuristic OR ?, timeline = timeline || CAST(? AS jsonb)
			WHERE gid = ? AND completed_at IS NULL`, heuristic, string(timeline), gid).Error
	})
}

// due leases up to limit decisions that nobody is carrying out. Several coordinators get different ones. The timeline
// tells the first lease only: a participant that is away for a day costs thousands.
func (r register) due(ctx context.Context, limit int, takenOver coordinator.Event) ([]decision, error) {
	event, err := json.Marshal([]coordinator.Event{takenOver})
	if err != nil {
		return nil, err
	}
	var rows []decision
	err = postgres.InLazyTx(ctx, r.db, func(tx *gorm.DB) error {
		rows = nil
		return tx.Raw(`UPDATE decision SET attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => ?),
				timeline = CASE attempts WHEN 0 THEN timeline || CAST(? AS jsonb) ELSE timeline END
			WHERE gid IN (SELECT gid FROM decision WHERE completed_at IS NULL AND next_at <= clock_timestamp()
				ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED)
			RETURNING `+columns, lease.Seconds(), string(event), limit).Scan(&rows).Error
	})
	return rows, err
}

// postpone gives a decision back, to be tried again after pause, and notes which participants it waits for.
func (r register) postpone(ctx context.Context, gid uuid.UUID, pause time.Duration, waitingFor string) error {
	return postgres.InLazyTx(ctx, r.db, func(tx *gorm.DB) error {
		return tx.Exec(`UPDATE decision SET next_at = clock_timestamp() + make_interval(secs => ?), waiting_for = ?
			WHERE gid = ? AND completed_at IS NULL`, pause.Seconds(), waitingFor, gid).Error
	})
}
