package twopc

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/postgres"

	"github.com/google/uuid"
)

// Branches of different transactions that come in one message are voted on, and carried out, in one local transaction:
// one commit for all of them. That is where most of a busy participant's time goes. They are independent of each other,
// so none may suffer for another: what does not go well in company is done alone, as if it had come alone.
//
// In company the rows are locked in the order of Locking, and for a short time only: who has to wait for
// somebody does so alone.
const patienceInCompany = "100ms"

// errCompany says that two messages of one company are about the same branch.
var errCompany = errors.New("a branch is named twice")

// PrepareAll votes on branches of different transactions, in order. It gives a State of Prepared, or Committed for the only
// branch of a transaction, where the vote is yes, and none where Prepare must be asked for the branch alone: a no, among
// others, is only told there. An error means that there is no vote at all.
func (p *Participant) PrepareAll(ctx context.Context, messages []Prepare) ([]Voted, error) {
	votes := make([]Voted, len(messages))
	order, first := make([]int, len(messages)), make([]string, len(messages))
	for i, m := range messages {
		votes[i] = Voted{GID: m.GID, Branch: m.Branch}
		order[i], first[i] = i, p.lockOrder(m)
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(first[a], first[b]) })

	crash.At(crash.BeforeVote)
	err := inTx(ctx, postgres.InTx, p.deps.DB, func(tx Tx) error { return p.voteAll(tx, messages, order) })
	if err == nil {
		for i, m := range messages {
			votes[i].State = yes(m)
			p.voted.keep(m)
		}
		crash.At(crash.AfterVote)
		return votes, nil
	}
	if away(err) {
		return nil, err
	}
	// At least one cannot be done, or not now. A savepoint each keeps it from the others.
	var done []int
	err = inTx(ctx, postgres.InTx, p.deps.DB, func(tx Tx) (err error) {
		done, err = p.voteEach(tx, messages, order)
		return err
	})
	switch {
	case away(err):
		return nil, err
	case err == nil:
		for _, i := range done {
			votes[i].State = yes(messages[i])
			p.voted.keep(messages[i])
		}
		crash.At(crash.AfterVote)
	}
	return votes, nil
}

// away reports whether err is about the database, and not about one of the branches.
func away(err error) bool { return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Deadline) }

// briefly is the patience of what is done in company.
func briefly(tx Tx) error {
	return postgres.Put(tx.DB, "SELECT set_config('lock_timeout', $1, true)", patienceInCompany)
}

// voteAll votes yes on all, or returns an error.
func (p *Participant) voteAll(tx Tx, messages []Prepare, order []int) error {
	if err := briefly(tx); err != nil {
		return err
	}
	for _, i := range order {
		if err := p.propose(tx, messages[i]); err != nil {
			return err
		}
	}
	return nil
}

// voteEach votes on each where that can be done at once, and leaves out the others.
func (p *Participant) voteEach(tx Tx, messages []Prepare, order []int) (done []int, err error) {
	if err := briefly(tx); err != nil {
		return nil, err
	}
	for _, i := range order {
		if err := postgres.Put(tx.DB, "SAVEPOINT branch"); err != nil {
			return nil, err
		}
		err := p.propose(tx, messages[i])
		if err == nil {
			err = postgres.Flush(tx.DB)
		}
		switch {
		case away(err):
			return nil, err
		case err == nil:
			done = append(done, i)
		default:
			if err := tx.Exec("ROLLBACK TO SAVEPOINT branch").Error; err != nil { // until it is done, nothing else can be
				return nil, err
			}
		}
		if err := postgres.Put(tx.DB, "RELEASE SAVEPOINT branch"); err != nil {
			return nil, err
		}
	}
	return done, nil
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
		err := inTx(ctx, postgres.InLazyTx, p.deps.DB, func(tx Tx) error { return p.carryOutAll(tx, decisions, done) })
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
func (p *Participant) carryOutAll(tx Tx, decisions []Decision, done []Finished) error {
	at := make(map[place]int, len(decisions))
	gids := make([]uuid.UUID, len(decisions))
	for i, d := range decisions {
		at[place{d.GID, d.Branch}] = i
		gids[i] = d.GID
	}
	if len(at) < len(decisions) {
		return errCompany
	}
	document, err := json.Marshal(decisions)
	if err != nil {
		return err
	}
	if err := briefly(tx); err != nil {
		return err
	}
	tasks, err := postgres.Collect[task](tx.DB, `WITH decided AS (
			SELECT gid, branch, r.state FROM tx_branch b JOIN jsonb_to_recordset(CAST($1 AS jsonb)) AS r (gid uuid, branch smallint, state text) USING (gid, branch)
			WHERE b.gid = ANY(CAST($3 AS uuid[])) AND b.state NOT IN ('committed', 'aborted') ORDER BY b.lock_order, gid, branch FOR UPDATE OF b
		)
		UPDATE tx_branch b SET state = decided.state, finished_at = $2 FROM decided WHERE b.gid = decided.gid AND b.branch = decided.branch
		RETURNING b.gid, b.branch, b.state, b.action, b.payload, COALESCE(b.lock_order, '')`, string(document), p.deps.Now(), postgres.Array(gids))
	if err != nil {
		return err
	}
	slices.SortFunc(tasks, func(a, b task) int { return strings.Compare(a.Order, b.Order) })
	for _, t := range tasks {
		if err := p.move(tx, t); err != nil {
			return err
		}
	}
	for _, t := range tasks {
		i := at[place{t.GID, t.Branch}]
		done[i].State = t.State
		p.voted.take(decisions[i])
	}
	return nil
}
