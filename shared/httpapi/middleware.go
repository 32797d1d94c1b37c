package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/telemetry"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// RequestTimeout is the header in which a caller says how many milliseconds are left for the call. It is relative, so
// clocks need not agree. The gateway removes it from what comes from outside.
const RequestTimeout = "X-Request-Timeout-Ms"

// ForwardedPrefix is the header in which the gateway says what it cut from the front of the path.
const ForwardedPrefix = "X-Forwarded-Prefix"

// leastTime is too little to do anything in: a request that comes with less is refused unexecuted.
const leastTime = 10 * time.Millisecond

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// route is what a request is called: in problems by its path, in its log event and metrics by its name.
type route struct {
	path   string // with what the gateway cut from its front
	name   string
	open   bool // no operation named it, so a handler may
	stream bool
	turned bool // away, by Refuse
}

type routeKey struct{}

// NameRoute names the request of ctx in its log event and metrics, for a handler that Fallback calls. The names must be
// few: each is a time series.
func NameRoute(ctx context.Context, name string) {
	if r, ok := ctx.Value(routeKey{}).(*route); ok && r.open {
		r.name = name
	}
}

// NameStream is NameRoute for an answer that goes on for as long as its client likes: that is no time to answer, and is left
// out of the metric of those.
func NameStream(ctx context.Context, name string) {
	if r, ok := ctx.Value(routeKey{}).(*route); ok && r.open {
		r.name, r.stream = name, true
	}
}

func pathFrom(ctx context.Context) string {
	if r, ok := ctx.Value(routeKey{}).(*route); ok {
		return r.path
	}
	return ""
}

// observe names the request, and writes its one log event and its metrics when it is over, be it by a panic.
func (s *Server) observe(c *gin.Context) {
	to := &route{name: cmp.Or(s.templates[c.FullPath()], c.FullPath())}
	over := s.begin(c.Writer, &c.Request, to)
	defer func() { over(c.Writer.Status()) }()
	c.Next()
}

// begin gives the request that r points to its id, its name and its log event. What it returns says that it is over.
func (s *Server) begin(w http.ResponseWriter, r **http.Request, to *route) (over func(status int)) {
	start, in := time.Now(), *r
	id := in.Header.Get(contract.RequestID)
	if !requestID.MatchString(id) {
		id = uuid.Must(uuid.NewV7()).String()
	}
	w.Header()[contract.RequestID] = []string{id}
	ctx := contract.WithRequestID(in.Context(), id)
	if client := in.Header.Get(contract.ClientAddress); client != "" {
		ctx = contract.WithClient(ctx, client)
	}
	to.path = in.Header.Get(ForwardedPrefix) + in.URL.Path
	if to.name == "" {
		to.name, to.open = "none", true
	}
	ctx = context.WithValue(ctx, routeKey{}, to)
	ctx, noted := telemetry.WithEvent(ctx)
	*r = in.WithContext(ctx)
	s.seen.inflight.Inc()
	return func(status int) {
		s.seen.inflight.Dec()
		s.record(*r, id, *to, status, time.Since(start), noted())
	}
}

// Refuse answers r with err in front of the server, for a handler that Around has put there: the answer, the log event, in
// which noted will be, and the metrics, under the route's name, are as if the server had been asked, at a fraction of the price.
// It is for what is refused by the thousand. The event is no warning, since nothing went wrong here.
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, name string, err error, noted ...slog.Attr) {
	over := s.begin(w, &r, &route{name: name, turned: true})
	telemetry.Note(r.Context(), noted...)
	over(refuse(w, r, err))
}

// record counts and logs a request that is over.
func (s *Server) record(r *http.Request, id string, to route, status int, took time.Duration, noted []slog.Attr) {
	ctx, method := r.Context(), methodLabel(r.Method)
	s.seen.counter(to.name, method, status).Inc()
	if !to.stream {
		telemetry.Observe(ctx, s.seen.timer(to.name, method), took.Seconds())
	}
	telemetry.Answered(ctx, method, to.name, status, id)

	level := slog.LevelInfo
	if s.quiet[to.name] && status < http.StatusBadRequest {
		level = slog.LevelDebug
	}
	if status >= http.StatusInternalServerError && !to.turned {
		level = slog.LevelWarn
	}
	if status == http.StatusInternalServerError {
		level = slog.LevelError // a bug: a person should look
	}
	if !s.cfg.Log.Enabled(ctx, level) {
		return
	}
	attrs := append([]slog.Attr{
		slog.String("request_id", id), slog.String("method", r.Method), slog.String("route", to.name),
		slog.Int("status", status), slog.Float64("duration_ms", float64(took.Microseconds())/1000),
	}, noted...)
	if t := telemetry.TraceID(ctx); t != "" {
		attrs = append(attrs, slog.String("trace_id", t))
	}
	s.cfg.Log.LogAttrs(ctx, level, "request", attrs...)
}

