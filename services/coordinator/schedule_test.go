package coordinator

import (
	"fmt"
	"slices"
	"testing"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/twopc"

	"pgregory.net/rapid"
)

// One transaction with everything around it that can go wrong: two coordinators, each the real machine, a register, and
// participants as twopc describes them (its own tests hold the real ones to that). Messages are lost, doubled and arrive in
// any order; coordinators, participants and the register crash and forget what was not forced to disk; deadlines pass;
// callers ask again anywhere; recovery and inquiries come at any time.
//
// Whatever the schedule: nobody commits unless all have voted yes, nobody does what another does not, no participant is
// ever told what contradicts it, no answer to a caller is ever taken back, and once the faults end all is settled.
func TestProtocol_inAnySchedule(t *testing.T) {
	t.Parallel()
	for range 50 { // of a hundred schedules each; to force every abort to disk or none needs some thousand to be told apart
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t, rapid.IntRange(2, 4).Draw(t, "branches"))
			w.begin(0)
			for range rapid.IntRange(10, 120).Draw(t, "steps") {
				w.happen()
				w.sound()
			}
			w.settle()
		})
	}
}

type world struct {
	t         *rapid.T
	machines  [2]*machine // nil where none is running
	deciding  [2][]action // decisions on their way to the register
	parts     []*member
	row       coordinator.State // in the register; empty for none
	forced    bool              // it survives a crash
	tell      []int             // the branches that the row says must hear of it
	complete  bool
	late      bool // the deadline is over
	mail      []mail
	answered  coordinator.State
	committed bool // a commit was ever written
}

// member is a participant's branch, in memory and on its disk.
type member struct {
	state, disk twopc.BranchState // empty while it is unknown
	willing     bool
}

// mail is a message; from is the coordinator that wants the answer, or -1 for recovery and nobody.
type mail struct {
	what     eventKind // begun stands for prepare; votes and finished for answers
	from, to int       // coordinator, branch
	state    coordinator.State
	done     twopc.BranchState
}

func newWorld(t *rapid.T, branches int) *world {
	w := &world{t: t}
	for i := range branches {
		w.parts = append(w.parts, &member{willing: rapid.IntRange(0, 9).Draw(t, fmt.Sprint("willing ", i)) > 0})
	}
	return w
}

// happen draws one thing that happens.
func (w *world) happen() {
	c := rapid.IntRange(0, len(w.machines)-1).Draw(w.t, "coordinator")
	p := rapid.IntRange(0, len(w.parts)-1).Draw(w.t, "participant")
	switch what := rapid.IntRange(0, 99).Draw(w.t, "what"); {
	case what < 50 && len(w.mail) > 0:
		i := rapid.IntRange(0, len(w.mail)-1).Draw(w.t, "message")
		m := w.mail[i]
		if fate := rapid.IntRange(0, 9).Draw(w.t, "fate"); fate > 0 { // else it arrives, and will again
			w.mail = slices.Delete(w.mail, i, i+1)
			if fate == 1 {
				return // lost
			}
		}
		w.deliver(m)
	case what < 65:
		w.write(c)
	case what < 70:
		w.begin(c)
	case what < 74:
		w.step(c, event{kind: timeUp})
	case what < 78: // a call without an answer
		w.step(c, event{kind: rapid.SampledFrom([]eventKind{voteLost, finishLost}).Draw(w.t, "lost"), branch: p, reason: because()})
	case what < 82:
		w.machines[c], w.deciding[c] = nil, nil
	case what < 86:
		w.parts[p].state = w.parts[p].disk
	case what < 88:
		if !w.forced {
			w.row, w.tell, w.complete = "", nil, false
		}
	case what < 91:
		w.late = true
	case what < 95:
		w.inquire(p)
	case what < 98:
		w.recover()
	default: // the disks catch up
		w.forced = w.row != ""
		w.parts[p].disk = w.parts[p].state
	}
}

// begin is a caller asking coordinator c for the transaction, perhaps again, and perhaps when it is long decided. One that is
// under way is joined.
func (w *world) begin(c int) {
	if w.machines[c] == nil || w.machines[c].phase == over {
		w.machines[c] = newMachine(len(w.parts))
		w.step(c, event{kind: begun})
	}
}

// step drives the machine of coordinator c, if there is one.
func (w *world) step(c int, e event) {
	if w.machines[c] == nil {
		return
	}
	for _, a := range w.machines[c].step(e) {
		switch a.kind {
		case prepare:
			w.mail = append(w.mail, mail{what: begun, from: c, to: a.branch})
		case decide:
			w.deciding[c] = append(w.deciding[c], a)
		case answer:
			w.answer(a.state)
		case finish:
			w.mail = append(w.mail, mail{what: registered, from: c, to: a.branch, state: a.state})
		case complete:
			if a.heuristic {
				w.t.Fatal("a participant contradicts the decision")
			}
			w.complete = true
		case leave:
		default:
			w.t.Fatalf("an action of a transaction of one branch: %v", a.kind)
		}
	}
}

