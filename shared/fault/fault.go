// Package fault holds the few kinds of error a service of the shop can return, and the one table that takes them to an
// HTTP problem (RFC 9457) and back. A fault raised in one service comes out of another service's call as the same Kind,
// Code and Message.
//
// A fault is made where the meaning is known: by a rule, or where a driver's error is mapped. Everywhere else an error
// is wrapped with what was tried. An error without a fault inside is Internal; its text is logged, never sent.
package fault

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind is the class of an error. The wire names are only ever added to.
type Kind string

// The kinds, each with its HTTP status in statuses.
const (
	Invalid         Kind = "invalid"         // the request is well-formed but means nothing here: 422
	Malformed       Kind = "malformed"       // the request cannot be read: 400
	Unauthenticated Kind = "unauthenticated" // who is calling is not known: 401
	Forbidden       Kind = "forbidden"       // the caller is known and may not: 403
	NotFound        Kind = "not_found"       // there is none, or none the caller may know of: 404
	Method          Kind = "method"          // the path is there, the method is not: 405
	Conflict        Kind = "conflict"        // the state of things says no: 409
	Precondition    Kind = "precondition"    // the version the caller saw is not the current one: 412
	TooLarge        Kind = "too_large"       // the body is over its limit: 413
	LongURL         Kind = "long_url"        // the URL is over its limit: 414
	Media           Kind = "media"           // the body is of a type that is not read here: 415
	Exhausted       Kind = "exhausted"       // the caller asks too often: 429
	Internal        Kind = "internal"        // a bug or a broken machine: 500
	Upstream        Kind = "upstream"        // another service answered nonsense: 502
	Unavailable     Kind = "unavailable"     // another service or the database is away: 503
	Deadline        Kind = "deadline"        // the time allowed is over: 504
)

// statuses is the one table between kinds and HTTP.
var statuses = map[Kind]int{ //nolint:gochecknoglobals // never changes
	Invalid: http.StatusUnprocessableEntity, Malformed: http.StatusBadRequest, Unauthenticated: http.StatusUnauthorized,
	Forbidden: http.StatusForbidden, NotFound: http.StatusNotFound, Method: http.StatusMethodNotAllowed,
	Conflict: http.StatusConflict, Precondition: http.StatusPreconditionFailed, TooLarge: http.StatusRequestEntityTooLarge,
	LongURL: http.StatusRequestURITooLong, Media: http.StatusUnsupportedMediaType, Exhausted: http.StatusTooManyRequests, Internal: http.StatusInternalServerError,
	Upstream: http.StatusBadGateway, Unavailable: http.StatusServiceUnavailable, Deadline: http.StatusGatewayTimeout,
}

// Status is the HTTP status of the kind; an unknown kind is 500.
func (k Kind) Status() int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// OfStatus is the kind of an HTTP status of 400 and above. A 4xx that is not in the table is Invalid, a 5xx Internal.
func OfStatus(status int) Kind {
	for k, s := range statuses {
		if s == status {
			return k
		}
	}
	if status < http.StatusInternalServerError {
		return Invalid
	}
	return Internal
}

// Error is a fault. Message and Fields are safe to show to the caller; the cause is for the log alone.
type Error struct {
	Kind    Kind
	Code    string // a stable word for programs, such as "out_of_stock"; empty means the kind's own name
	Message string
	Fields  []Field
	Wait    time.Duration // after which it is worth to try again; zero says nothing of it
	cause   error
}

// Field is one thing that is wrong with a request, e.g. {"body.lines[0].quantity", "must be at least 1"}.
type Field struct {
	Pointer string `json:"pointer" example:"body.lines[0].quantity"`
	Detail  string `json:"detail" example:"must be at least 1"`
}

// New makes a fault of the given kind. The message is shown to the caller.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns a copy of e that wraps cause, for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// After returns a copy of e that says when it is worth to try again.
func (e *Error) After(wait time.Duration) *Error {
	c := *e
	c.Wait = wait
	return &c
}

// With returns a copy of e that names what is wrong field by field.
func (e *Error) With(fields ...Field) *Error {
	c := *e
	c.Fields = append(c.Fields[:len(c.Fields):len(c.Fields)], fields...)
	return &c
}

// Error is the text for the log: code, message and cause.
func (e *Error) Error() string {
	s := e.code() + ": " + e.Message
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) code() string {
	if e.Code != "" {
		return e.Code
	}
	return string(e.Kind)
}

type elsewhere struct{ error }

func (e elsewhere) Unwrap() error { return e.error }

// Elsewhere marks err as the failure of another service, which whoever passes it on can do nothing about.
func Elsewhere(err error) error { return elsewhere{err} }

// IsElsewhere reports whether err comes of one that Elsewhere has marked.
func IsElsewhere(err error) bool {
	_, is := errors.AsType[elsewhere](err)
	return is
}

// Of finds the fault inside err; an error without one becomes Internal with err as its cause. Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return New(Internal, "", "internal error").Because(err)
}

// Is reports whether err carries a fault of the given kind.
func Is(err error, kind Kind) bool {
	f, ok := errors.AsType[*Error](err)
	return ok && f.Kind == kind
}

// HasCode reports whether err carries a fault with the given code.
func HasCode(err error, code string) bool {
	f, ok := errors.AsType[*Error](err)
	return ok && f.code() == code
}
