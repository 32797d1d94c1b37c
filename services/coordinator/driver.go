package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/telemetry"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
)

// Times of one transaction.
const (
	defaultTimeout = 5 * time.Second
	prepareTime    = 2 * time.Second        // for one participant's vote
	registerTime   = 5 * time.Second        // for the register; its answer is worth waiting for, past any deadline
	finishTime     = 5 * time.Second        // for one participant to carry out; recovery comes after that
	inlineTime     = 300 * time.Millisecond // how long the answer waits for phase two, so that the caller reads its own writes
)

// Begin settles a transaction. A repetition of its gid joins it while it runs, and gets its outcome afterwards. Returns
// Invalid, code duplicate_branch, for two branches on the same thing of a service, and Invalid, code
// transaction_reused, where the gid was another transaction's.
func (s *Service) Begin(ctx context.Context, in *coordinator.BeginInput) (*coordinator.BeginOutput, error) {
	if err := distinct(in.Body.Branches); err != nil {
		return nil, err
	}
	digest, err := digestOf(in.Body.Branches)
	if err != nil {
		return nil, err
	}
	f, first := s.board(in.Body, digest)
	if !bytes.Equal(f.digest, digest) {
		return nil, reused()
	}
	if first {
		// The transaction outlives the request: a caller that hangs up does not leave it half-way.
		s.flying.Go(func() { s.fly(context.WithoutCancel(ctx), f) })
	}
	select {
	case <-f.answered:
	case <-ctx.Done():
		return pending(in.Body.GID), nil
	}
	if f.err != nil {
		return nil, f.err
	}
	if f.outcome.State == coordinator.Pending {
		return pending(in.Body.GID), nil
	}
	return &coordinator.BeginOutput{Status: http.StatusOK, Body: f.outcome}, nil
}

func pending(gid uuid.UUID) *coordinator.BeginOutput {
	return &coordinator.BeginOutput{Status: http.StatusAccepted, Body: coordinator.Outcome{GID: gid, State: coordinator.Pending}}
}

func reused() error {
	return fault.New(fault.Invalid, "transaction_reused", "this transaction id was used for another transaction")
}

func distinct(branches []coordinator.Branch) error {
	seen := map[[2]string]bool{}
	for i, b := range branches {
		thing := [2]string{b.Service, b.Key}
		if seen[thing] {
			return fault.New(fault.Invalid, "duplicate_branch", "two branches change the same thing of %s", b.Service).
				With(fault.Field{Pointer: fmt.Sprintf("body.branches[%d]", i), Detail: "the same service and key stand before"})
		}
		seen[thing] = true
	}
	return nil
}

func digestOf(branches []coordinator.Branch) ([]byte, error) {
	b, err := json.Marshal(branches)
	sum := sha256.Sum256(b)
	return sum[:], err
}

// flight is a transaction that this instance is settling.
type flight struct {
	gid      uuid.UUID
	branches []coordinator.Branch
	digest   []byte
	deadline time.Time
	timeline []coordinator.Event

	// outcome and err are set before reply closes answered, and not changed after.
	answered chan struct{}
	reply    func()
	outcome  coordinator.Outcome
	err      error
}

// board joins the flight of the transaction, or starts one.
func (s *Service) board(b coordinator.Begin, digest []byte) (f *flight, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.flights[b.GID]; ok {
		return f, false
	}
	timeout := defaultTimeout
	if b.TimeoutMS > 0 {
		timeout = time.Duration(b.TimeoutMS) * time.Millisecond
	}
	answered := make(chan struct{})
	f = &flight{
		gid: b.GID, branches: b.Branches, digest: digest, deadline: s.deps.Now().Add(timeout),
		answered: answered, reply: sync.OnceFunc(func() { close(answered) }),
	}
	s.flights[b.GID] = f
	return f, true
}

