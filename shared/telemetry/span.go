package telemetry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"souk/shared/fault"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// Spans are made here and in shared/postgres alone, and say what kind of thing was done, never to whom: routes by their
// template, SQL with placeholders, ids of transactions and requests. otelhttp would add the client's address, its agent
// and the whole URL with what was searched for, and cannot be told not to.
const scope = "souk"

// Start begins a span inside the trace of ctx. Where ctx belongs to no recorded trace, as in a service's loops, it does
// nothing: only an HTTP request begins a trace. Give its error to End.
func Start(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return start(ctx, name, trace.SpanKindInternal, attrs...)
}

// StartAt is Start for what began a while ago.
func StartAt(ctx context.Context, at time.Time, name string) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, trace.SpanFromContext(nil) //nolint:staticcheck // the span that does nothing
	}
	return otel.Tracer(scope).Start(ctx, name, trace.WithTimestamp(at))
}

func start(ctx context.Context, name string, kind trace.SpanKind, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, trace.SpanFromContext(nil) //nolint:staticcheck // the span that does nothing
	}
	return otel.Tracer(scope).Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
}

// End ends a span. Of an error it keeps the kind: its text may have an address or a name in it.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		kind := fault.Of(err).Problem().Code
		if errors.Is(err, context.Canceled) {
			kind = "canceled"
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

// Handler takes up the trace that a request belongs to, or begins one, with a span of the answering. Answered says what
// it was.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") == "" && !recording() {
			next.ServeHTTP(w, r)
			return
		}
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := otel.Tracer(scope).Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		if span.SpanContext().IsValid() { // or there is neither a trace nor tracing
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// recording tells whether this process makes spans of its own.
func recording() bool {
	_, ok := otel.GetTracerProvider().(*sdk.TracerProvider)
	return ok
}

// Answered names the span of the request that ctx belongs to, once it is known what it was and how it ended.
func Answered(ctx context.Context, method, route string, status int, requestID string) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(method + " " + route)
	span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route), semconv.HTTPResponseStatusCode(status),
		attribute.String("souk.request_id", requestID))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, strconv.Itoa(status))
	}
}

// Transport makes a span of every request that next sends, and sends the trace with it. It ends with the response's
// headers.
func Transport(next http.RoundTripper) http.RoundTripper { return transport{next} }

type transport struct{ next http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return t.next.RoundTrip(r)
	}
	// The host is the callee's name, and the URL's the instance that is tried.
	ctx, span := start(r.Context(), r.Method+" "+r.Host+r.Pattern, trace.SpanKindClient,
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLTemplate(r.Pattern),
		semconv.PeerService(r.Host), semconv.ServerAddress(r.URL.Host))
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(r.Header))
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		span.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode))
		if resp.StatusCode >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, strconv.Itoa(resp.StatusCode))
		}
	}
	End(span, err)
	return resp, err
}

// Observe adds a time in seconds to a histogram, with the trace that it was spent in as exemplar, where one is recorded.
func Observe(ctx context.Context, o prometheus.Observer, seconds float64) {
	if s := trace.SpanContextFromContext(ctx); s.IsSampled() {
		if e, ok := o.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": s.TraceID().String()})
			return
		}
	}
	o.Observe(seconds)
}
