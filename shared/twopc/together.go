package twopc

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Branches of different transactions that come in one message are voted on, and carried out, in one local transaction:
// one commit for all of them. That is where most of a busy participant's time goes. They are independent of each other,
// so none may suffer for another: what does not go well in company is done alone, as if it had come alone.
//
// In company the rows are locked in the order of the branches' keys, and for a short time only: who has to wait for
// somebody does so alone.
const patienceInCompany = "100ms"

// errCompany says that something is not for several branches at once.
var errCompany = errors.New("not all of these branches can be done together")

// PrepareAll votes on branches of different transactions, in order. It gives a State of Prepared, or Committed for the only
// branch of a transaction, where the vote is yes, and none where Prepare must be asked for the branch alone: a no, among
// others, is only told there. An error means that there is no vote at all.
func (p *Participant) PrepareAll(ctx context.Context, messages []Prepare) ([]Voted, error) {
	votes := make([]Voted, len(messages))
	order := make([]int, len(messages))
	for i, m := range messages {
		votes[i] = Voted{GID: m.GID, Branch: m.Branch}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(messages[a].Key, messages[b].Key) })

	err := postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) error { return p.voteAll(tx, messages, order) })
	if err == nil {
		for i, m := range messages {
			votes[i].State = vote(m)
		}
		crash.At(crash.AfterVote)
		return votes, nil
	}
	if away(err) {
		return nil, err
	}
	// At least one cannot be done, or not now. A savepoint each keeps it from the others.
	err = postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) error { return p.voteEach(tx, messages, order, votes) })
	switch {
	case away(err):
		return nil, err
	case err != nil:
		for i := range votes {
			votes[i].State = ""
		}
	default:
		crash.At(crash.AfterVote)
	}
	return votes, nil
}

// away reports whether err is about the database, and not about one of the branches.
func away(err error) bool { return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Deadline) }

// vote is the state that a yes to m leaves its branch in.
func vote(m Prepare) BranchState {
	if m.OnePhase {
		return Committed
	}
	return Prepared
}

// voteAll votes yes on all, or returns an error.
func (p *Participant) voteAll(tx *gorm.DB, messages []Prepare, order []int) error {
	rows := make([]row, len(order))
	for i, k := range order {
		rows[i] = p.branch(messages[k])
	}
	document, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	res := tx.Exec(`WITH brief AS MATERIALIZED (SELECT set_config('lock_timeout', ?, true))
		INSERT INTO tx_branch (gid, branch, state, action, key, payload, digest, deadline, finished_at)
		SELECT gid, branch, state, action, key, payload, decode(digest, 'hex'), deadline, finished_at
		FROM brief, jsonb_to_recordset(CAST(? AS jsonb)) AS r (gid uuid, branch smallint, state text, action text, key text, payload jsonb,
			digest text, deadline timestamptz, finished_at timestamptz)
		ON CONFLICT DO NOTHING`, patienceInCompany, string(document))
	if res.Error != nil {
		return res.Error
	}
	if res.RowsAffected != int64(len(rows)) {
		return errCompany // there is a repetition among them
	}
	for _, k := range order {
		if err := p.act(tx, messages[k]); err != nil {
			return err
		}
	}
	return nil
}

// voteEach votes on each where that can be done at once, and leaves out the others.
func (p *Participant) voteEach(tx *gorm.DB, messages []Prepare, order []int, votes []Voted) error {
	if err := tx.Exec("SELECT set_config('lock_timeout', ?, true)", patienceInCompany).Error; err != nil {
		return err
	}
	for _, k := range order {
		err := tx.Transaction(func(tx *gorm.DB) (err error) { // within a transaction it is a savepoint
			votes[k].State, err = p.vote(tx, messages[k])
			return err
		})
		if away(err) {
			return err
		}
		if err != nil {
			votes[k].State = ""
		}
	}
	return nil
}

// FinishAll carries out decisions, in order. A State is empty where one could not be carried out now.
func (p *Participant) FinishAll(ctx context.Context, decisions []Decision) []Finished {
	done := make([]Finished, len(decisions))
	for i, d := range decisions {
		done[i] = Finished{GID: d.GID, Branch: d.Branch}
	}
	if len(decisions) > 1 {
		crash.At(crash.BeforeFinish)
		// Not forced, as in Finish.
		err := postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) error { return p.carryOutAll(tx, decisions, done) })
		if err != nil { // none of it has happened
			for i := range done {
				done[i].State = ""
			}
		}
	}
	for i, d := range decisions {
		if done[i].State != "" {
			continue
		}
		state, err := p.Finish(ctx, d)
		if err != nil {
			// One branch that cannot be finished now does not hold up the others; it will be told again.
			p.deps.Log.WarnContext(ctx, "finish branch", "gid", d.GID, "branch", d.Branch, "error", err)
		}
		done[i].State = state
	}
	return done
}

// carryOutAll carries out those of the decisions whose branches wait for just that, and sets their states in done.
func (p *Participant) carryOutAll(tx *gorm.DB, decisions []Decision, done []Finished) error {
	type place struct {
		gid    uuid.UUID
		branch int
	}
	at := make(map[place]int, len(decisions))
	for i, d := range decisions {
		at[place{d.GID, d.Branch}] = i
	}
	if len(at) < len(decisions) {
		return errCompany
	}
	document, err := json.Marshal(decisions)
	if err != nil {
		return err
	}
	var waiting []row
	err = tx.Raw(`SELECT b.gid, b.branch, r.state, b.action, b.payload,
			set_config('synchronous_commit', 'off', true), set_config('lock_timeout', ?, true)
		FROM tx_branch b JOIN jsonb_to_recordset(CAST(? AS jsonb)) AS r (gid uuid, branch smallint, state text) USING (gid, branch)
		WHERE b.state = 'prepared' ORDER BY b.key, b.gid, b.branch FOR UPDATE OF b`, patienceInCompany, string(document)).Scan(&waiting).Error
	if err != nil || len(waiting) == 0 {
		return err
	}
	for _, b := range waiting {
		if err := p.move(tx, b, b.State); err != nil {
			return err
		}
	}
	document, err = json.Marshal(waiting)
	if err != nil {
		return err
	}
	err = tx.Exec(`UPDATE tx_branch b SET state = r.state, finished_at = ?
		FROM jsonb_to_recordset(CAST(? AS jsonb)) AS r (gid uuid, branch smallint, state text) WHERE b.gid = r.gid AND b.branch = r.branch`,
		p.deps.Now(), string(document)).Error
	if err != nil {
		return err
	}
	for _, b := range waiting {
		done[at[place{b.GID, b.Branch}]].State = b.State
	}
	return nil
}

// MarshalJSON is the row as PostgreSQL's jsonb_to_recordset reads it.
func (r row) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		GID        uuid.UUID       `json:"gid"`
		Branch     int             `json:"branch"`
		State      BranchState     `json:"state"`
		Action     string          `json:"action,omitempty"`
		Key        string          `json:"key,omitempty"`
		Payload    json.RawMessage `json:"payload,omitempty"`
		Digest     string          `json:"digest,omitempty"`
		Deadline   *time.Time      `json:"deadline,omitempty"`
		FinishedAt *time.Time      `json:"finished_at,omitempty"`
	}{r.GID, r.Branch, r.State, r.Action, r.Key, r.Payload, hex.EncodeToString(r.Digest), r.Deadline, r.FinishedAt})
}