// fly drives one transaction from begin to end. All its state is this goroutine's; helpers only send events.
func (s *Service) fly(ctx context.Context, f *flight) {
	defer func() {
		s.mu.Lock()
		delete(s.flights, f.gid)
		s.mu.Unlock()
	}()
	defer f.reply()
	// Whether it is decided already, the register says when it is to decide it. It is asked before about a single branch, on
	// which it does not decide; and when it did not answer the last time: without it all branches would be in doubt.
	if (len(f.branches) == 1 || s.away.Load()) && s.replay(ctx, f) {
		return
	}
	// Room for everything that can still be on its way when the last event has been read: nobody blocks on sending.
	events := make(chan event, 2*len(f.branches)+1)
	deadline := time.NewTimer(f.deadline.Sub(s.deps.Now()))
	defer deadline.Stop()
	m := newMachine(len(f.branches))
	phase, since := m.phase, s.deps.Now()
	ctx, whole := telemetry.Start(ctx, "2pc", attribute.String("twopc.gid", f.gid.String()), attribute.Int("twopc.branches", len(f.branches)))
	defer whole.End()
	inPhase, span := telemetry.Start(ctx, "2pc "+phase.String())
	defer func() { span.End() }()

	for e := (event{kind: begun}); ; e = next(events, deadline.C) {
		if e.kind == votedDone && s.replay(ctx, f) {
			return
		}
		s.note(f, e)
		actions := m.step(e)
		if m.phase != phase && m.phase != over { // what a phase asks of others is inside its span
			span.End()
			inPhase, span = telemetry.Start(ctx, "2pc "+m.phase.String())
		}
		for i, a := range actions {
			s.perform(inPhase, f, a, i == len(actions)-1, events)
			if a.kind == answer {
				whole.SetAttributes(attribute.String("twopc.outcome", string(a.state)))
				defer time.AfterFunc(inlineTime, f.reply).Stop()
			}
		}
		if m.phase != phase {
			telemetry.Observe(ctx, s.seen.seconds.WithLabelValues(phase.String()), s.deps.Now().Sub(since).Seconds())
			phase, since = m.phase, s.deps.Now()
		}
		if m.phase == over {
			return
		}
	}
}

// next waits for the next event.
func next(events <-chan event, deadline <-chan time.Time) event {
	select {
	case e := <-events:
		return e
	case <-deadline:
		return event{kind: timeUp}
	}
}

// replay answers from the register, where the transaction is decided already, and reports whether it is. A register that
// does not answer ends the flight too: without it nothing can be decided.
func (s *Service) replay(ctx context.Context, f *flight) bool {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	d, err := s.finds.ask(ctx, f.gid)
	switch {
	case err == nil && d == nil:
		return false
	case err != nil:
		s.seen.registerErrors.Inc()
		f.err = fault.New(fault.Unavailable, "", "the decision register is not available").Because(err)
	case d.Digest == nil && len(f.branches) == 1:
		return false // written by somebody who knew the gid alone; what the only branch did, its participant knows
	case d.Digest != nil && !bytes.Equal(d.Digest, f.digest):
		f.err = reused()
	default:
		f.outcome = coordinator.Outcome{GID: f.gid, State: d.Outcome, Reason: d.Reason, Replayed: true}
	}
	return true
}

// perform does one action; what comes of it arrives as an event. While a transaction has nothing else to wait for, it waits
// itself: for the register, and for the last of those who are told the outcome. That wakes nobody, and grows no new stack.
func (s *Service) perform(ctx context.Context, f *flight, a action, last bool, events chan<- event) {
	switch a.kind {
	case prepare, prepareOne:
		go func() { events <- s.askVote(ctx, f, a.branch, a.kind == prepareOne) }()
	case decide:
		d := decision{
			GID: f.gid, Outcome: a.state, Reason: a.reason, Digest: f.digest, Deadline: &f.deadline, Branches: f.parts(a.tell),
			Timeline: append(f.timeline, s.event("decided", "", string(a.state))),
		}
		f.timeline = nil // what follows is appended when the transaction is complete
		events <- s.settle(ctx, f, d, a.lazily)
	case answer:
		f.outcome.GID, f.outcome.State, f.outcome.Reason = f.gid, a.state, a.reason
	case remember:
		f.reply()
		s.remember(ctx, f, a)
	case finish:
		tell := func() { events <- s.tell(ctx, f, a.branch, a.state) }
		if last {
			tell()
		} else {
			go tell()
		}
	case complete:
		f.reply()
		s.complete(ctx, f.gid, a.heuristic, f.timeline)
	case leave:
		f.reply()
		s.leave(ctx, f, a)
	}
}

