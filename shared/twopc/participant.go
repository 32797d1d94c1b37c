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
	"souk/shared/telemetry"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"gorm.io/gorm"
)

// Tx is the local transaction in which an action does one step of a branch, and the global one it belongs to.
type Tx struct {
	*gorm.DB
	GID uuid.UUID

	after *[]func()
}

// AfterCommit has do called once the local transaction has committed, for what a rollback could not undo, such as a count.
// A crash in between loses it.
func (t Tx) AfterCommit(do func()) { *t.after = append(*t.after, do) }

// Change puts off a statement that is to change some row, or else the action fails with missing. It is done, at the latest,
// after the action, in one round trip with what other branches have put off: a busy participant's actions are made of
// these. Parameters in it are $1, $2 and so on.
func (t Tx) Change(missing error, statement string, args ...any) error {
	return postgres.Change(t.DB, missing, statement, args...)
}

// inTx runs do in one of postgres's kinds of transaction, and then what its actions left for after the commit.
func inTx(ctx context.Context, run func(context.Context, *gorm.DB, func(*gorm.DB) error) error, db *gorm.DB, do func(Tx) error) error {
	var after []func()
	err := run(ctx, db, func(tx *gorm.DB) error {
		after = nil // of a try that was rolled back
		return do(Tx{DB: tx, after: &after})
	})
	if err == nil {
		for _, f := range after {
			f()
		}
	}
	return err
}

// Action is what a service can do as its branch of a transaction, in three steps, each in one local transaction that
// also records the step. Make one with NewAction.
type Action struct {
	prepare, commit, abort func(tx Tx, payload json.RawMessage) error
	lockOrder              func(payload json.RawMessage) string
}

// Locking is a payload that says which row its action locks first: in the order of that, actions of several transactions
// can be done in one local transaction, and next to another such, without a deadlock.
type Locking interface{ LockOrder() string }

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
	order := func(raw json.RawMessage) string {
		var p P
		if l, ok := any(&p).(Locking); ok && json.Unmarshal(raw, &p) == nil {
			return l.LockOrder()
		}
		return ""
	}
	return Action{prepare: step(prepare), commit: step(commit), abort: step(abort), lockOrder: order}
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
	voted      memory
	service    string // empty until Routes says it
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

