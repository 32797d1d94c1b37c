// Package coordinator settles transactions that span services by two-phase commit. What the protocol promises, and what
// happens in each failure, is told in souk/shared/twopc; here is the coordinator's half of it:
//
//   - machine.go is one transaction as a pure state machine: events in, actions out, no clock and no I/O.
//   - register.go is the decision register, the only truth: one row per transaction, the first writer wins.
//   - driver.go carries out the machine's actions for transactions begun here.
//   - recovery.go finishes what any coordinator has decided and not completed.
//   - retention.go forgets decisions that nobody can need any more.
//   - operator.go is what a person can do: look, call off what is not decided, have a decision carried out sooner. It is
//     reached by HTTP, and by the command "tx" of the same binary, which needs the database alone.
//
// Invariants: a commit is on disk before anybody hears of it; a row's outcome never changes; an answer given to anybody
// is what the register says or follows from a participant's recorded no; when in doubt the answer is "pending", never a
// guess.
package coordinator
