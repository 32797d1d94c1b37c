package coordinator

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
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
const lease = 1500 * time.Millisecond // and half a second until recovery looks: two in all

// register is the decision register.
type register struct{ db *gorm.DB }

// ruling is what became of a decision that was to be written.
type ruling struct {
	truth   verdict // what is true from now on
	won     bool    // the decision that was to be written is
	tooLate bool    // it was a commit past its deadline, and there is no other
}

// decideAll writes decisions, with one statement and one commit, unless their transactions are decided already, and returns
// for each what is true from now on. A commit is written only before its deadline, by the database's clock. Lazily leaves
// the disk to catch up.
func (r register) decideAll(ctx context.Context, all []decision, lazily bool) ([]ruling, error) {
	document, err := documentOf(all)
	if err != nil {
		return nil, err
	}
	statement := insertForced
	if lazily {
		statement = insertLazily
	}
	written, err := postgres.Alone[verdict](ctx, r.db, statement, document, lease.Seconds())
	if err != nil {
		return nil, err
	}
	outcomes := make(map[uuid.UUID]coordinator.State, len(written))
	for _, d := range written {
		outcomes[d.GID] = d.Outcome
	}
	rulings := make([]ruling, len(all))
	var lost []uuid.UUID
	for i, d := range all {
		if outcomes[d.GID] == d.Outcome {
			rulings[i] = ruling{truth: verdict{d.GID, d.Outcome, d.Reason, d.Digest}, won: true}
			delete(outcomes, d.GID) // whoever else decides the transaction in this statement has come too late
		} else {
			lost = append(lost, d.GID)
		}
	}
	found, err := r.findAll(ctx, lost)
	if err != nil {
		return nil, err
	}
	for i, d := range all {
		if rulings[i].won {
			continue
		}
		truth, known := found[d.GID]
		rulings[i] = ruling{truth: truth, tooLate: !known}
	}
	return rulings, nil
}

// insertForced writes the decisions of documentOf, its first parameter, under a lease of so many seconds, and gives the
// verdicts that it has written: of several on one transaction, the first. It leaves out what is decided already, and commits
// past their deadline. insertLazily leaves the disk to catch up.
const (
	insertForced = insertDecisions + insertable
	insertLazily = insertDecisions + ", (SELECT set_config('synchronous_commit', 'off', true)) AS lazily" + insertable

	insertDecisions = `INSERT INTO decision (gid, outcome, reason, digest, branches, deadline, completed_at, next_at, timeline)
		SELECT gid, outcome, reason, decode(digest, 'hex'), branches, deadline, completed_at, clock_timestamp() + make_interval(secs => $2), timeline
		FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS r (gid uuid, outcome text, reason jsonb, digest text, branches jsonb,
			deadline timestamptz, completed_at timestamptz, timeline jsonb)`
	insertable = ` WHERE outcome <> 'committed' OR clock_timestamp() < COALESCE(deadline, 'infinity')
		ON CONFLICT (gid) DO NOTHING RETURNING ` + verdictColumns
)

// documentOf is decisions as insertDecisions reads them. They are in one order everywhere: two coordinators that decide the
// same transactions must not wait for each other.
func documentOf(all []decision) (string, error) {
	type row struct {
		GID         uuid.UUID           `json:"gid"`
		Outcome     coordinator.State   `json:"outcome"`
		Reason      *fault.Problem      `json:"reason,omitempty"`
		Digest      *string             `json:"digest,omitempty"`
		Branches    []part              `json:"branches"`
		Deadline    *time.Time          `json:"deadline,omitempty"`
		CompletedAt *time.Time          `json:"completed_at,omitempty"`
		Timeline    []coordinator.Event `json:"timeline"`
	}
	rows := make([]row, len(all))
	for i, d := range all {
		rows[i] = row{d.GID, d.Outcome, d.Reason, hexed(d.Digest), append([]part{}, d.Branches...), d.Deadline, d.CompletedAt, append([]coordinator.Event{}, d.Timeline...)}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return bytes.Compare(a.GID[:], b.GID[:]) })
	document, err := json.Marshal(rows)
	return string(document), err
}

func hexed(b []byte) *string {
	if b == nil {
		return nil
	}
	s := hex.EncodeToString(b)
	return &s
}

// find reads a decision; gorm.ErrRecordNotFound where there is none.
func find(tx *gorm.DB, gid uuid.UUID) (decision, error) {
	var d decision
	err := tx.Select(columns).Take(&d, "gid = ?", gid).Error
	return d, err
}

// verdict is what a row says for ever.
type verdict struct {
	GID     uuid.UUID
	Outcome coordinator.State
	Reason  *fault.Problem
	Digest  []byte
}

const verdictColumns = "gid, outcome, reason, digest"

// findAll reads verdicts; what is not decided is not in the result.
func (r register) findAll(ctx context.Context, gids []uuid.UUID) (map[uuid.UUID]verdict, error) {
	if len(gids) == 0 {
		return nil, nil
	}
	rows, err := postgres.Alone[verdict](ctx, r.db, "SELECT "+verdictColumns+" FROM decision WHERE gid = ANY(CAST($1 AS uuid[]))", postgres.Array(gids))
	found := make(map[uuid.UUID]verdict, len(rows))
	for _, v := range rows {
		found[v.GID] = v
	}
	return found, err
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

// completion is what there is to write when a transaction is carried out everywhere.
type completion struct {
	GID       uuid.UUID           `json:"gid"`
	Heuristic bool                `json:"heuristic"`
	Timeline  []coordinator.Event `json:"timeline"`
}

// complete marks transactions as carried out everywhere. It is not forced: recovery would find them and ask again.
func (r register) complete(ctx context.Context, all []completion) error {
	document, err := json.Marshal(all)
	if err != nil {
		return err
	}
	gids := make([]uuid.UUID, len(all))
	for i, c := range all {
		gids[i] = c.GID
	}
	// That it is not complete is asked in other words than those of the index decision_due: the planner would take the index,
	// which at speed is full of what has just left it. With the array it knows how few rows these are.
	_, err = postgres.Alone[struct{}](ctx, r.db, `UPDATE decision d SET completed_at = now(), waiting_for = NULL, heuristic = d.heuristic OR r.heuristic, timeline = d.timeline || r.timeline
		FROM (SELECT set_config('synchronous_commit', 'off', true)) AS lazily,
			jsonb_to_recordset(CAST($1 AS jsonb)) AS r (gid uuid, heuristic boolean, timeline jsonb)
		WHERE d.gid = ANY(CAST($2 AS uuid[])) AND d.gid = r.gid AND COALESCE(d.completed_at, 'infinity') = 'infinity'`,
		string(document), postgres.Array(gids))
	return err
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
