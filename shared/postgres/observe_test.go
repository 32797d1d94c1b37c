package postgres_test

import (
	"testing"

	"souk/shared/testkit"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Not parallel: the tracer provider is the process's.
func TestOpen_showsStatementsAndNotTheirValues(t *testing.T) { //nolint:paralleltest // see above
	seen := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(seen)))
	db := testkit.Postgres(t)

	ctx, span := otel.Tracer("test").Start(t.Context(), "request")
	var n int
	if err := db.WithContext(ctx).Raw("SELECT 1 FROM pg_class WHERE relname <> ? LIMIT 1", "ann@souk.example").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Exec("DELETE FROM nothing_there").Error; err == nil {
		t.Fatal("deleted from a table that is not there")
	}
	if err := db.WithContext(t.Context()).Raw("SELECT 1").Scan(&n).Error; err != nil { // belongs to no request
		t.Fatal(err)
	}
	span.End()

	var names []string
	for _, s := range seen.Ended() {
		names = append(names, s.Name())
		for _, a := range s.Attributes() {
			if a.Value.AsString() == "ann@souk.example" {
				t.Errorf("%s has a value in %s", s.Name(), a.Key)
			}
		}
	}
	if len(names) != 3 || names[0] != "select pg_class" || names[1] != "delete nothing_there" {
		t.Errorf("spans %q", names)
	}
}
