// Package registry is a service's dealings with Consul: keeping itself registered, and watching where the services
// it calls can be found.
//
// What it promises:
//
//   - Consul being away costs nothing. New never dials, Keep goes on trying in the background, and a set of instances
//     once learnt is kept for ever while Consul is silent. Only an answer can replace an answer.
//   - A registration heals by itself. Consul forgets registrations when a development agent restarts, when its data is
//     lost or when a health check stayed critical for too long; Keep notices within a second or two and registers again.
//   - One watch per callee and process, however many requests ask: an agent admits 200 connections per client address.
//   - An empty answer after a full one is doubted for 30 s. A registry that has just restarted knows nobody; callers with
//     the old set lose at most a refused connection, callers with an empty one lose everything.
//
// Only the agent's API is used to register, never the catalogue's: anti-entropy removes what the agent does not know.
//
// The watch is written here rather than taken from consul/api/watch, which retries without jitter: after an outage every
// process would come back in the same instant.
//
// Left for later, with room kept: an ACL token per service and TLS to the agent (until then the CONSUL_HTTP_* environment
// of Consul's own client works), and a copy of the instance sets on disk for starting while Consul is down.
package registry
