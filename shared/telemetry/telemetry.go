// Package telemetry is how a service is seen from outside: structured logs (one event per request), Prometheus metrics
// and OpenTelemetry traces.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// NewLogger logs JSON lines to w, each with the service and the instance that wrote it.
func NewLogger(w io.Writer, level slog.Level, service, instance string) *slog.Logger {
	return slog.New(newLines(w, level)).
		With(slog.String("service", service), slog.String("instance", instance))
}

// NewMetrics is a registry that already has the process's and the Go runtime's own metrics.
func NewMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{
		Matcher: regexp.MustCompile(`^/sched/latencies:seconds$`), // whether there are too few cores, which nothing else tells
	})), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// StartTracing makes trace context travel with every call. Spans are exported over OTLP/HTTP when endpoint (a URL) is
// not empty. Stop sends what is left; call it last.
func StartTracing(ctx context.Context, service, instance, endpoint string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	if endpoint == "" {
		return func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptrace.New(ctx, newOTLPClient(endpoint))
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	p := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(resource.NewSchemaless(
		semconv.ServiceName(service), semconv.ServiceInstanceID(instance))))
	otel.SetTracerProvider(p)
	return p.Shutdown, nil
}

// TraceID is the trace that ctx belongs to; empty where there is none.
func TraceID(ctx context.Context) string {
	if s := oteltrace.SpanContextFromContext(ctx); s.HasTraceID() {
		return s.TraceID().String()
	}
	return ""
}

// event is the log event of one request, filled on the way and written once at its end.
type event struct {
	mu    sync.Mutex
	attrs []slog.Attr
	room  [6]slog.Attr // attrs', usually
}

type eventKey struct{}

// WithEvent returns a context that collects the attributes given to Note, and the function that gives them back.
func WithEvent(ctx context.Context) (context.Context, func() []slog.Attr) {
	e := new(event)
	e.attrs = e.room[:0]
	return context.WithValue(ctx, eventKey{}, e), func() []slog.Attr {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.attrs
	}
}

// Note adds attributes to the log event of the request that ctx belongs to; without one it does nothing. It is safe for
// concurrent use. Never note a body, a token, an address, or card or password data.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if e, ok := ctx.Value(eventKey{}).(*event); ok {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.attrs = append(e.attrs, attrs...)
	}
}
