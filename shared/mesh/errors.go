package mesh

import (
	"errors"
	"fmt"
)

// ErrorKind says how a call failed. The list is only ever added to.
type ErrorKind string

// The kinds of error, and whether anything was sent.
const (
	KindRequest     ErrorKind = "request"      // the request itself cannot be sent, or its body failed to read
	KindCanceled    ErrorKind = "canceled"     // the caller gave up
	KindDeadline    ErrorKind = "deadline"     // the call's time was up, before or while it was tried
	KindTimeout     ErrorKind = "timeout"      // an instance did not answer in a try's time
	KindUnreachable ErrorKind = "unreachable"  // no connection to an instance; nothing was sent
	KindBroken      ErrorKind = "broken"       // the connection failed after the request may have been sent
	KindNoInstances ErrorKind = "no_instances" // the service has none, or Consul never answered
	KindFull        ErrorKind = "full"         // as many calls are in flight as the mesh allows; nothing was sent
	KindOpen        ErrorKind = "open"         // the service breaker is open; nothing was sent
	KindClosed      ErrorKind = "closed"       // the mesh is closed
)

// Error is a call that got no answer. Use errors.As: http.Client wraps it in a *url.Error.
type Error struct {
	Kind     ErrorKind
	Callee   string // the service
	Instance string // the last instance tried; empty if none was
	Attempts int    // tries made
	// Retryable tells that repeating the call is harmless: no try of it was sent, or it is idempotent.
	Retryable bool

	cause error
}

// Error is for logs; it names internal addresses.
func (e *Error) Error() string {
	text := fmt.Sprintf("call %s: %s", e.Callee, e.Kind)
	if e.Attempts > 0 {
		text += fmt.Sprintf(" (attempt %d, %s)", e.Attempts, e.Instance)
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the cause, such as context.Canceled or the error of the dial; nil if there is none.
func (e *Error) Unwrap() error { return e.cause }

// Timeout makes a *url.Error around e report a timeout.
func (e *Error) Timeout() bool { return e.Kind == KindTimeout || e.Kind == KindDeadline }

var (
	errTryTimeout = errors.New("no response headers in the time of a try")
	errFull       = errors.New("too many calls in flight")
	errSpent      = errors.New("no time left to send it")
)
