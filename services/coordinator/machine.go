package coordinator

import (
	"slices"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/twopc"
)

// machine is one transaction. It is driven by step alone, so every schedule of messages can be tried without a network.
//
//	             all yes / a no / one lost / time up        what the register says
//	preparing ───────────────────────────────────▶ deciding ─────────────────────▶ finishing ─▶ over
//
// A transaction of one branch skips the decision: its participant decides, and the register only remembers.
type machine struct {
	phase    phase
	branches []branch
	outcome  coordinator.State
}

type phase int

const (
	preparing phase = iota
	deciding
	finishing
	over
)

// String is the phase's name in metrics.
func (p phase) String() string { return [...]string{"preparing", "deciding", "finishing", "over"}[p] }

// branch is what the machine knows of one participant.
type branch struct {
	vote vote
	told told
}

type vote int

const (
	notYet vote = iota
	yes
	no   // recorded by the participant: it holds nothing, and can never vote yes any more
	lost // no answer, or none that makes sense: it may hold something
)

type told int

const (
	untold told = iota
	carriedOut
	contradicts
	unheard // no answer this time; recovery tells it again
)

// event is something that happened to a transaction.
type event struct {
	kind   eventKind
	branch int
	state  coordinator.State // of registered
	done   twopc.BranchState // of finished
	reason *fault.Problem    // of votedNo, voteLost and registered
}

type eventKind int

const (
	begun eventKind = iota
	votedYes
	votedDone // the branch is committed
	votedNo
	voteLost
	timeUp
	registered   // the register says: state
	registerLost // the register did not answer
	finished     // the participant says: done
	finishLost
)

// action is something to do for a transaction.
type action struct {
	kind      actionKind
	branch    int
	state     coordinator.State
	reason    *fault.Problem
	tell      []int // of decide: the branches that must hear of it
	lazily    bool  // of decide: it need not be forced, a participant's recorded no implies it
	heuristic bool
}

type actionKind int

const (
	prepare    actionKind = iota
	prepareOne            // the only branch: it decides
	decide                // write the outcome, unless another is written
	remember              // write down what the only branch decided
	answer                // tell the caller
	finish                // tell a branch the outcome
	complete              // all branches have answered
	leave                 // recovery goes on from here
)

func newMachine(branches int) *machine {
	return &machine{branches: make([]branch, branches)}
}

// step is the protocol. Events may come in any order, late, and more than once.
func (m *machine) step(e event) []action {
	switch e.kind {
	case begun:
		return m.begin()
	case votedYes, votedDone, votedNo, voteLost:
		return m.voted(e)
	case timeUp:
		if m.phase != preparing {
			return nil
		}
		return m.abort(fault.New(fault.Deadline, "deadline", "the transaction was not settled in time").Problem(), false)
	case registered:
		return m.decided(e)
	case registerLost:
		if m.phase != deciding {
			return nil
		}
		// The row may be there or not. Whoever is in doubt will ask, and recovery finds a row that is there.
		m.phase = over
		return []action{{kind: answer, state: coordinator.Pending}, {kind: leave}}
	case finished, finishLost:
		return m.finished(e)
	}
	return nil
}

func (m *machine) begin() []action {
	if len(m.branches) == 1 {
		return []action{{kind: prepareOne}}
	}
	actions := make([]action, len(m.branches))
	for i := range actions {
		actions[i] = action{kind: prepare, branch: i}
	}
	return actions
}

func (m *machine) voted(e event) []action {
	b := &m.branches[e.branch]
	if b.vote == notYet || b.vote == lost {
		b.vote = map[eventKind]vote{votedYes: yes, votedDone: yes, votedNo: no, voteLost: lost}[e.kind]
	}
	if m.phase != preparing {
		return nil
	}
	if len(m.branches) == 1 {
		return m.votedAlone(e)
	}
	switch e.kind {
	case votedDone:
		// So it was decided before, by whoever, even if the register has forgotten it since. It is not decided again: of
		// the other branches one may have forgotten it too, and a second commit would be that one's second effect.
		m.phase, m.outcome = over, coordinator.Committed
		return []action{{kind: answer, state: coordinator.Committed}, {kind: leave}}
	case votedNo:
		return m.abort(e.reason, true)
	case voteLost:
		return m.abort(e.reason, false)
	}
	if slices.ContainsFunc(m.branches, func(b branch) bool { return b.vote != yes }) {
		return nil
	}
	m.phase = deciding
	return []action{{kind: decide, state: coordinator.Committed, tell: m.toTell(coordinator.Committed)}}
}

// votedAlone ends a transaction of one branch. A lost answer leaves the outcome with the participant: the caller asks
// again with the same gid, and gets it.
func (m *machine) votedAlone(e event) []action {
	m.phase = over
	switch e.kind {
	case votedYes:
		m.outcome = coordinator.Committed
	case votedNo:
		m.outcome = coordinator.Aborted
	default:
		return []action{{kind: answer, state: coordinator.Pending}}
	}
	return []action{{kind: answer, state: m.outcome, reason: e.reason}, {kind: remember, state: m.outcome, reason: e.reason}}
}

func (m *machine) abort(reason *fault.Problem, lazily bool) []action {
	if len(m.branches) == 1 { // nobody else can be in doubt, and the participant alone knows
		m.phase = over
		return []action{{kind: answer, state: coordinator.Pending}}
	}
	m.phase = deciding
	return []action{{kind: decide, state: coordinator.Aborted, reason: reason, lazily: lazily, tell: m.toTell(coordinator.Aborted)}}
}

func (m *machine) decided(e event) []action {
	if m.phase != deciding {
		return nil
	}
	m.phase, m.outcome = finishing, e.state
	actions := []action{{kind: answer, state: e.state, reason: e.reason}}
	for _, i := range m.toTell(e.state) {
		actions = append(actions, action{kind: finish, branch: i, state: e.state})
	}
	return append(actions, m.end()...)
}

// toTell is the branches that must hear of the outcome: all, but for an abort those that have refused. They hold nothing.
func (m *machine) toTell(outcome coordinator.State) []int {
	var tell []int
	for i, b := range m.branches {
		if outcome == coordinator.Committed || b.vote != no {
			tell = append(tell, i)
		}
	}
	return tell
}

func (m *machine) finished(e event) []action {
	if m.phase != finishing {
		return nil
	}
	b := &m.branches[e.branch]
	switch {
	case e.kind == finishLost || e.done == "":
		b.told = unheard
	case e.done == twopc.BranchState(m.outcome):
		b.told = carriedOut
	default:
		b.told = contradicts
	}
	return m.end()
}

// end completes the transaction once everybody who must be told has answered, or leaves it to recovery when somebody did
// not.
func (m *machine) end() []action {
	unheardOf, heuristic := false, false
	for _, i := range m.toTell(m.outcome) {
		switch m.branches[i].told {
		case untold:
			return nil
		case unheard:
			unheardOf = true
		case contradicts:
			heuristic = true
		}
	}
	m.phase = over
	if unheardOf {
		return []action{{kind: leave, state: m.outcome}}
	}
	return []action{{kind: complete, heuristic: heuristic}}
}