// methodLabel keeps made-up methods from becoming time series.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

// recover answers a panic with 500, and leaves its stack in the log event.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
			telemetry.Note(c.Request.Context(), slog.Bool("aborted", true))
			panic(v) // a proxy that lost its client: net/http knows what to do
		}
		telemetry.Note(c.Request.Context(), slog.String("stack", string(debug.Stack())))
		writeProblem(c, fmt.Errorf("panic: %v", v))
	}()
	c.Next()
}

// readable refuses a query that cannot be read as a whole. net/http drops what it cannot read of one, and a filter that
// is silently not applied answers another question than was asked.
func readable(c *gin.Context) {
	query := c.Request.URL.RawQuery
	if query == "" {
		return
	}
	if _, err := url.ParseQuery(query); err != nil {
		writeProblem(c, fault.New(fault.Malformed, "malformed_query", "the query of the URL cannot be read").Because(err))
	}
}

// limitTime gives the request the time its caller has left, and never more than MaxTime.
func (s *Server) limitTime(c *gin.Context) {
	limit := MaxTime
	if sent := c.GetHeader(RequestTimeout); sent != "" {
		if ms, err := strconv.ParseInt(sent, 10, 32); err == nil {
			limit = min(limit, time.Duration(ms)*time.Millisecond)
		}
	}
	if limit < leastTime {
		s.seen.late.WithLabelValues("refused").Inc()
		writeProblem(c, fault.New(fault.Deadline, "", "no time is left for this request"))
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), limit)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.seen.late.WithLabelValues("working").Inc()
	}
}

// limitBody refuses a body that is too large: at once if its length is known, else when it is read.
func limitBody(c *gin.Context) {
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		return
	}
	w := innermost(c.Writer)
	if c.Request.ContentLength > BodyLimit {
		// Reading past a limit is what makes net/http wait, after our answer, for a client that is still sending. Otherwise
		// it would reset the connection, and the client might never see the answer. One that asked before sending is not
		// sending yet, and reading would tell it to.
		if c.GetHeader("Expect") == "" {
			_, _ = http.MaxBytesReader(w, c.Request.Body, 0).Read(make([]byte, 1))
		}
		writeProblem(c, fault.New(fault.TooLarge, "", "the body is larger than %d bytes", BodyLimit))
		return
	}
	c.Request.Body = http.MaxBytesReader(w, c.Request.Body, BodyLimit)
}

// innermost is net/http's own writer inside those that were put around it: only that one can be told of a limit.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// metrics keep their children, because looking one up costs ten times as much as counting with it.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inflight prometheus.Gauge
	shed     *prometheus.CounterVec // by priority
	late     *prometheus.CounterVec // by where

	counters children[prometheus.Counter]
	timers   children[prometheus.Observer]
}

func (m *metrics) counter(route, method string, status int) prometheus.Counter {
	return m.counters.get(seriesKey{route, method, status}, func() prometheus.Counter {
		return m.requests.WithLabelValues(route, method, strconv.Itoa(status))
	})
}

func (m *metrics) timer(route, method string) prometheus.Observer {
	return m.timers.get(seriesKey{route: route, method: method}, func() prometheus.Observer {
		return m.seconds.WithLabelValues(route, method)
	})
}

// seriesKey names a child; status is zero where it is no label.
type seriesKey struct {
	route, method string
	status        int
}

// children are those that were looked up before.
type children[C any] struct {
	mu    sync.RWMutex
	known map[seriesKey]C
}

func (c *children[C]) get(key seriesKey, find func() C) C {
	c.mu.RLock()
	child, ok := c.known[key]
	c.mu.RUnlock()
	if ok {
		return child
	}
	child = find() // whoever comes second finds the same
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[seriesKey]C)
	}
	c.known[key] = child
	return child
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_server_requests_total", Help: "Requests answered.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mesh_server_request_seconds", Help: "Time to answer a request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mesh_server_inflight", Help: "Requests being answered."}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_server_shed_total", Help: "Requests refused because there was too much to do.",
		}, []string{"priority"}),
		late: telemetry.DeadlineExceeded(r),
	}
	r.MustRegister(m.requests, m.seconds, m.inflight, m.shed)
	return m
}
