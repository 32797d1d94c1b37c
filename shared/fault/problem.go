package fault

import (
	"encoding/json"
	"net/http"
)

// Problem is a fault on the wire: RFC 9457 problem details with the shop's extension members. The zero value is not a
// problem; make one with Of(err).Problem().
type Problem struct {
	Type      string  `json:"type" doc:"A URI that names the sort of problem" example:"urn:souk:problem:out_of_stock"`
	Title     string  `json:"title" doc:"The status in words" example:"Conflict"`
	Status    int     `json:"status" doc:"The HTTP status" example:"409"`
	Detail    string  `json:"detail,omitempty" doc:"What happened this time" example:"this is out of stock"`
	Instance  string  `json:"instance,omitempty" doc:"The path that was asked" example:"/api/v1/orders"`
	Code      string  `json:"code" doc:"A stable word for programs" example:"out_of_stock"`
	RequestID string  `json:"request_id,omitempty" doc:"Names this request in the logs of every service it touched" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	TraceID   string  `json:"trace_id,omitempty" doc:"Names the trace, when tracing is on" example:"4bf92f3577b34da6a3ce929d0e0e4736"`
	Errors    []Field `json:"errors,omitempty" doc:"Every field that is wrong"`
}

// ContentType is the media type of a Problem.
const ContentType = "application/problem+json"

const typePrefix = "urn:souk:problem:"

// Problem is e as the caller sees it: the cause is left out. Instance and the ids are the server's to fill in.
func (e *Error) Problem() *Problem {
	status := e.Kind.Status()
	return &Problem{
		Type: typePrefix + e.code(), Title: http.StatusText(status), Status: status,
		Detail: e.Message, Code: e.code(), Errors: e.Fields,
	}
}

// OfResponse turns an answer of status 400 and above back into the fault that made it. A body that is not a problem
// still gives a fault of the status' kind.
func OfResponse(status int, body []byte) *Error {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return New(OfStatus(status), "", "%s", http.StatusText(status))
	}
	return &Error{Kind: OfStatus(status), Code: p.Code, Message: p.Detail, Fields: p.Errors}
}

// Error makes a Problem usable as an error by HTTP libraries.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus tells Huma the status to answer with.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells Huma the media type to answer with.
func (p *Problem) ContentType(string) string { return ContentType }