// answer is what the caller hears.
func (w *world) answer(s coordinator.State) {
	if s == coordinator.Pending {
		return
	}
	if w.answered != "" && w.answered != s {
		w.t.Fatalf("the caller was told %s, and now %s", w.answered, s)
	}
	w.answered = s
}

// write carries a decision of coordinator c to the register: the first writer wins. The answer may be lost on the way, and
// so may the question.
func (w *world) write(c int) {
	if len(w.deciding[c]) == 0 {
		return
	}
	a := w.deciding[c][0]
	w.deciding[c] = w.deciding[c][1:]
	fate := rapid.IntRange(0, 9).Draw(w.t, "register")
	if fate == 0 {
		w.step(c, event{kind: registerLost})
		return
	}
	if w.row == "" && a.state == coordinator.Committed && w.late { // the register refuses; the driver then writes the abort
		a.state, a.lazily = coordinator.Aborted, false
	}
	if w.row == "" {
		w.row, w.forced, w.tell, w.complete = a.state, !a.lazily, a.tell, false
		if w.row == coordinator.Committed {
			w.committed = true
			for i, p := range w.parts {
				if p.disk != twopc.Prepared {
					w.t.Fatalf("a commit is written, and branch %d is %q on its disk", i, p.disk)
				}
			}
		}
	}
	if fate == 1 {
		w.step(c, event{kind: registerLost})
		return
	}
	w.step(c, event{kind: registered, state: w.row, reason: because()})
}

// deliver brings a message to a participant, which does as twopc says, or its answer back.
func (w *world) deliver(m mail) {
	p := w.parts[m.to]
	switch m.what {
	case begun:
		vote := mail{what: votedYes, from: m.from, to: m.to}
		switch {
		case p.state == "" && p.willing && !w.late:
			p.state, p.disk = twopc.Prepared, twopc.Prepared
		case p.state == "":
			p.state, p.disk = twopc.Aborted, twopc.Aborted
			vote.what = votedNo
		case p.state == twopc.Aborted:
			vote.what = votedNo
		case p.state == twopc.Committed:
			vote.what = votedDone
		}
		w.mail = append(w.mail, vote)
	case registered:
		w.mail = append(w.mail, mail{what: finished, from: m.from, to: m.to, done: w.carryOut(p, m.state)})
	case finished:
		if m.from >= 0 {
			w.step(m.from, event{kind: finished, branch: m.to, done: m.done})
		}
	default:
		w.step(m.from, event{kind: m.what, branch: m.to, reason: because()})
	}
}

// carryOut is a participant being told a decision. None of it is forced to its disk.
func (w *world) carryOut(p *member, s coordinator.State) twopc.BranchState {
	want := twopc.BranchState(s)
	switch {
	case p.state == want, p.state == twopc.Prepared, p.state == "" && want == twopc.Aborted:
		p.state = want
		return want
	}
	w.t.Fatalf("a participant is told %s, and is %q", s, p.state)
	return twopc.Refused
}

// inquire is a participant in doubt asking: past the deadline an unknown transaction is written as aborted first.
func (w *world) inquire(i int) {
	if w.parts[i].state != twopc.Prepared {
		return
	}
	if w.row == "" && w.late {
		w.row, w.forced, w.complete = coordinator.Aborted, true, true
	}
	if w.row != "" {
		w.carryOut(w.parts[i], w.row)
	}
}

// recover is a coordinator telling the branches of a decision that is not complete.
func (w *world) recover() {
	if w.row == "" || w.complete {
		return
	}
	for _, i := range w.tell {
		w.mail = append(w.mail, mail{what: registered, from: -1, to: i, state: w.row})
	}
}

func (w *world) sound() {
	for i, p := range w.parts {
		switch {
		case p.state == twopc.Committed && w.row != coordinator.Committed:
			w.t.Fatalf("branch %d is committed, and the register says %q", i, w.row)
		case p.state == twopc.Aborted && w.committed:
			w.t.Fatalf("branch %d is aborted, and a commit was written", i)
		}
	}
	if w.answered == coordinator.Committed && w.row != coordinator.Committed || w.answered == coordinator.Aborted && w.committed {
		w.t.Fatalf("the caller was told %s, and the register says %q", w.answered, w.row)
	}
}

// settle lets the faults end: messages arrive, time passes, and who is in doubt asks.
func (w *world) settle() {
	for range 3 {
		for len(w.mail) > 0 {
			m := w.mail[0]
			w.mail = w.mail[1:]
			w.deliver(m)
			w.sound()
		}
		for c := range w.machines {
			for len(w.deciding[c]) > 0 {
				w.write(c)
			}
		}
		w.late = true
		w.recover()
		for i := range w.parts {
			w.inquire(i)
		}
		w.sound()
	}
	states := map[twopc.BranchState]bool{}
	for _, p := range w.parts {
		if p.state != "" { // its prepare was never sent, or lost
			states[p.state] = true
		}
	}
	if len(states) > 1 || states[twopc.Prepared] {
		w.t.Fatalf("in the end: %v", states)
	}
}

func because() *fault.Problem { return fault.New(fault.Conflict, "no", "no").Problem() }