func (f *flight) parts(branches []int) []part {
	parts := make([]part, len(branches))
	for i, b := range branches {
		parts[i] = part{Branch: b, Service: f.branches[b].Service}
	}
	return parts
}

// note adds what e tells to the timeline.
func (s *Service) note(f *flight, e event) {
	name, detail := "", ""
	switch e.kind {
	case begun:
		f.timeline = append(f.timeline, s.event("begun", "", ""))
		return
	case votedYes:
		name = "prepared"
	case votedDone:
		name = "committed"
	case votedNo:
		name, detail = "refused", e.reason.Code
	case voteLost:
		name, detail = "unanswered", e.reason.Code
	case finishLost:
		name = "unheard"
	case finished:
		name = string(e.done)
		if e.done == twopc.Refused {
			name = "heuristic"
		}
	}
	if name != "" {
		f.timeline = append(f.timeline, s.event(name, f.branches[e.branch].Service, detail))
	}
}

func (s *Service) event(name, service, detail string) coordinator.Event {
	return coordinator.Event{At: s.deps.Now(), Instance: s.deps.Instance, Event: name, Service: service, Detail: detail}
}

func (s *Service) askVote(ctx context.Context, f *flight, branch int, onePhase bool) event {
	deadline := f.deadline
	if d := time.Now().Add(prepareTime); d.Before(deadline) && !onePhase {
		deadline = d
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	b := f.branches[branch]
	state, err := s.participant(b.Service).prepare(ctx, twopc.Prepare{
		GID: f.gid, Branch: branch, Action: b.Action, Payload: b.Payload, Deadline: f.deadline, OnePhase: onePhase,
	})
	want := twopc.Prepared
	if onePhase {
		want = twopc.Committed
	}
	switch {
	case err == nil && state == want:
		return event{kind: votedYes, branch: branch}
	case err == nil && state == twopc.Committed:
		return event{kind: votedDone, branch: branch}
	case fault.Is(err, fault.Conflict):
		return event{kind: votedNo, branch: branch, reason: fault.Of(err).Problem()}
	default:
		return event{kind: voteLost, branch: branch, reason: lostReason(b.Service, err)}
	}
}

// lostReason is why a transaction aborts that a participant could not be asked about. Busy is worth telling: the same
// transaction may succeed a moment later.
func lostReason(service string, err error) *fault.Problem {
	if fault.HasCode(err, "busy") {
		return fault.New(fault.Unavailable, "busy", "%s is busy with the same things", service).Problem()
	}
	return fault.New(fault.Unavailable, "participant_unavailable", "%s could not take part", service).Problem()
}

// settle has the register decide, and gives what is true from now on, whoever wrote it. Another transaction may have been
// settled under the same gid. If that is a commit, of this one's branches those that are that one's too hear of it from
// there, and the others when they ask; an abort is true of all.
func (s *Service) settle(ctx context.Context, f *flight, d decision, lazily bool) event {
	before, after := crash.BeforeDecision, crash.AfterDecision
	if d.Outcome == coordinator.Aborted {
		before, after = crash.BeforeAbort, crash.AfterAbort
	}
	crash.At(before)
	r, err := s.decide(ctx, d, lazily)
	if err == nil && r.tooLate {
		d.Outcome, d.Reason = coordinator.Aborted, fault.New(fault.Deadline, "deadline", "the transaction was not settled in time").Problem()
		after = crash.AfterAbort
		r, err = s.decide(ctx, d, false)
	}
	if err != nil {
		s.seen.registerErrors.Inc()
		s.deps.Log.ErrorContext(ctx, "the outcome of a transaction is not known", "gid", d.GID, "error", err)
		return event{kind: registerLost}
	}
	crash.At(after)
	f.outcome.Replayed = !r.won
	if foreign := !bytes.Equal(r.truth.Digest, d.Digest); foreign && (r.truth.Digest != nil || r.truth.Outcome == coordinator.Committed) {
		f.err = reused()
		if r.truth.Outcome == coordinator.Committed {
			return event{kind: registerLost}
		}
	}
	return event{kind: registered, state: r.truth.Outcome, reason: r.truth.Reason}
}

// decide has the register decide, together with other transactions, and counts what is new.
func (s *Service) decide(ctx context.Context, d decision, lazily bool) (ruling, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	r, err := s.decides[lazily].ask(ctx, d)
	if err == nil && r.won {
		s.seen.decided(d)
	}
	return r, err
}

// remember writes down what the only branch of a transaction has decided, for the list and for repetitions. The
// participant is the truth about it, so nothing is lost if this is.
func (s *Service) remember(ctx context.Context, f *flight, a action) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	now := s.deps.Now()
	d := decision{
		GID: f.gid, Outcome: a.state, Reason: a.reason, Digest: f.digest, CompletedAt: &now, Branches: f.parts([]int{0}),
		Timeline: append(f.timeline, s.event("completed", "", string(a.state))),
	}
	r, err := s.decide(ctx, d, true)
	switch {
	case err != nil:
		s.seen.registerErrors.Inc()
		s.deps.Log.WarnContext(ctx, "remember a transaction of one branch", "gid", f.gid, "error", err)
	case !r.won && r.truth.Outcome != a.state: // called off by somebody who did not know that there was nothing to call off
		s.contradicted(ctx, f, a.state)
	}
}

