package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/danielgtaylor/huma/v2"
)

const (
	bearer        = "bearer"
	routeMetadata = "route"
	// permissionExtension tells programs what the description tells people.
	permissionExtension = "x-permission"
)

// Document is the server's OpenAPI 3.1 document, indented, as it is before anything is served. A server without an
// operation has an empty one.
func (s *Server) Document() ([]byte, error) {
	raw, err := json.Marshal(s.operations().OpenAPI())
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

// describe puts into doc what is not about one operation, and what is told of each operation when it is added.
func (s *Server) describe(doc *huma.OpenAPI) {
	doc.Info.Title = "Souk: " + s.cfg.Service
	doc.Info.Description = "The " + s.cfg.Service + " service of Souk. Errors are problem details (RFC 9457) with a `code` for programs; " +
		"paths under /internal are for the shop's other services and are not reached from outside."
	doc.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	doc.Info.Contact = &huma.Contact{Name: "Souk"}
	doc.Servers = []*huma.Server{{URL: "/"}}
	doc.Tags = []*huma.Tag{{Name: s.cfg.Service, Description: "Answered by the " + s.cfg.Service + " service."}}
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{bearer: {
		Type: "http", Scheme: "bearer", BearerFormat: "JWT",
		Description: "The `access_token` that `POST /auth/login` gives, good for 10 minutes.",
	}}
	doc.OnAddOperation = append(doc.OnAddOperation, document)
}

// document tells of an operation what its route says and what its shape implies.
func document(doc *huma.OpenAPI, op *huma.Operation) {
	r, ok := op.Metadata[routeMetadata].(contract.Route[contract.None, contract.None])
	if !ok {
		return
	}
	op.Tags = []string{doc.Tags[0].Name}
	op.Summary, op.Description = r.Summary, cmp.Or(r.Description, r.Summary+".")
	op.Extensions = map[string]any{permissionExtension: r.Permission}
	switch r.Permission {
	case identity.Public, identity.ViewProducts:
		op.Security = []map[string][]string{}
	case identity.Internal:
		op.Description += "\n\nFor other services of the shop."
	default:
		op.Security = []map[string][]string{{bearer: {}}}
		op.Description += "\n\nPermission: `" + string(r.Permission) + "`."
	}
	if r.Keyed {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: contract.IdempotencyKey, In: "header", Required: true,
			Schema:      &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(maxKeyLen), Pattern: "^[!-~]+$"},
			Description: "Names this request; a repetition with the same key and body gets the stored answer. Kept 24 hours.",
			Example:     "0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11",
		})
	}
	delete(op.Responses, "default")
	status := strconv.Itoa(op.DefaultStatus)
	if op.RequestBody != nil {
		giveExamples(doc, op.RequestBody.Content)
	}
	giveExamples(doc, op.Responses[status].Content)
	if r.Later {
		later := *op.Responses[status]
		later.Description = "The outcome is not known yet: look at Location, or repeat the request with the same Idempotency-Key"
		op.Responses[strconv.Itoa(http.StatusAccepted)] = &later
	}
	for status, refusals := range byStatus(refusals(op, &r)) {
		op.Responses[strconv.Itoa(status)] = refused(doc, &r, status, refusals)
	}
}

// refused documents the refusals of one status. Those that the route does not add to are told once for all routes that
// have the same.
func refused(doc *huma.OpenAPI, r *contract.Route[contract.None, contract.None], status int, refusals []contract.Refusal) *huma.Response {
	made := problemResponse(doc, status, refusals)
	if slices.ContainsFunc(r.Refuses, func(o contract.Refusal) bool { return o.Kind.Status() == status }) {
		return made
	}
	name := strings.ReplaceAll(http.StatusText(status), " ", "")
	for code, prefix := range map[string]string{"request_in_progress": "Keyed", "idempotency_key_required": "Keyed", "idempotency_key_reused": "Keyed", "invalid_page_token": "Paged"} {
		if slices.ContainsFunc(refusals, func(o contract.Refusal) bool { return o.Code == code }) {
			name = prefix + name
		}
	}
	if doc.Components.Responses == nil {
		doc.Components.Responses = map[string]*huma.Response{}
	}
	known := doc.Components.Responses[name]
	if known == nil {
		doc.Components.Responses[name] = made
	} else if known.Description != made.Description {
		return made
	}
	return &huma.Response{Ref: "#/components/responses/" + name}
}

