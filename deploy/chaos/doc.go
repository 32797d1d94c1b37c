// Package chaos breaks a shop in every way that two-phase commit promises to survive, and then counts its money and goods.
//
// A campaign starts a shop of real processes on a real PostgreSQL and a real Consul. Customers buy, are given money back and
// turn points into money, all at once, while a script kills processes with SIGKILL, at any moment and at named points of
// the protocol (souk/shared/crash), hangs them, crashes PostgreSQL, takes Consul away, and while messages are lost, late,
// doubled and unanswered. A client that does not get an answer asks again under the same key, or goes away.
//
// When the faults are over the shop has ten seconds to come to rest. Then it must be true that
//
//   - nothing is in doubt and nothing is held, in any service;
//   - every transaction ended the same in the register and in every branch, and nothing is recorded as a heuristic;
//   - no branch became prepared after its participant had acknowledged the abort;
//   - every answer that a client has seen is still true, and who asks again is told the same;
//   - each wallet, each points account, each product's stock and the shop's own accounts have, to the unit, what those
//     answers add up to; the ledger sums to zero;
//   - no process died or refused to start but by the script's hand.
//
// What is done when, and what each process is armed with each time it starts, is decided by the seed alone: a seed that
// fails is run again. How the processes interleave is the machine's, so a rare failure may take several runs.
//
// A check that cannot fail proves nothing: see mutant.go for the bugs that are planted to see them caught.
package chaos
