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
//   - A process can start without Consul: it registers when Consul appears, and until then calls those whom its last life,
//     or another process with the same state folder, knew within the last 24 hours.
//
// Only the agent's API is used to register, never the catalogue's: anti-entropy removes what the agent does not know.
//
// The watch is written here rather than taken from consul/api/watch, which retries without jitter: after an outage every
// process would come back in the same instant.
//
// An ACL token may be in a file, which is read again when Consul refuses the token; a token like
//
//	service "product" { policy = "write" }
//	service_prefix "" { policy = "read" }
//	node_prefix "" { policy = "read" }
//
// is enough for a service named product, and it gets certificates of Consul's authority in that name and no other (Identity). TLS to the agent is what CONSUL_HTTP_SSL, CONSUL_CACERT, CONSUL_CLIENT_CERT and
// CONSUL_CLIENT_KEY say, as to all of Consul's own programs.
package registry
