package trace_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/deploy/local"
	"souk/deploy/monitoring/trace"
	"souk/deploy/shopper"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// told is every attribute that a span may have. None says who somebody is.
var told = []string{
	"http.request.method", "http.route", "http.response.status_code", "url.template", "peer.service", "server.address", "error.type",
	"db.system.name", "db.operation.name", "db.query.text", "db.response.status_code",
	"souk.request_id", "twopc.gid", "twopc.branches", "twopc.outcome",
}

// One purchase is one trace, from the edge to the SQL of every service that takes part.
func TestCheckout_isOneTraceDownToTheSQL(t *testing.T) {
	t.Parallel()
	sink, err := trace.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	dir := t.TempDir()
	shop, err := local.Up(t.Context(), local.Config{
		RunDir: dir, Instances: map[string]int{"product": 1, "payment": 1},
		Env: func(string) []string { return append(sink.Env(), "RATE_LOGIN=0") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shop.Down(t.Context()) }()
	ann, err := shopper.Customer(t.Context(), shop.Gateway, money.Money{Amount: 1000_00, Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	shelf, err := ann.Browse(t.Context(), "tea")
	if err != nil || len(shelf) == 0 {
		t.Fatalf("nobody sells tea: %v", err)
	}

	// The client's own trace is taken up, so we know what to look for.
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	next := ann.Client.Transport
	ann.Client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/pay") {
			r.Header.Set("Traceparent", "00-"+id+"-00f067aa0ba902b7-01")
			r.Header.Set("X-Request-Id", "the-purchase")
		}
		return next.RoundTrip(r)
	})
	if _, err := ann.Buy(t.Context(), shelf[0].ID, 1); err != nil {
		t.Fatal(err)
	}

	want := map[string]string{ // what is done, by whom: service and beginning of the name
		"the edge":      "gateway POST /api/v1/orders",
		"its call":      "gateway POST order/v1/orders",
		"the order":     "order POST /v1/orders/{id}/pay",
		"begin":         "order POST coordinator/internal/v1/transactions",
		"the whole":     "coordinator 2pc",
		"phase one":     "coordinator 2pc preparing",
		"the decision":  "coordinator 2pc deciding",
		"phase two":     "coordinator 2pc finishing",
		"its register":  "coordinator insert decision",
		"vote, order":   "order 2pc prepare pay",
		"vote, product": "product 2pc prepare sell",
		"vote, payment": "payment 2pc prepare charge",
		"vote, user":    "user 2pc prepare earn",
		"end, product":  "product 2pc finish committed",
		"end, payment":  "payment 2pc finish committed",
		"end, user":     "user 2pc finish committed",
		"end, order":    "order 2pc finish committed",
		"stock":         "product with stock",
		"money":         "payment update account",
		"points":        "user update points",
		"on disk":       "product commit",
	}
	var spans []trace.Span
	missing := func() (names []string) {
		spans = sink.Trace(id)
		for _, name := range want {
			if !slices.ContainsFunc(spans, func(s trace.Span) bool { return strings.HasPrefix(s.Service+" "+s.Name, name) }) {
				names = append(names, name)
			}
		}
		return names
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(missing()) > 0 && time.Now().Before(deadline) {
		<-time.After(50 * time.Millisecond)
	}
	if names := missing(); len(names) > 0 {
		t.Errorf("missing %q in:\n%s", names, tree(spans, "00f067aa0ba902b7", ""))
	}
	// Spans hang together: each begins in one that is there, but for the client's own.
	for _, s := range spans {
		if s.Parent != "00f067aa0ba902b7" && !slices.ContainsFunc(spans, func(p trace.Span) bool { return p.ID == s.Parent }) {
			t.Errorf("%s %s hangs in the air", s.Service, s.Name)
		}
		for key, value := range s.Attributes {
			if !slices.Contains(told, key) || strings.Contains(value, "@") || strings.Contains(value, ann.Email) || strings.Contains(value, "127.0.0.1") && key != "server.address" {
				t.Errorf("%s %s tells %s=%s", s.Service, s.Name, key, value)
			}
		}
	}

	// The log says the same ids, in every service.
	testkit.Eventually(t, 5*time.Second, func() bool {
		lines := 0
		for _, service := range []string{"gateway", "order", "coordinator", "product", "payment", "user"} {
			b, err := os.ReadFile(filepath.Join(dir, "logs", service+"-1.log"))
			if err != nil {
				t.Fatal(err)
			}
			if l := string(b); strings.Contains(l, `"trace_id":"`+id+`"`) && strings.Contains(l, `"request_id":"the-purchase"`) {
				lines++
			}
		}
		return lines == 6
	})
	anErrorTellsItsIDs(t, ann, sink, filepath.Join(dir, "logs", "order-1.log"))
}

// anErrorTellsItsIDs checks that an error answer names the line in the log and the trace that it is about.
func anErrorTellsItsIDs(t *testing.T, ann *shopper.Person, sink *trace.Sink, log string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://order/v1/orders/"+uuid.NewString(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := ann.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct {
		Code      string
		RequestID string `json:"request_id"`
		TraceID   string `json:"trace_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || problem.Code != "not_found" || problem.RequestID == "" || problem.TraceID == "" {
		t.Fatalf("%s %+v %v", resp.Status, problem, err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		logged := false
		for line := range strings.Lines(string(b)) {
			logged = logged || strings.Contains(line, problem.RequestID) && strings.Contains(line, problem.TraceID)
		}
		return logged && slices.ContainsFunc(sink.Trace(problem.TraceID), func(s trace.Span) bool {
			return s.Service == "order" && s.Name == "GET /v1/orders/{id}" && s.Attributes["souk.request_id"] == problem.RequestID
		})
	})
	t.Logf("an error answer, its log line and its trace say %s and %s", problem.RequestID, problem.TraceID)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// tree shows a trace as it hangs together.
func tree(spans []trace.Span, parent, indent string) string {
	var b strings.Builder
	for _, s := range spans {
		if s.Parent == parent {
			fmt.Fprintf(&b, "%s%s %s\n%s", indent, s.Service, s.Name, tree(spans, s.ID, indent+"  "))
		}
	}
	return b.String()
}
