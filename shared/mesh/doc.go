// Package mesh calls another service by its name. It is an http.RoundTripper: a request for
//
//	http://product/v1/products/42
//
// goes to one of product's instances, and comes back as that instance's answer or as an *Error. Any program can use it:
//
//	consul, err := registry.New(registry.Config{}, registry.Deps{})
//	client := mesh.New(mesh.Config{Caller: "order"}, mesh.Deps{Resolver: consul}).Client()
//	resp, err := client.Get("http://product/v1/products/42")
//
// That is all that is needed. What a caller knows about a call is in the call's context: [WithIdempotent], [WithClass],
// [WithPriority], [WithTryTimeout], [WithoutRetry], [WithHedge], [WithFallback], [WithOwnHeader]; the examples show most. A server gives each
// request to [Inherit], honours X-Request-Timeout-Ms, and may shed with 503 and X-Mesh-Shed, as souk/shared/httpapi does.
//
// A call passes, from outside in:
//
//	fallback          for a read that failed, if its caller has one                        fallback.go
//	deadline          how long the whole call may take                                     deadline.go
//	service breaker   is the service as a whole worth asking? one per callee and class     breaker.go
//	retry             two tries, on different instances, within a budget                   retry.go, budget.go
//	hedge             a second try beside a slow first, if its caller says so              hedge.go
//	balancer          the instance likely to answer soonest, with room for a request more  balancer.go
//	instance gate     is this one instance worth asking?                                   gate.go
//	try               one request on that instance's own connection pool, in its own time  try.go
//
// The breaker sees only how a call ended, so a retry that hid one bad instance does not trip it. The gate sees every try.
// What each kind of ending means to each part is one table, in outcome.go.
//
// What the package promises:
//
//   - A request that may have been executed is repeated only if repeating it is harmless: GET, HEAD, OPTIONS, a request
//     with an Idempotency-Key, or one its caller declared with WithIdempotent. Anything may be tried again elsewhere when
//     nothing of it was sent, or when the callee says it refused to begin (X-Mesh-Shed).
//   - A caller's deadline is never exceeded, and the callee is told how long it has (X-Request-Timeout-Ms).
//   - A caller that gives up, and an answer that is the caller's own fault (4xx), are never held against a callee.
//   - Retries add at most 10 % and 3 per second to what a callee is asked, however many fail.
//   - Instances are never all ejected; the only instance of a service never is.
//   - No instance has more than 128 of our requests in flight; what is more is refused at once rather than queued.
//   - An answer that its callee did not give says so (X-Mesh-Fallback), and is never counted as a success.
//   - The caller's request is not modified (but for WithOwnHeader), and its body is closed.
//
// A response without error is whatever the callee answered, 5xx included. Its body must be closed: until then the call
// counts as in flight. Reading the body is bounded by the call's deadline, not by the try's.
//
// The names in URLs must come from code or configuration, never from a client: every name gets a watch, pools and metrics.
//
// The numbers are defaults, all in Config or beside what they govern; where they come from somebody's experience the place
// that uses them says whose. A call by name costs about 11 allocations and a few microseconds more than one by address.
package mesh
