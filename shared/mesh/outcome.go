package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Headers between the services of the house. The gateway removes them from requests of the outside.
const (
	HeaderTimeout  = "X-Request-Timeout-Ms" // to the callee: milliseconds until we stop waiting
	HeaderAttempt  = "X-Mesh-Attempt"       // to the callee: 2 for a second try; absent from a first
	HeaderPriority = "X-Mesh-Priority"      // to the callee: sheddable or critical; absent if neither
	HeaderShed     = "X-Mesh-Shed"          // from the callee, with 503: "1" if it refused to begin

	// From the callee, with 5xx: "1" if it is well, and a service that it needs is not.
	HeaderElsewhere = "X-Mesh-Elsewhere"
)

// outcome is how a try, or a whole call, ended.
type outcome int

const (
	answered     outcome = iota // 2xx, 3xx
	clientError                 // 4xx but 429, 501, 505: the caller's doing
	limited                     // 429
	serverError                 // 500 and odd 5xx
	gatewayError                // 502, 503, 504
	elsewhere                   // 5xx with X-Mesh-Elsewhere: another instance may see what this one needs
	shed                        // 503 with X-Mesh-Shed: not executed
	unreachable                 // no connection: refused, dial or TLS failed, or not had in time
	broken                      // the connection failed after the request may have been sent
	timedOut                    // a try's time was up
	outOfTime                   // the call's time was up, after the instance had a fair chance
	cutShort                    // the call's time was up before that
	canceled                    // the caller gave up
	badRequest                  // the request cannot be sent: its URL, a header, its body
	spent                       // the call's time was up before it was sent
	noInstances                 // nobody to ask
	full                        // as much in flight at every instance as may be
	fellBack                    // not well, but there was something to fall back on
	open                        // the service breaker refused
	closed                      // the mesh is closed
)

// verdict is what an ending says about the one who was asked.
type verdict int

const (
	excluded verdict = iota // nothing
	success
	failure
)

// repeat says when an ending may be followed by another try.
type repeat int

const (
	never    repeat = iota
	harmless        // if executing the request twice is
	delayed         // the same, and after the time the callee asked for
	always          // it was not executed
)

// rulings is the whole policy: what an ending means to the instance gate, to the service breaker and to the retry, its
// name in metrics, and the error it becomes when there is no response.
var rulings = [...]struct { //nolint:gochecknoglobals // a table that never changes
	instance, service verdict
	repeat            repeat
	result            string
	kind              ErrorKind
}{
	answered:     {success, success, never, "success", ""},
	clientError:  {success, success, never, "client_error", ""},
	limited:      {excluded, excluded, delayed, "client_error", ""},
	serverError:  {failure, failure, never, "failure", ""},
	gatewayError: {failure, failure, harmless, "failure", ""},
	elsewhere:    {failure, excluded, harmless, "failure", ""}, // who could not be had has a breaker of its own, at the callee
	shed:         {failure, failure, always, "failure", ""},
	unreachable:  {failure, failure, always, "failure", KindUnreachable},
	broken:       {failure, failure, harmless, "failure", KindBroken},
	timedOut:     {failure, failure, harmless, "timeout", KindTimeout},
	outOfTime:    {failure, failure, never, "timeout", KindDeadline},
	cutShort:     {excluded, failure, never, "timeout", KindDeadline},
	canceled:     {excluded, excluded, never, "canceled", KindCanceled},
	badRequest:   {excluded, excluded, never, "client_error", KindRequest},
	spent:        {excluded, excluded, never, "timeout", KindDeadline},
	noInstances:  {excluded, excluded, never, "no_instance", KindNoInstances},
	full:         {excluded, excluded, never, "bulkhead", KindFull},
	fellBack:     {excluded, excluded, never, "fallback", ""},
	open:         {excluded, excluded, never, "short_circuited", KindOpen},
	closed:       {excluded, excluded, never, "short_circuited", KindClosed},
}

// String is the outcome's name in metrics of tries and retries.
func (o outcome) String() string {
	return [...]string{
		"answered", "client_error", "limited", "server_error", "gateway_error", "elsewhere", "shed", "unreachable", "broken", "timeout",
		"deadline", "cut_short", "canceled", "bad_request", "spent", "no_instances", "full", "fallback", "open", "closed",
	}[o]
}

// outcomeOfResponse classifies an answer by its status.
func outcomeOfResponse(resp *http.Response) outcome {
	switch code := resp.StatusCode; {
	case code < 400:
		return answered
	case code == http.StatusTooManyRequests:
		return limited
	case code < 500, code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
		return clientError
	case code == http.StatusServiceUnavailable && resp.Header.Get(HeaderShed) == "1":
		return shed
	case resp.Header.Get(HeaderElsewhere) == "1":
		return elsewhere
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return gatewayError
	}
	return serverError
}

// outcomeOfError classifies a try without an answer. The context is the try's: it tells whether it was we who ended it.
func outcomeOfError(ctx context.Context, asked, connected bool, took, limit time.Duration) outcome {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTryTimeout):
		if !connected {
			return unreachable
		}
		return timedOut
	case errors.Is(cause, context.DeadlineExceeded), ctx.Err() == context.DeadlineExceeded: // whatever cause a caller gave
		if took < limit/2 {
			return cutShort
		}
		return outOfTime
	case cause != nil:
		return canceled
	case !asked: // the transport never looked for a connection: it rejected the request
		return badRequest
	case !connected:
		return unreachable
	}
	return broken
}

// ErrImpostor is what Deps.TLS refuses an instance with that is not of the service.
var ErrImpostor = errors.New("an instance is not of the service called")

// isImpostor tells whether who listens there could not prove to be the service, or did not even speak TLS.
func isImpostor(err error) bool {
	var plain tls.RecordHeaderError
	return errors.Is(err, ErrImpostor) || errors.As(err, &plain)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// retryAfter is the pause a callee asked for with 429 or 503; zero if it named none.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	text := resp.Header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
