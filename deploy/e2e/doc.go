// Package e2e drives a running shop from outside: journeys of customers, races for the last piece and the last cent,
// processes killed in the middle of a purchase, and garbage. It starts a shop of its own, real processes on real
// PostgreSQL and real Consul, and looks at it through the gateway, and into the databases only to see what must hold at
// rest.
//
// The tests share one shop and some of them break it, so they run one after the other.
package e2e
