// Package contract is the wire between the shop's services: one Route value per operation, which the server registers
// (httpapi.Handle) and a client calls (Route.Call), so that the two cannot drift apart. A sub-package per service holds
// that service's routes and the types they carry.
//
// Inputs and outputs are Huma's: a struct whose fields are tagged path, query or header, and whose field Body is the
// JSON body.
package contract

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Route is one operation of a service. The zero value is not a route: ID, Method, Path and Permission are required.
type Route[In, Out any] struct {
	ID         string // unique in the shop, kebab-case; the operationId of the OpenAPI document
	Service    string // the name the service is registered under
	Method     string
	Path       string // "/v1/orders/{id}"
	Status     int    // of success; zero is 200
	Summary    string
	Permission identity.Permission
	Class      int64 // how sensitive what it tells is, for identity.ReadSensitiveData and nothing else
	Keyed      bool  // takes an Idempotency-Key, and answers a repetition with the stored answer

	Fresh bool // the token is asked about online, not only looked at: for what moves money. What no customer may do always is
	Quiet bool // its successes are logged at Debug: for what services ask each other all the time

	Description string    // what the summary does not say, in Markdown, for the OpenAPI document
	Later       bool      // may answer 202 with the same body: the outcome is not known yet
	Refuses     []Refusal // what it answers besides the refusals that any route of its shape has
}

// IdempotencyKey is the header that names a request, so that its repetition has no second effect.
const IdempotencyKey = "Idempotency-Key"

// RequestID is the header that names a request in the logs of every service it touches.
const RequestID = "X-Request-Id"

// maxAnswer bounds what a client reads of an answer, in bytes.
const maxAnswer = 8 << 20

// CallerRefused is the code of the problem with which a service answers another one that may not call it.
const CallerRefused = "caller_refused"

type keyKey struct{}

// WithKey returns a context under which Call sends key as the Idempotency-Key of a keyed route.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyKey{}, key)
}

type requestIDKey struct{}

// WithRequestID returns a context whose calls carry id as their request id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestIDFrom is the request id of ctx; empty where there is none.
func RequestIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Call asks the route's service by name through client (the mesh's, usually). It passes on the caller's token and
// request id, and the Idempotency-Key of WithKey, or a new one where a keyed route is called without. An answer of 400
// and above comes back as the fault it was; a call that got no answer is Unavailable, or Deadline where ctx ran out.
func (r Route[In, Out]) Call(ctx context.Context, client *http.Client, in *In) (*Out, error) {
	req, err := r.request(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", r.ID, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", r.ID, unanswered(ctx, r.Service, err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", r.ID, unanswered(ctx, r.Service, err))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		f := fault.OfResponse(resp.StatusCode, body)
		if f.Code == CallerRefused { // no doing of whoever the call is for
			f = fault.New(fault.Upstream, "", "%s does not take calls from here", r.Service).Because(f)
		}
		err = fmt.Errorf("call %s: %w", r.ID, f)
		if resp.StatusCode >= http.StatusInternalServerError {
			err = fault.Elsewhere(err)
		}
		return nil, err
	}
	out, err := decode[Out](resp, body)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", r.ID, fault.New(fault.Upstream, "", "%s gave an answer that makes no sense", r.Service).Because(err))
	}
	return out, nil
}

func unanswered(ctx context.Context, service string, cause error) error {
	if ctx.Err() != nil {
		return fault.New(fault.Deadline, "", "%s did not answer in time", service).Because(cause)
	}
	return fault.Elsewhere(fault.New(fault.Unavailable, "", "%s is not available", service).Because(cause))
}

func (r Route[In, Out]) request(ctx context.Context, in *In) (*http.Request, error) {
	p := parts{path: r.Path, query: url.Values{}, header: http.Header{}}
	if err := p.fill(reflect.ValueOf(in).Elem()); err != nil {
		return nil, err
	}
	target := "http://" + r.Service + p.path
	if len(p.query) > 0 {
		target += "?" + p.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(p.body))
	if err != nil {
		return nil, err
	}
	req.Header, req.Pattern = p.header, r.Path // the mesh counts the call under its template
	if p.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := identity.Token(ctx); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if id := RequestIDFrom(ctx); id != "" {
		req.Header.Set(RequestID, id)
	}
	if r.Keyed {
		key, _ := ctx.Value(keyKey{}).(string)
		if key == "" {
			key = uuid.NewString()
		}
		req.Header.Set(IdempotencyKey, key)
	}
	return req, nil
}

// parts is an input taken apart.
type parts struct {
	path   string
	query  url.Values
	header http.Header
	body   []byte
}

func (p *parts) fill(v reflect.Value) error {
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		switch {
		case f.Anonymous:
			if err := p.fill(value); err != nil {
				return err
			}
		case f.Name == "Body" && value.Kind() == reflect.Pointer && value.IsNil(): // a body that is left out
		case f.Name == "Body":
			b, err := json.Marshal(value.Interface())
			if err != nil {
				return err
			}
			p.body = b
		default:
			if err := p.param(f.Tag, value); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func (p *parts) param(tag reflect.StructTag, v reflect.Value) error {
	path, isPath := tag.Lookup("path")
	if !isPath && v.IsZero() {
		return nil
	}
	s, err := text(v)
	if err != nil {
		return err
	}
	if isPath {
		p.path = strings.ReplaceAll(p.path, "{"+path+"}", url.PathEscape(s))
	} else if name, ok := tag.Lookup("query"); ok {
		p.query.Set(strings.Split(name, ",")[0], s)
	} else if name, ok := tag.Lookup("header"); ok {
		p.header.Set(name, s)
	}
	return nil
}

func text(v reflect.Value) (string, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		return string(b), err
	}
	switch v.Kind() {
	case reflect.Pointer:
		return text(v.Elem())
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			s, err := text(v.Index(i))
			if err != nil {
				return "", err
			}
			items[i] = s
		}
		return strings.Join(items, ","), nil
	default:
		return "", fmt.Errorf("a %s cannot be a parameter", v.Type())
	}
}

func decode[Out any](resp *http.Response, body []byte) (*Out, error) {
	out := new(Out)
	v := reflect.ValueOf(out).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, isHeader := f.Tag.Lookup("header")
		switch {
		case f.Name == "Body":
			if err := json.Unmarshal(body, v.Field(i).Addr().Interface()); err != nil {
				return nil, err
			}
		case f.Name == "Status":
			v.Field(i).SetInt(int64(resp.StatusCode))
		case isHeader && f.Type.Kind() == reflect.String:
			v.Field(i).SetString(resp.Header.Get(name))
		}
	}
	return out, nil
}