// refusals are all the ways in which an operation may say no: those of its route and those of its shape.
func refusals(op *huma.Operation, r *contract.Route[contract.None, contract.None]) []contract.Refusal {
	all := slices.Clone(r.Refuses)
	add := func(kind fault.Kind, code, when string) {
		all = append(all, contract.Refusal{Kind: kind, Code: code, When: when})
	}
	if r.Keyed {
		add(fault.Malformed, "idempotency_key_required", "There is no Idempotency-Key")
		add(fault.Malformed, "idempotency_key_invalid", "The Idempotency-Key is too long, or has other than visible ASCII characters")
		add(fault.Conflict, "request_in_progress", "The first request with this Idempotency-Key is still running")
		add(fault.Invalid, "idempotency_key_reused", "This Idempotency-Key was used for another request")
	}
	add(fault.Malformed, "", "The request cannot be read")
	add(fault.Malformed, "malformed_query", "The query of the URL cannot be read")
	if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "page_token" }) {
		add(fault.Malformed, "invalid_page_token", "page_token is not one that this list gave")
	}
	if r.Method != http.MethodGet {
		add(fault.Conflict, "busy", "Others are changing the same thing: try again")
	}
	if len(op.Security) > 0 {
		add(fault.Unauthenticated, "", "There is no access token")
		add(fault.Unauthenticated, "invalid_token", "The access token is not one of ours")
		add(fault.Unauthenticated, "token_expired", "The access token is too old: refresh it")
		add(fault.Unauthenticated, "token_revoked", "The access token was called back: refresh it, or sign in again")
	}
	if len(op.Security) > 0 && r.Permission != identity.SignedIn {
		add(fault.Forbidden, "", "Your roles do not allow this")
	}
	inPath := func(p *huma.Param) bool { return p.In == "path" }
	if slices.ContainsFunc(op.Parameters, inPath) {
		add(fault.NotFound, "", "There is none, or none that you may see")
	}
	if op.RequestBody != nil {
		add(fault.TooLarge, "", "The body is larger than "+strconv.Itoa(BodyLimit)+" bytes")
		add(fault.Media, "", "The body is of a type that is not read here")
	}
	if op.RequestBody != nil || len(op.Parameters) > 0 {
		add(fault.Invalid, "", "The request has fields that cannot be right; `errors` names them")
		add(fault.Invalid, "invalid_text", "A text has characters in it that cannot be kept, such as NUL")
	}
	add(fault.LongURL, "", "The URL is longer than the gateway takes")
	add(fault.Exhausted, "rate_limited", "Too many requests: come back after Retry-After")
	add(fault.Internal, "", "Something is broken here; `request_id` finds it in the log")
	add(fault.Unavailable, "", "Something that is needed is away: come back after Retry-After")
	add(fault.Deadline, "", "It took too long; what became of it is not known")
	return all
}

func byStatus(all []contract.Refusal) map[int][]contract.Refusal {
	by := map[int][]contract.Refusal{}
	for _, r := range all {
		r.Code = cmp.Or(r.Code, string(r.Kind))
		if s := r.Kind.Status(); !slices.ContainsFunc(by[s], func(o contract.Refusal) bool { return o.Code == r.Code }) {
			by[s] = append(by[s], r)
		}
	}
	return by
}

// problemResponse documents one status: an example for each code, and the headers that come with it.
func problemResponse(doc *huma.OpenAPI, status int, refusals []contract.Refusal) *huma.Response {
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[fault.Problem](), true, "")
	media := &huma.MediaType{Schema: schema, Examples: map[string]*huma.Example{}}
	var text strings.Builder
	for _, r := range refusals {
		if text.Len() > 0 {
			text.WriteString("\n")
		}
		text.WriteString("- `" + r.Code + "`: " + r.When)
		p := fault.New(r.Kind, r.Code, "%s", r.When).Problem()
		p.RequestID = "0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"
		media.Examples[r.Code] = &huma.Example{Summary: r.When, Value: p}
	}
	response := &huma.Response{Description: text.String(), Content: map[string]*huma.MediaType{fault.ContentType: media}}
	for name := range (answer{Problem: &fault.Problem{Status: status}}).GetHeaders() {
		if response.Headers == nil {
			response.Headers = map[string]*huma.Param{}
		}
		response.Headers[name] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return response
}
