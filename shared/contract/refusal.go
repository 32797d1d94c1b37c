package contract

import "souk/shared/fault"

// Refusal is a way in which a route says no, for the OpenAPI document: clients act on the code.
type Refusal struct {
	Kind fault.Kind // gives the status
	Code string     // the problem's code; empty is the kind's own name
	When string     // a sentence without its full stop: "Fewer pieces are left than were asked for"
}

// Refuse is a Refusal.
func Refuse(kind fault.Kind, code, when string) Refusal {
	return Refusal{Kind: kind, Code: code, When: when}
}
