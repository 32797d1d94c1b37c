// Package trace is an OTLP collector for checks: it keeps the spans that the services of a shop send it.
package trace

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one step of a trace.
type Span struct {
	Trace, ID, Parent string // hex; Parent is empty at the root
	Service, Name     string
	Attributes        map[string]string
}

// Sink collects spans over OTLP/HTTP until it is closed. It may be used concurrently.
type Sink struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	server *http.Server
	mu     sync.Mutex
	spans  map[string][]Span // by trace
}

// Listen starts a sink on a free port of 127.0.0.1.
func Listen() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it takes no time
	if err != nil {
		return nil, err
	}
	s := &Sink{URL: "http://" + l.Addr().String(), spans: map[string][]Span{}}
	s.server = &http.Server{Handler: http.HandlerFunc(s.receive), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.server.Serve(l) }() // until Close
	return s, nil
}

// Close ends the sink.
func (s *Sink) Close() error { return s.server.Close() }

// Env is the environment in which a service sends its spans here, without letting them wait.
func (s *Sink) Env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL, "OTEL_BSP_SCHEDULE_DELAY=100"}
}

func (s *Sink) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	data := new(tracepb.TracesData) // on the wire the same as ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, data) != nil {
		http.Error(w, "this is no OTLP", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range data.GetResourceSpans() {
		service := attributes(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := hex.EncodeToString(span.GetTraceId())
				s.spans[id] = append(s.spans[id], Span{
					Trace: id, ID: hex.EncodeToString(span.GetSpanId()), Parent: hex.EncodeToString(span.GetParentSpanId()),
					Service: service, Name: span.GetName(), Attributes: attributes(span.GetAttributes()),
				})
			}
		}
	}
}

func attributes(kvs []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			m[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return m
}

// Trace is the spans of one trace that have come so far.
func (s *Sink) Trace(id string) []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.spans[id])
}

// Len is how many traces there are.
func (s *Sink) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spans)
}
