package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"souk/shared/telemetry"

	"go.opentelemetry.io/otel"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Not parallel: the tracer provider is the process's.
func TestStartTracing_exportsOverOTLP(t *testing.T) { //nolint:paralleltest // see above
	got := make(chan *tracepb.TracesData, 1)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		data := new(tracepb.TracesData)
		if err != nil || proto.Unmarshal(body, data) != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("not OTLP: %s %s", r.Method, r.URL.Path)
		}
		got <- data
	}))
	defer sink.Close()
	stop, err := telemetry.StartTracing(t.Context(), "shed", "shed-1", sink.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := otel.Tracer("test").Start(t.Context(), "work")
	if telemetry.TraceID(ctx) != span.SpanContext().TraceID().String() {
		t.Error("the trace id is not the span's")
	}
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := (<-got).GetResourceSpans()
	if len(spans) != 1 || spans[0].GetScopeSpans()[0].GetSpans()[0].GetName() != "work" {
		t.Errorf("got %v", spans)
	}
}
