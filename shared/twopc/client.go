package twopc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/idempotency"

	"github.com/google/uuid"
)

// Branch is a service's part of a transaction, with a payload that is marshalled to JSON.
type Branch struct {
	Service string
	Action  string
	Key     string // the thing that is changed, e.g. an order's id
	Payload any
}

// timeout is when an undecided transaction aborts: half of what the request that waits for it may last.
const timeout = 5 * time.Second

// attempts bounds how many transactions one keyed request can have abort for a passing reason, over all its repetitions.
const attempts = 100

// Settle has the transaction of a keyed request settled by the coordinator, and returns once it is decided: nil when it has
// committed, and then this service's own branches are carried out too; the refusing branch's fault when it has aborted.
// While that is not known it returns a PendingError that tells the gid: the caller must not guess.
//
// The gid is made from the request and the branches, so a repetition, even after a crash, finds the same transaction and
// its outcome. A transaction that an earlier repetition saw abort for a passing reason (a service away, a lock not had) is
// followed by a new one. Two requests under one key that say different things are two transactions: one may commit and the
// other not, so they must not share a name. That only one of them happens, the things named after the request must see to.
func (p *Participant) Settle(ctx context.Context, r idempotency.Request, branches []Branch) (uuid.UUID, error) {
	wire, err := onWire(branches)
	if err != nil {
		return uuid.Nil, err
	}
	said, err := json.Marshal(wire)
	if err != nil {
		return uuid.Nil, fmt.Errorf("begin transaction: %w", err)
	}
	var gid uuid.UUID
	for attempt := range attempts {
		gid = r.ID(fmt.Sprintf("transaction %d of %s", attempt, said))
		out, err := p.begin(ctx, gid, wire)
		if err != nil {
			return gid, err
		}
		if err = failure(out); err == nil {
			if err = p.finishOwn(ctx, gid, coordinator.Committed); err != nil {
				err = &PendingError{GID: gid, cause: err}
			}
			return gid, err
		}
		if !out.Replayed || !passing(err) {
			return gid, err
		}
	}
	return gid, fault.New(fault.Conflict, "too_many_attempts", "this Idempotency-Key has failed too often; use a new one")
}

func onWire(branches []Branch) ([]coordinator.Branch, error) {
	wire := make([]coordinator.Branch, len(branches))
	for i, b := range branches {
		payload, err := json.Marshal(b.Payload)
		if err != nil {
			return nil, fmt.Errorf("begin transaction: payload of %s: %w", b.Service, err)
		}
		wire[i] = coordinator.Branch{Service: b.Service, Action: b.Action, Key: b.Key, Payload: payload}
	}
	return wire, nil
}

// begin asks until the coordinator has answered or ctx ends: a call that got no answer may have begun the transaction.
func (p *Participant) begin(ctx context.Context, gid uuid.UUID, branches []coordinator.Branch) (*coordinator.Outcome, error) {
	in := &coordinator.BeginInput{Body: coordinator.Begin{GID: gid, TimeoutMS: timeout.Milliseconds(), Branches: branches}}
	out, err := coordinator.BeginTransaction.Call(ctx, p.deps.Mesh, in)
	switch {
	case err == nil && out.Body.State == coordinator.Pending:
		return nil, &PendingError{GID: gid}
	case err == nil:
		return &out.Body, nil
	case answered(err):
		return nil, err // a refusal: nothing was begun
	default:
		return nil, &PendingError{GID: gid, cause: err}
	}
}

// answered reports whether the coordinator itself said no, as opposed to not being heard.
func answered(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Invalid, fault.Malformed, fault.Conflict, fault.TooLarge:
		return true
	default:
		return false
	}
}

func failure(o *coordinator.Outcome) error {
	if o.State == coordinator.Committed {
		return nil
	}
	if o.Reason == nil {
		return fault.New(fault.Conflict, "aborted", "the transaction was aborted")
	}
	f := &fault.Error{Kind: fault.OfStatus(o.Reason.Status), Code: o.Reason.Code, Message: o.Reason.Detail, Fields: o.Reason.Errors}
	if o.Reason.Status >= http.StatusInternalServerError { // a participant's, or its way there
		return fault.Elsewhere(f)
	}
	return f
}

// passing reports whether the same transaction could succeed a moment later with nothing else changed.
func passing(err error) bool {
	// A participant's no is a Conflict on the wire whatever its reason; the code tells those that pass.
	k := fault.Of(err).Kind
	return k == fault.Unavailable || k == fault.Deadline || fault.HasCode(err, "busy") || fault.HasCode(err, string(fault.Deadline))
}

// PendingError says that a transaction may or may not commit, or has and cannot be seen here yet: ask again with the same
// request. It is Unavailable to who does not look closer.
type PendingError struct {
	GID   uuid.UUID
	cause error
}

func (e *PendingError) Error() string { return fmt.Sprintf("transaction %s: %v", e.GID, e.Unwrap()) }

// Unwrap gives it its kind.
func (e *PendingError) Unwrap() error {
	return fault.New(fault.Unavailable, "outcome_unknown", "the outcome is not known yet; repeat the request with the same Idempotency-Key").Because(e.cause)
}

// Abort has the transaction gid, in which this service holds a branch, aborted unless it is decided already. It gives what
// is true from now on, which is then carried out here.
func (p *Participant) Abort(ctx context.Context, gid uuid.UUID) (coordinator.State, error) {
	out, err := coordinator.AbortTransaction.Call(ctx, p.deps.Mesh, &contract.ByID{ID: gid})
	if err != nil {
		return "", err
	}
	return out.Body.State, p.finishOwn(ctx, gid, out.Body.State)
}

// finishOwn carries out, without waiting to be told, what is decided of this service's branches of a transaction: who has
// just learned the outcome finds it wherever they look. The message, when it comes, finds nothing left to do.
func (p *Participant) finishOwn(ctx context.Context, gid uuid.UUID, state coordinator.State) error {
	var branches []int
	err := p.deps.DB.WithContext(ctx).Raw("SELECT branch FROM tx_branch WHERE gid = ? AND state = 'prepared' ORDER BY branch", gid).Scan(&branches).Error
	if err != nil {
		return err
	}
	for _, b := range branches {
		if _, err := p.Finish(ctx, Decision{GID: gid, Branch: b, State: state}); err != nil {
			return err
		}
	}
	return nil
}