// Routes registers the participant's messages on s, the server of service. Call it before Run.
func (p *Participant) Routes(s *httpapi.Server, service string) {
	if p != nil { // for the OpenAPI document there is nobody behind the routes
		p.service = service
	}
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
func (p *Participant) Prepare(ctx context.Context, m Prepare) (state BranchState, err error) {
	crash.At(crash.BeforeVote)
	ctx, span := telemetry.Start(ctx, "2pc prepare "+m.Action, attribute.String("twopc.gid", m.GID.String()))
	defer func() { telemetry.End(span, err) }()
	err = refused(inTx(ctx, postgres.InTx, p.deps.DB, func(tx Tx) error { return p.propose(tx, m) }))
	switch {
	case errors.Is(err, errKnown):
		state, err = repeated(p.deps.DB.WithContext(ctx), m)
	case err == nil:
		state = yes(m)
		p.voted.keep(m)
	}
	var no *refusal
	if errors.As(err, &no) && !no.recorded {
		// The no is forced to disk before it is sent: from it follows that the transaction can never commit.
		crash.At(crash.BeforeNo)
		var recorded bool
		err = postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) (err error) {
			recorded, state, err = refuse(tx, m, no.reason)
			return err
		})
		if recorded && err == nil {
			crash.At(crash.AfterNo)
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
	first, err := insert(tx, row{GID: m.GID, Branch: m.Branch, State: Aborted, Action: m.Action, Digest: m.digest(), Reason: reason})
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

// errKnown says that a branch is known already.
var errKnown = errors.New("the branch is known already")

// propose makes the branch of m known and does what m asks for, or puts it off.
func (p *Participant) propose(tx Tx, m Prepare) error {
	r := row{GID: m.GID, Branch: m.Branch, State: yes(m), Action: m.Action, LockOrder: p.lockOrder(m), Payload: m.Payload, Digest: m.digest(), Deadline: &m.Deadline}
	if m.OnePhase {
		r.FinishedAt = now(p)
	}
	if err := put(tx.DB, r); err != nil {
		return err
	}
	return p.act(tx, m)
}

// yes is the state that a yes to m leaves its branch in.
func yes(m Prepare) BranchState {
	if m.OnePhase {
		return Committed
	}
	return Prepared
}

// lockOrder is where m stands among other branches.
func (p *Participant) lockOrder(m Prepare) string {
	if action, ok := p.actions[m.Action]; ok {
		return action.lockOrder(m.Payload)
	}
	return ""
}

// act does what m asks for, or puts it off.
func (p *Participant) act(tx Tx, m Prepare) error {
	action, ok := p.actions[m.Action]
	if !ok {
		return fault.New(fault.Invalid, "unknown_action", "this service has no action %q", m.Action)
	}
	if p.deps.Now().After(m.Deadline) {
		return fault.New(fault.Conflict, "deadline", "the transaction's deadline is over")
	}
	tx.GID = m.GID
	err := action.prepare(tx, m.Payload)
	if err == nil && m.OnePhase {
		err = action.commit(tx, m.Payload)
	}
	return err
}

// refused turns what forbids an action into a refusal, which is a vote of no.
func refused(err error) error {
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
func (p *Participant) Finish(ctx context.Context, d Decision) (state BranchState, err error) {
	crash.At(crash.BeforeFinish)
	ctx, span := telemetry.Start(ctx, "2pc finish "+string(d.State), attribute.String("twopc.gid", d.GID.String()))
	defer func() { telemetry.End(span, err) }()
	// Not forced: a branch that forgets this in a crash is prepared again, and asks.
	lazily := func(do func(Tx) error) error { return inTx(ctx, postgres.InLazyTx, p.deps.DB, do) }
	err = errOtherwise
	if r, ok := p.voted.take(d); ok {
		state = BranchState(d.State)
		err = lazily(func(tx Tx) error { return p.carryOutKnown(tx, d, r) })
	}
	if errors.Is(err, errOtherwise) {
		err = lazily(func(tx Tx) (err error) {
			state, err = p.carryOut(tx, d)
			return err
		})
	}
	if err != nil {
		return "", err
	}
	crash.At(crash.AfterFinish)
	if state == Refused {
		p.heuristics.Inc()
		p.deps.Log.ErrorContext(ctx, "a decision contradicts what this service knows", "gid", d.GID, "branch", d.Branch, "asked", d.State)
	}
	return state, nil
}

// errOtherwise says that a branch is not as it is remembered, or that it is not remembered.
var errOtherwise = errors.New("the branch is not as it is remembered")

// carryOutKnown is carryOut where the branch is prepared, and what r says: then it takes one round trip.
func (p *Participant) carryOutKnown(tx Tx, d Decision, r remembered) error {
	err := tx.Change(errOtherwise, `UPDATE tx_branch SET state = $1, finished_at = $2
		WHERE gid = $3 AND branch = $4 AND state NOT IN ('committed', 'aborted') AND digest = $5`, d.State, p.deps.Now(), d.GID, d.Branch, r.digest)
	if err != nil {
		return err
	}
	return p.move(tx, task{GID: d.GID, Branch: d.Branch, State: BranchState(d.State), Action: r.action, Payload: r.payload})
}

// carryOut tries what is usual first: the branch is prepared. The statement says what it is not, lest the planner take the
// index of those in doubt, which at speed is full of what has just left it.
func (p *Participant) carryOut(tx Tx, d Decision) (BranchState, error) {
	want := BranchState(d.State)
	prepared, err := postgres.Collect[task](tx.DB, `UPDATE tx_branch SET state = $1, finished_at = $2 WHERE gid = $3 AND branch = $4 AND state NOT IN ('committed', 'aborted')
		RETURNING gid, branch, state, action, payload, COALESCE(lock_order, '')`, want, p.deps.Now(), d.GID, d.Branch)
	if err != nil {
		return "", err
	}
	if len(prepared) == 1 {
		return want, p.move(tx, prepared[0])
	}
	if want == Aborted { // unless it is known, its prepare is still to come, and must find this
		first, err := insert(tx.DB, row{GID: d.GID, Branch: d.Branch, State: Aborted, FinishedAt: now(p)})
		if err != nil || first {
			return Aborted, err
		}
	}
	known, err := find(tx.DB, d.GID, d.Branch)
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return contradiction(tx.DB, d, "unknown")
	case err != nil:
		return "", err
	case known.State == want:
		return want, nil
	case known.State == Prepared: // its prepare came in between
		return p.carryOut(tx, d)
	default:
		return contradiction(tx.DB, d, string(known.State))
	}
}

func now(p *Participant) *time.Time { t := p.deps.Now(); return &t }

// task is a branch that is to be brought into a state.
type task struct {
	GID     uuid.UUID
	Branch  int
	State   BranchState
	Action  string
	Payload json.RawMessage
	Order   string
}

func (p *Participant) move(tx Tx, t task) error {
	action, ok := p.actions[t.Action]
	if !ok {
		return fmt.Errorf("finish branch %s/%d: this version has no action %q", t.GID, t.Branch, t.Action)
	}
	step := action.commit
	if t.State == Aborted {
		step = action.abort
	}
	tx.GID = t.GID
	if err := step(tx, t.Payload); err != nil {
		return fmt.Errorf("finish branch %s/%d: %w", t.GID, t.Branch, err)
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
	LockOrder  string
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

const insertBranch = `INSERT INTO tx_branch (gid, branch, state, action, lock_order, payload, digest, deadline, reason, finished_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`

func (r row) values() []any {
	return []any{r.GID, r.Branch, r.State, r.Action, r.LockOrder, jsonb(r.Payload), r.Digest, r.Deadline, jsonb(r.Reason), r.FinishedAt}
}

// put puts off inserting r, of which nothing is known: the error, in time, is errKnown where that is not so.
func put(tx *gorm.DB, r row) error { return postgres.Change(tx, errKnown, insertBranch, r.values()...) }

// insert reports whether r is the first that is known of its branch.
func insert(tx *gorm.DB, r row) (first bool, err error) {
	if err = put(tx, r); err == nil {
		err = postgres.Flush(tx)
	}
	if errors.Is(err, errKnown) {
		return false, nil
	}
	return err == nil, err
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
	hopeless   = 3 * time.Second // a coordinator waits two seconds for votes: who has heard nothing by then is forgotten
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
	// To ask with a deadline that has come calls the transaction off if nobody has decided it. That is safe at any time.
	err := p.deps.DB.WithContext(ctx).Raw(`SELECT gid, branch, LEAST(deadline, prepared_at + make_interval(secs => ?)) AS deadline FROM tx_branch
		WHERE state = 'prepared' AND prepared_at < now() - make_interval(secs => ?) ORDER BY prepared_at LIMIT ?`,
		hopeless.Seconds(), patience.Seconds(), askAtOnce).Scan(&doubts).Error
	p.inDoubt.Set(float64(len(doubts)))
	if err != nil || len(doubts) == 0 {
		return err
	}
	in := new(coordinator.ResolveInput)
	for _, d := range doubts {
		in.Body.Questions = append(in.Body.Questions, coordinator.Question{GID: d.GID, Service: p.service, Branch: d.Branch, Deadline: *d.Deadline})
	}
	out, err := coordinator.ResolveTransactions.Call(ctx, p.deps.Mesh, in)
	if err != nil {
		return err
	}
	if len(out.Body.Outcomes) != len(doubts) {
		return fault.New(fault.Upstream, "", "the coordinator answered %d of %d questions", len(out.Body.Outcomes), len(doubts))
	}
	var failed error
	for i, d := range doubts {
		if o := out.Body.Outcomes[i]; o.GID == d.GID && o.State != coordinator.Pending {
			_, err := p.Finish(ctx, Decision{GID: d.GID, Branch: d.Branch, State: o.State})
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
