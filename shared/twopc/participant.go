package twopc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/loop"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Tx is the local transaction in which an action does one step of a branch, and the global one it belongs to.
type Tx struct {
	*gorm.DB
	GID uuid.UUID
}

// Action is what a service can do as its branch of a transaction, in three steps, each in one local transaction that
// also records the step. Make one with NewAction.
type Action struct {
	prepare, commit, abort func(tx Tx, payload json.RawMessage) error
}

// NewAction makes an Action on payloads of type P.
//
// Prepare checks everything that could forbid the action and holds what it takes; a fault of kind Invalid, Forbidden,
// NotFound or Conflict is a vote of no with that reason. Commit and abort use what is held; they must succeed on
// whatever prepare left, however much later, so any error of theirs is a bug or a broken machine, and is tried again.
// Lock rows in a fixed order.
func NewAction[P any](prepare, commit, abort func(tx Tx, payload P) error) Action {
	step := func(do func(Tx, P) error) func(Tx, json.RawMessage) error {
		return func(tx Tx, raw json.RawMessage) error {
			var p P
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields() // a payload we understand half of is not one to act on
			if err := d.Decode(&p); err != nil {
				return fault.New(fault.Invalid, "invalid_payload", "the payload of the branch cannot be read").Because(err)
			}
			return do(tx, p)
		}
	}
	return Action{prepare: step(prepare), commit: step(commit), abort: step(abort)}
}

// Deps are what a Participant works with; all are required.
type Deps struct {
	DB      *gorm.DB
	Mesh    *http.Client // to ask the coordinator
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Participant is a service's half of the protocol. It is safe for concurrent use, in any number of instances on one
// database.
type Participant struct {
	deps       Deps
	actions    map[string]Action
	heuristics prometheus.Counter
	inDoubt    prometheus.Gauge
}

// NewParticipant makes a participant that can do the given actions, by name.
func NewParticipant(deps Deps, actions map[string]Action) *Participant {
	p := &Participant{
		deps: deps, actions: actions,
		heuristics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twopc_participant_heuristics_total", Help: "Messages refused because they contradict what is known; each needs a person.",
		}),
		inDoubt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twopc_participant_in_doubt", Help: "Branches that voted yes and have waited more than two seconds for the outcome.",
		}),
	}
	deps.Metrics.MustRegister(p.heuristics, p.inDoubt)
	return p
}

// Routes registers the participant's messages on s, the server of service.
func (p *Participant) Routes(s *httpapi.Server, service string) {
	httpapi.Handle(s, PrepareRoute(service), p.prepare)
	httpapi.Handle(s, PrepareAllRoute(service), p.prepareAll)
	httpapi.Handle(s, FinishRoute(service), p.finish)
	httpapi.Handle(s, SettledRoute(service), p.settled)
}

func (p *Participant) prepare(ctx context.Context, in *PrepareInput) (*contract.Body[Vote], error) {
	state, err := p.Prepare(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	return &contract.Body[Vote]{Body: Vote{State: state}}, nil
}

func (p *Participant) prepareAll(ctx context.Context, in *PrepareAllInput) (*PrepareAllOutput, error) {
	votes, err := p.PrepareAll(ctx, in.Body.Branches)
	if err != nil {
		return nil, err
	}
	out := new(PrepareAllOutput)
	out.Body.Votes = votes
	return out, nil
}

func (p *Participant) finish(ctx context.Context, in *FinishInput) (*FinishOutput, error) {
	out := new(FinishOutput)
	out.Body.Branches = p.FinishAll(ctx, in.Body.Decisions)
	return out, nil
}

// Prepare votes. A repetition gets the same vote. The error of a no is Conflict with the reason's code; any other error
// is no vote.
func (p *Participant) Prepare(ctx context.Context, m Prepare) (BranchState, error) {
	var state BranchState
	err := postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) (err error) {
		state, err = p.vote(tx, m)
		return err
	})
	var no *refusal
	if errors.As(err, &no) && !no.recorded {
		// The no is forced to disk before it is sent: from it follows that the transaction can never commit.
		var recorded bool
		err = postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) (err error) {
			recorded, state, err = refuse(tx, m, no.reason)
			return err
		})
		if recorded && err == nil {
			return Aborted, no.reason
		}
	}
	switch {
	case errors.As(err, &no):
		return Aborted, no.reason
	case postgres.Busy(err):
		// On the wire a conflict is a recorded no. This one is not recorded: the next try may be a yes.
		return "", fault.New(fault.Unavailable, "busy", "others are changing the same thing; try again").Because(err)
	case err != nil:
		return "", err
	}
	crash.At(crash.AfterVote)
	return state, nil
}

