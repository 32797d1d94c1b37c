package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/telemetry"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
)

// answer is a problem on its way out, with the headers that its status calls for.
type answer struct {
	*fault.Problem
	wait      time.Duration
	elsewhere bool
}

// GetHeaders tells Huma the headers to answer with.
func (a answer) GetHeaders() http.Header {
	h := http.Header{}
	switch {
	case a.wait > 0:
		h["Retry-After"] = []string{strconv.Itoa(int(math.Ceil(a.wait.Seconds())))}
	case a.Status == http.StatusUnauthorized:
		h["Www-Authenticate"] = []string{`Bearer realm="souk"`}
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusServiceUnavailable:
		h["Retry-After"] = []string{"1"}
	}
	if a.elsewhere {
		h[elsewhereHeader] = []string{"1"}
	}
	return h
}

// problem is err as it is answered, and notes it in the request's log event: the cause is told there and nowhere else.
func problem(ctx context.Context, err error) answer {
	f := fault.Of(err)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && f.Kind == fault.Internal {
		f = fault.New(fault.Deadline, "", "the request took too long").Because(err)
	}
	p := f.Problem()
	p.RequestID, p.TraceID = contract.RequestIDFrom(ctx), telemetry.TraceID(ctx)
	p.Instance = pathFrom(ctx)
	telemetry.Note(ctx, slog.String("code", p.Code))
	if p.Status >= http.StatusInternalServerError {
		telemetry.Note(ctx, slog.String("error", err.Error()))
	}
	return answer{p, f.Wait, p.Status >= http.StatusInternalServerError && fault.IsElsewhere(err)}
}

// writeProblem answers with err from outside an operation.
func writeProblem(c *gin.Context, err error) {
	Problem(c.Writer, c.Request, err)
	c.Abort()
}

// Problem answers r with err as problem JSON. It is for plain handlers; an operation just returns its error. A Retry-After
// that the handler has set already stays.
func Problem(w http.ResponseWriter, r *http.Request, err error) { refuse(w, r, err) }

func refuse(w http.ResponseWriter, r *http.Request, err error) (status int) {
	p := problem(r.Context(), err)
	for name, values := range p.GetHeaders() {
		if _, set := w.Header()[name]; !set {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Content-Type", fault.ContentType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.Problem) // the client has gone: nobody is left to tell
	return p.Status
}

func (s *Server) refuse(f *fault.Error) gin.HandlerFunc {
	return func(c *gin.Context) { writeProblem(c, f) }
}

// humaErrors makes Huma's own refusals (validation, unreadable JSON) problems of ours, and makes it refuse a field whose
// name differs in case only, since it would check one of {"quantity": 1, "Quantity": -1} and encoding/json take the other,
// and null for a list, which would pass as having enough items. Huma keeps these hooks in package variables; they are set
// once, to what holds no state.
var humaErrors = sync.OnceFunc(func() { //nolint:gochecknoglobals // see above
	huma.ValidateStrictCasing, huma.DefaultArrayNullable = true, false
	huma.NewErrorWithContext = func(c huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return problem(c.Context(), humaFault(status, msg, errs))
	}
	// Without a context Huma asks only for an example of the shape, for the OpenAPI document.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return humaFault(status, msg, errs).Problem()
	}
})

// mostFields is how many wrong fields are told of at once. A body can have a hundred thousand.
const mostFields = 100

func humaFault(status int, msg string, errs []error) *fault.Error {
	f := fault.New(fault.OfStatus(status), "", "%s", msg)
	for _, err := range errs[:min(len(errs), mostFields)] {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return fault.Of(bodyFault(err))
		}
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			// The value is left out: it may be a password.
			f = f.With(fault.Field{Pointer: d.ErrorDetail().Location, Detail: d.ErrorDetail().Message})
		} else if err != nil {
			f = f.Because(err)
		}
	}
	if f.Kind == fault.Internal {
		f.Message = "internal error"
	}
	return f
}
