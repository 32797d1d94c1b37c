// Package crash names the points at which the fault tests kill a process. In an ordinary build At does nothing; built
// with the tag crashpoints, a process whose environment has SOUK_CRASH_AT=point kills itself with SIGKILL when it first
// gets there, as a power cut would.
package crash

// The points, by where they lie in the protocol.
const (
	BeforeDecision = "coordinator-before-decision" // all have voted yes, nothing is written
	AfterDecision  = "coordinator-after-decision"  // the decision is on disk, nobody has been told
	AfterVote      = "participant-after-vote"      // the yes is on disk, the coordinator has not heard it
	BeforeFinish   = "participant-before-finish"   // the decision has come, nothing of it is done
)
