package postgres

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"souk/shared/telemetry"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// operations are the labels of statements, by their first word; whatever begins otherwise is "other". BEGIN and COMMIT are
// among them: a commit is where a transaction waits for the disk.
var operations = []string{"select", "insert", "update", "delete", "with", "set", "begin", "commit", "rollback", "other"} //nolint:gochecknoglobals // never changes

// observer sees every statement on its way to the server: pgx calls it. It never looks at arguments.
type observer struct {
	seconds map[string]prometheus.Observer // by operation
	errors  *prometheus.CounterVec         // by SQLSTATE
}

// newObserver makes an observer whose metrics are on reg; nil keeps them unregistered.
func newObserver(reg prometheus.Registerer) *observer {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "postgres_statement_seconds", Help: "Time of a statement, without the wait for a connection.",
		Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"operation"})
	o := &observer{
		seconds: map[string]prometheus.Observer{},
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postgres_statement_errors_total", Help: "Statements that failed, by SQLSTATE; without one the server gave no answer.",
		}, []string{"sqlstate"}),
	}
	for _, op := range operations {
		o.seconds[op] = seconds.WithLabelValues(op)
	}
	o.errors.WithLabelValues("") // so that a rate of zero is a zero, and not nothing
	if reg != nil {
		reg.MustRegister(seconds, o.errors)
	}
	return o
}

// statement is one on its way.
type statement struct {
	began     time.Time
	operation string
	span      trace.Span
}

type statementKey struct{}

// TraceQueryStart is part of pgx.QueryTracer.
func (o *observer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s := &statement{operation: operationOf(data.SQL)}
	// The texts have placeholders where the values go, and nothing else that is a caller's.
	if ctx, s.span = telemetry.Start(ctx, "sql"); s.span.IsRecording() {
		s.describe(data.SQL)
	}
	s.began = time.Now()
	return context.WithValue(ctx, statementKey{}, s)
}

// TraceQueryEnd is part of pgx.QueryTracer.
func (o *observer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if s, ok := ctx.Value(statementKey{}).(*statement); ok {
		o.ended(s, data.Err)
	}
}

// batchKey is for when the latest result of a batch came, or the batch began.
type batchKey struct{}

// TraceBatchStart is part of pgx.BatchTracer.
func (o *observer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	began := time.Now()
	return context.WithValue(ctx, batchKey{}, &began)
}

// TraceBatchQuery is part of pgx.BatchTracer: the result of one statement of a batch has been read.
func (o *observer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	last, ok := ctx.Value(batchKey{}).(*time.Time)
	if !ok {
		return
	}
	s := &statement{began: *last, operation: operationOf(data.SQL)}
	if _, s.span = telemetry.StartAt(ctx, *last, "sql"); s.span.IsRecording() {
		s.describe(data.SQL)
	}
	o.ended(s, data.Err)
	*last = time.Now()
}

// TraceBatchEnd is part of pgx.BatchTracer.
func (o *observer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (s *statement) describe(sql string) {
	s.span.SetName(summary(s.operation, sql))
	s.span.SetAttributes(semconv.DBSystemNamePostgreSQL, semconv.DBOperationName(s.operation), semconv.DBQueryText(sql))
}

func (o *observer) ended(s *statement, err error) {
	o.seconds[s.operation].Observe(time.Since(s.began).Seconds())
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		code := ""
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			code = pg.Code
			s.span.SetAttributes(semconv.DBResponseStatusCode(code))
		}
		o.errors.WithLabelValues(code).Inc()
		telemetry.End(s.span, withKind(err))
		return
	}
	s.span.End()
}

func operationOf(sql string) string {
	word, _, _ := strings.Cut(strings.TrimLeft(sql, " \t\n"), " ")
	for _, op := range operations {
		if strings.EqualFold(word, op) {
			return op
		}
	}
	return "other"
}

var target = regexp.MustCompile(`(?i)\b(?:from|into|update)\s+([a-z_]+)`)

// summary is a short name of a statement: what it does, and to which table first.
func summary(operation, sql string) string {
	if m := target.FindStringSubmatch(sql); m != nil {
		return operation + " " + m[1]
	}
	return operation
}
