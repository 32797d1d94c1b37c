// Package crash is what the fault tests do to a process from inside: it names the points at which they kill it, and
// disturbs its messages. In an ordinary build it does nothing.
//
// Built with the tag crashpoints, a process whose environment has SOUK_CRASH_AT=point kills itself with SIGKILL when it
// first gets there, as a power cut would; with SOUK_CRASH_AT=point:n, when it gets there for the nth time. SOUK_FAULTS
// says which share of its messages is lost, late, delayed, sent twice, or not answered. Both only while the file that
// SOUK_FAULTS_WHILE names is there, if it names one.
package crash

// The points before and after each write of the protocol. A write that need not be forced has its points, too: nothing may
// depend on it.
const (
	BeforeDecision = "coordinator-before-decision" // all have voted yes, nothing is written
	AfterDecision  = "coordinator-after-decision"  // the decision is on disk, nobody has been told
	BeforeAbort    = "coordinator-before-abort"    // a no, a silence or the deadline; nothing is written
	AfterAbort     = "coordinator-after-abort"     // the register has the abort, or what was there before
	BeforeComplete = "coordinator-before-complete" // all have carried the decision out, nothing of that is written
	AfterComplete  = "coordinator-after-complete"
	BeforeLease    = "coordinator-before-lease" // recovery is about to take what nobody carries out
	AfterLease     = "coordinator-after-lease"  // it has taken it, and told nobody
	BeforePostpone = "coordinator-before-postpone"
	AfterPostpone  = "coordinator-after-postpone"
	BeforeFence    = "coordinator-before-fence" // a participant asks, nothing is written
	AfterFence     = "coordinator-after-fence"  // what was unknown is aborted, the participant has not heard it
	BeforeCallOff  = "coordinator-before-call-off"
	AfterCallOff   = "coordinator-after-call-off"

	BeforeVote   = "participant-before-vote"   // the question has come, nothing of it is done
	AfterVote    = "participant-after-vote"    // the yes is on disk, the coordinator has not heard it
	BeforeNo     = "participant-before-no"     // what was tried is rolled back, the no is not written
	AfterNo      = "participant-after-no"      // the no is on disk, the coordinator has not heard it
	BeforeFinish = "participant-before-finish" // the decision has come, nothing of it is done
	AfterFinish  = "participant-after-finish"  // it is carried out, the coordinator has not heard it
)

// Writes are the points above, of a coordinator and of a participant.
func Writes() (coordinator, participant []string) {
	coordinator = []string{
		BeforeDecision, AfterDecision, BeforeAbort, AfterAbort, BeforeComplete, AfterComplete, BeforeLease, AfterLease,
		BeforePostpone, AfterPostpone, BeforeFence, AfterFence, BeforeCallOff, AfterCallOff,
	}
	participant = []string{BeforeVote, AfterVote, BeforeNo, AfterNo, BeforeFinish, AfterFinish}
	return coordinator, participant
}

// The points around each message, to be followed by its name: where it is sent and its answer has come, and where it has
// come and its answer is about to go.
const (
	BeforeSend   = "before-send-"
	AfterSend    = "after-send-"
	BeforeServe  = "before-serve-"
	BeforeAnswer = "before-answer-"
)
