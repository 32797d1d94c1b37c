// Package policy is the one place where it is decided who may do what. The policies are Cedar's, in the folder rules, and
// are reviewed as code is; what they are asked about comes from verified tokens and from the database, never from a
// client. Every service decides anew: the gateway's word is not taken for it.
//
// A request is decided on twice.
//
//   - Before its operation runs, httpapi decides whether the caller may do at all what the route's permission names. The
//     resource is the Route: whose thing it will be about is not known yet. A route that declares no permission, or one
//     that no policy speaks of, stops the service from starting.
//   - An operation about a thing narrows its query to what the caller may reach (Scope: WHERE id = ? AND owner = ?), so that
//     another's thing is not found, in the same bytes as one that is not there; and then decides on what it found (Check).
//
// # Rules of the rules
//
//   - Nothing is allowed that no policy allows, and a forbid is stronger than any permit.
//   - Cedar passes over a policy whose evaluation fails, which would turn a failing forbid into a yes. So a forbid asks
//     whether an attribute is there (has) before it looks at it, and forbids where it is not; and here, a decision in which
//     any policy failed is a no, counted in policy_decisions_total{outcome="failed"}, for which there is an alert.
//   - Every policy has an @id, which is in the log event of each request it decided on, with the hash of all policies.
//   - Every policy is there for a reason: the table of decisions in policy_test.go loses a row when one is removed.
//
// What is sensitive has a class. It is read by nobody but data scientists at headquarters who are cleared for the class,
// and no owner, admin or share changes that (rules/mandatory.cedar). Location and clearance are in the account, given by
// somebody who is not its person, and come in the signed access token.
package policy
