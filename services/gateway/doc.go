// Package gateway is the public edge of the shop, the only thing that faces the network outside. It owns no data and
// knows no rule of the shop: it finds the service that a path belongs to (the table in table.go), and calls it through
// the mesh.
//
// What it promises to the services behind it:
//
//   - Only paths of the table get through. /internal, the admin ports and everything else do not exist out here.
//   - A path means the same to everybody: one with an encoded slash, a backslash, a dot-dot, an empty segment or a
//     semicolon is refused, and what goes on is encoded anew.
//   - Headers that say who is calling, from where and for how long are ours: X-User-*, X-Role*, X-Internal-*, X-Mesh-*,
//     X-Request-Timeout-Ms, Forwarded, X-Forwarded-*, X-Real-IP and Via from outside are removed, and written afresh
//     where a service needs them. Only a peer in TRUSTED_PROXIES, which does all this before us, is believed.
//   - A page of another origin cannot have a browser change anything here (net/http.CrossOriginProtection), and reads answers
//     only if its origin is one of CORS_ORIGINS.
//   - A body is at most 1 MiB, a URL 8 KiB, the headers 64 KiB; client addresses and users call at a limited rate.
//   - A token that reaches a service was valid here, at most a minute ago, and has not expired since. Services verify it
//     all the same.
//
// And to the clients: every refusal is problem JSON, of the same shape as the services' own, but for what net/http cannot
// read as a request (400, 431); an answer, or a problem, comes within 10 s; a request that may have been executed is
// repeated only if that is harmless (GET, or an Idempotency-Key).
//
// A request meets, in this order: header hygiene and CORS (edge.go); the door, which is path, client's rate, origin, table and
// room (gateway.go, pressure.go); then size and time (shared/httpapi), login's rate, token, user's rate (gateway.go), and the
// proxy (proxy.go). What is cheap to refuse is refused first: a signature costs as much to verify as all the rest together. What
// the door refuses is logged and counted as everything else, at Info whatever its status.
//
// Admins see at /ops how the shop is doing, live, and also when it is asked too much. The page is a shell that anybody may
// load (ops.go); what it shows comes from /ops/stream, server-sent events for a token with that permission. While somebody
// looks, and only then, the gateway reads every process that Consul knows of, each once (opswatch.go), and adds up what they
// say: counts and histograms, never percentiles (opsview.go).
//
// Connections in flight are not capped yet, and WebSockets are not passed through.
package gateway