// refuse records a vote of no, or reports false where a repetition of m was recorded first: then that is the vote, be it
// a yes, whatever this one found. What is answered must be what is recorded, or the outcome would be told wrong.
func refuse(tx *gorm.DB, m Prepare, why *fault.Error) (bool, BranchState, error) {
	reason, err := json.Marshal(why.Problem())
	if err != nil {
		return false, "", err
	}
	first, err := insert(tx, row{GID: m.GID, Branch: m.Branch, State: Aborted, Action: m.Action, Key: m.Key, Digest: m.digest(), Reason: reason})
	if err != nil || first {
		return first, Aborted, err
	}
	state, err := repeated(tx, m)
	return false, state, err
}

// refusal is a vote of no inside Prepare: the transaction that tried is to be rolled back, and the no recorded by
// another, unless it was recorded before.
type refusal struct {
	reason   *fault.Error
	recorded bool
}

func (r *refusal) Error() string { return r.reason.Error() }

// branch is the row of a yes to m.
func (p *Participant) branch(m Prepare) row {
	r := row{
		GID: m.GID, Branch: m.Branch, State: vote(m), Action: m.Action, Key: m.Key, Payload: m.Payload, Digest: m.digest(), Deadline: &m.Deadline,
	}
	if m.OnePhase {
		r.FinishedAt = now(p)
	}
	return r
}

func (p *Participant) vote(tx *gorm.DB, m Prepare) (BranchState, error) {
	first, err := insert(tx, p.branch(m))
	if err != nil {
		return "", err
	}
	if !first {
		return repeated(tx, m)
	}
	return vote(m), p.act(tx, m)
}

// act does what m asks for. Its error is a refusal where the action forbids it.
func (p *Participant) act(tx *gorm.DB, m Prepare) error {
	action, ok := p.actions[m.Action]
	if !ok {
		return &refusal{reason: no(fault.New(fault.Invalid, "unknown_action", "this service has no action %q", m.Action))}
	}
	if p.deps.Now().After(m.Deadline) {
		return &refusal{reason: no(fault.New(fault.Deadline, "deadline", "the transaction's deadline is over"))}
	}
	t := Tx{DB: tx, GID: m.GID}
	err := action.prepare(t, m.Payload)
	if err == nil && m.OnePhase {
		err = action.commit(t, m.Payload)
	}
	var f *fault.Error
	if !postgres.Busy(err) && errors.As(err, &f) { // a row that was not to be had says nothing about the action
		switch f.Kind {
		case fault.Invalid, fault.Forbidden, fault.NotFound, fault.Conflict:
			return &refusal{reason: no(f)}
		}
	}
	return err
}

// no turns why an action was refused into the vote: whatever the kind was, on the wire a no is a conflict.
func no(f *fault.Error) *fault.Error {
	return &fault.Error{Kind: fault.Conflict, Code: f.Problem().Code, Message: f.Message, Fields: f.Fields}
}

// repeated answers a prepare for a branch that is known.
func repeated(tx *gorm.DB, m Prepare) (BranchState, error) {
	known, err := find(tx, m.GID, m.Branch)
	if err != nil {
		return "", err
	}
	if known.State == Aborted {
		reason := fault.New(fault.Conflict, "aborted", "the transaction was aborted")
		if known.Reason != nil {
			reason = fault.OfResponse(http.StatusConflict, known.Reason)
		}
		return "", &refusal{reason: reason, recorded: true}
	}
	if !bytes.Equal(known.Digest, m.digest()) {
		return "", fault.New(fault.Invalid, "transaction_reused", "this transaction id was used for another branch")
	}
	return known.State, nil
}

// Finish carries out a decision. A repetition changes nothing and gets the same answer. A decision that contradicts what
// is known is Refused, recorded and alarmed.
func (p *Participant) Finish(ctx context.Context, d Decision) (BranchState, error) {
	crash.At(crash.BeforeFinish)
	var state BranchState
	// Not forced: a branch that forgets this in a crash is prepared again, and asks.
	err := postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) (err error) {
		state, err = p.carryOut(tx, d)
		return err
	})
	if err != nil {
		return "", err
	}
	if state == Refused {
		p.heuristics.Inc()
		p.deps.Log.ErrorContext(ctx, "a decision contradicts what this service knows", "gid", d.GID, "branch", d.Branch, "asked", d.State)
	}
	return state, nil
}

// carryOut tries what is usual first: the branch is prepared.
func (p *Participant) carryOut(tx *gorm.DB, d Decision) (BranchState, error) {
	want := BranchState(d.State)
	known := row{GID: d.GID, Branch: d.Branch}
	err := postgres.Found(tx.Raw(`UPDATE tx_branch SET state = ?, finished_at = ? WHERE gid = ? AND branch = ? AND state = 'prepared'
		RETURNING gid, branch, action, payload, set_config('synchronous_commit', 'off', true)`, want, p.deps.Now(), d.GID, d.Branch).Scan(&known), gorm.ErrRecordNotFound)
	if err == nil {
		return want, p.move(tx, known, want)
	}
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return "", err
	}
	if want == Aborted { // unless it is known, its prepare is still to come, and must find this
		first, err := insert(tx, row{GID: d.GID, Branch: d.Branch, State: Aborted, FinishedAt: now(p)})
		if err != nil || first {
			return Aborted, err
		}
	}
	known, err = find(tx, d.GID, d.Branch)
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return contradiction(tx, d, "unknown")
	case err != nil:
		return "", err
	case known.State == want:
		return want, nil
	case known.State == Prepared: // its prepare came in between
		return p.carryOut(tx, d)
	default:
		return contradiction(tx, d, string(known.State))
	}
}