// tell has one branch carry out the outcome.
func (s *Service) tell(ctx context.Context, f *flight, branch int, state coordinator.State) event {
	service := f.branches[branch].Service
	done, err := s.participant(service).finishes.ask(ctx, twopc.Decision{GID: f.gid, Branch: branch, State: state})
	if err != nil || done.State == "" {
		s.seen.retries.WithLabelValues(service).Inc()
		return event{kind: finishLost, branch: branch}
	}
	return event{kind: finished, branch: branch, done: done.State}
}

// leave writes down what has been done of a decision that recovery will carry on with. It will tell everybody again.
func (s *Service) leave(ctx context.Context, f *flight, a action) {
	if a.state == "" {
		return // nothing was decided here
	}
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	if err := s.register.append(ctx, f.gid, f.timeline); err != nil {
		s.seen.registerErrors.Inc()
		s.deps.Log.WarnContext(ctx, "write down a transaction's timeline", "gid", f.gid, "error", err)
	}
}

func (s *Service) complete(ctx context.Context, gid uuid.UUID, heuristic bool, timeline []coordinator.Event) {
	crash.At(crash.BeforeComplete)
	if _, err := s.completes.ask(ctx, s.completion(ctx, gid, heuristic, timeline)); err != nil {
		s.incomplete(ctx, err)
	}
	crash.At(crash.AfterComplete)
}

func (s *Service) completion(ctx context.Context, gid uuid.UUID, heuristic bool, timeline []coordinator.Event) completion {
	if heuristic {
		s.seen.heuristics.Inc()
		s.deps.Log.ErrorContext(ctx, "a participant contradicts the decision", "gid", gid)
	}
	return completion{GID: gid, Heuristic: heuristic, Timeline: append(timeline, s.event("completed", "", ""))}
}

// incomplete notes that recovery will have to ask again.
func (s *Service) incomplete(ctx context.Context, err error) {
	s.seen.registerErrors.Inc()
	s.deps.Log.WarnContext(ctx, "mark transactions as completed", "error", err)
}
