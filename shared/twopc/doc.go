// Package twopc is the participant's half of Souk's two-phase commit, and the client of the coordinator.
//
// # What it promises
//
// A transaction is a set of branches, each a named action of a service with a payload. It commits everywhere or nowhere,
// whatever process dies in the middle. It gives atomicity, not a snapshot: a reader that looks at two services while a
// transaction is under way may see one moved and the other not yet. Sums are checked at rest.
//
// # How a branch lives
//
//	              prepare: yes              commit
//	(unknown) ───────────────▶ prepared ───────────▶ committed
//	    │                         │
//	    │ prepare: no             │ abort
//	    │ abort (tombstone)       ▼
//	    └─────────────────────▶ aborted
//
// Things are escrowed, not locked. Prepare moves what is wanted from available to held, in one short local transaction
// that also records the branch; that commit is the vote. Commit moves what is held to where it goes, abort moves it
// back. No row lock and no database transaction lives across a network call, so a hot product or merchant does not
// serialise the shop.
//
// # Who is authoritative
//
// The decision register, one row per transaction in the coordinator's database, written by INSERT … ON CONFLICT DO
// NOTHING. The first writer wins for ever, whoever it is: the coordinator that drives the transaction, another that was
// asked about it by a branch that has waited too long, an operator. The deadline of a commit is checked inside that statement, by that
// database's clock, so no two clocks have to agree.
//
// Votes are asked for without a look at it. Of what is decided already, a branch that is committed says so, and else the
// row is met when the decision is to be written: whoever has voted meanwhile is told what it says.
//
// # What is forced to disk
//
// Each yes, each no, and the decision to commit: N + 1 forced writes for N branches, two of them in sequence. Carrying
// the decision out is not forced: a branch that loses it in a crash is prepared again, asks, and gets the same answer.
// An abort that follows a recorded no is not forced either: that branch can never vote yes any more.
//
// # Many at once
//
// What several transactions have to say to one participant at the same time goes in one message, and is done in one local
// transaction with one commit; the same with decisions and completions in the register. A lone transaction waits for
// nobody. Transactions stay independent of each other: a branch that cannot be voted on, or carried out, in company is
// done alone.
//
// # Failure by failure
//
//   - The caller dies: the transaction is decided without it; asking again with the same gid gives the outcome.
//   - The coordinator dies before the decision: nothing was promised. The branches ask once they are in doubt for two
//     seconds; past the deadline, or after three seconds if that is sooner, whoever is asked first writes aborted and then
//     answers it. A coordinator that was only slow finds that row, and aborts too.
//   - The coordinator dies after the decision: any coordinator finds the row not completed, leases it, and drives it on.
//   - A participant dies before its vote: no answer is not a yes; the transaction aborts.
//   - A participant dies after its yes: the branch is there when it comes back, and the coordinator and its own inquiry
//     both bring it the outcome. It never decides alone, and what it holds never expires.
//   - A message is lost, late, or comes twice: every message is idempotent. A prepare that comes after its abort finds
//     the tombstone and is refused.
//   - A participant is told to commit what it does not know, or has aborted, or to abort what it has committed: it
//     refuses, records a heuristic, and raises an alarm. That is never taken for success.
//
// # What is forgotten, and when
//
// Decisions go first, branches last. A completed decision is removed after a week; a commit only when each of its
// participants has said that its branches of that time all know their outcome, on disk (SettledRoute), since one that lost
// an unforced commit in a crash will ask, and an unknown transaction is answered as an aborted one. A finished branch is
// removed after 30 days, and only when the coordinator does not know the transaction any more.
//
// A transaction begun again in between, under its old gid, is answered by its branches. One that says it is committed
// already ends the matter: nothing is decided a second time, so no branch that has forgotten can have a second effect.
// If such a branch cannot be asked, the caller hears that it was aborted, and the branches that know better raise an alarm:
// what is promised beyond the week is that nothing happens twice, not that the answer is the same.
package twopc