func now(p *Participant) *time.Time { t := p.deps.Now(); return &t }

func (p *Participant) move(tx *gorm.DB, b row, to BranchState) error {
	action, ok := p.actions[b.Action]
	if !ok {
		return fmt.Errorf("finish branch %s/%d: this version has no action %q", b.GID, b.Branch, b.Action)
	}
	step := action.commit
	if to == Aborted {
		step = action.abort
	}
	if err := step(Tx{DB: tx, GID: b.GID}, b.Payload); err != nil {
		return fmt.Errorf("finish branch %s/%d: %w", b.GID, b.Branch, err)
	}
	return nil
}

func contradiction(tx *gorm.DB, d Decision, found string) (BranchState, error) {
	return Refused, tx.Exec("INSERT INTO tx_heuristic (gid, branch, asked, found) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		d.GID, d.Branch, d.State, found).Error
}

// row is a row of tx_branch.
type row struct {
	GID        uuid.UUID
	Branch     int
	State      BranchState
	Action     string
	Key        string
	Payload    json.RawMessage
	Digest     []byte
	Deadline   *time.Time
	Reason     json.RawMessage
	FinishedAt *time.Time
}

func (m Prepare) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(m.Action), m.Action)
	h.Write(m.Payload)
	return h.Sum(nil)
}

// insert reports whether r is the first that is known of its branch.
func insert(tx *gorm.DB, r row) (first bool, err error) {
	res := tx.Exec(`INSERT INTO tx_branch (gid, branch, state, action, key, payload, digest, deadline, reason, finished_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		r.GID, r.Branch, r.State, r.Action, r.Key, jsonb(r.Payload), r.Digest, r.Deadline, jsonb(r.Reason), r.FinishedAt)
	return res.RowsAffected == 1, res.Error
}

// jsonb keeps an absent document NULL.
func jsonb(b json.RawMessage) any {
	if b == nil {
		return nil
	}
	return string(b)
}

// find reads a branch; gorm.ErrRecordNotFound where it is unknown.
func find(tx *gorm.DB, gid uuid.UUID, branch int) (r row, err error) {
	err = postgres.Found(tx.Raw("SELECT gid, branch, state, action, payload, digest, deadline, reason, finished_at FROM tx_branch WHERE gid = ? AND branch = ?",
		gid, branch).Scan(&r), gorm.ErrRecordNotFound)
	return r, err
}

// The inquiry: how long a branch waits for the coordinator before it asks, how often it asks, and about how many at once.
const (
	patience   = 2 * time.Second
	askEvery   = time.Second
	askTimeout = 5 * time.Second
	askAtOnce  = 200
)

// Run asks the coordinator about branches in doubt, and forgets old ones, until ctx ends. It never decides: an answer that
// does not come is asked for again.
func (p *Participant) Run(ctx context.Context) error {
	var forgetting sync.WaitGroup
	defer forgetting.Wait()
	forgetting.Go(func() { _ = loop.Every(ctx, forgetEvery, p.deps.Log, "forget finished branches", p.Forget) })
	return loop.Every(ctx, askEvery, p.deps.Log, "ask for outcomes", p.Inquire)
}

// Inquire asks once about the branches that have been in doubt for two seconds, and carries out what it learns.
func (p *Participant) Inquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var doubts []row
	err := p.deps.DB.WithContext(ctx).Raw(`SELECT gid, branch, deadline FROM tx_branch
		WHERE state = 'prepared' AND prepared_at < now() - make_interval(secs => ?) ORDER BY prepared_at LIMIT ?`, patience.Seconds(), askAtOnce).Scan(&doubts).Error
	p.inDoubt.Set(float64(len(doubts)))
	if err != nil || len(doubts) == 0 {
		return err
	}
	in := new(coordinator.ResolveInput)
	for _, d := range doubts {
		in.Body.Questions = append(in.Body.Questions, coordinator.Question{GID: d.GID, Deadline: *d.Deadline})
	}
	out, err := coordinator.ResolveTransactions.Call(ctx, p.deps.Mesh, in)
	if err != nil {
		return err
	}
	decided := make(map[uuid.UUID]coordinator.State, len(out.Body.Outcomes))
	for _, o := range out.Body.Outcomes {
		decided[o.GID] = o.State
	}
	var failed error
	for _, d := range doubts {
		if s := decided[d.GID]; s == coordinator.Committed || s == coordinator.Aborted {
			_, err := p.Finish(ctx, Decision{GID: d.GID, Branch: d.Branch, State: s})
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
