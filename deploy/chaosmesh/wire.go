package main

import (
	"context"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/identity"
)

// The routes of a node. Those that begin with /internal are for the one who breaks it.
var (
	readThing = contract.Route[thingInput, thingOutput]{ //nolint:gochecknoglobals // never changes
		ID: "read-thing", Service: "node", Method: http.MethodGet, Path: "/v1/things", Permission: identity.Public, Summary: "Read a thing",
	}
	makeThing = contract.Route[thingInput, thingOutput]{ //nolint:gochecknoglobals // never changes
		ID: "make-thing", Service: "node", Method: http.MethodPost, Path: "/v1/things", Permission: identity.Public, Summary: "Make a thing",
	}
	setFault = contract.Route[contract.Body[fault], contract.None]{ //nolint:gochecknoglobals // never changes
		ID: "set-fault", Service: "node", Method: http.MethodPut, Path: "/internal/fault", Status: http.StatusNoContent, Permission: identity.Internal, Summary: "Misbehave",
	}
	seeWork = contract.Route[contract.None, contract.Body[work]]{ //nolint:gochecknoglobals // never changes
		ID: "see-work", Service: "node", Method: http.MethodGet, Path: "/internal/work", Permission: identity.Internal, Summary: "What came in",
	}
	beginLoad = contract.Route[contract.Body[load], contract.Body[loadName]]{ //nolint:gochecknoglobals // never changes
		ID: "begin-load", Service: "node", Method: http.MethodPost, Path: "/internal/loads", Permission: identity.Internal, Summary: "Begin to call",
	}
	endLoad = contract.Route[contract.Body[loadName], contract.Body[samples]]{ //nolint:gochecknoglobals // never changes
		ID: "end-load", Service: "node", Method: http.MethodPost, Path: "/internal/loads/end", Permission: identity.Internal, Summary: "Stop calling",
	}
	goIdle = contract.Route[contract.None, contract.None]{ //nolint:gochecknoglobals // never changes
		ID: "go-idle", Service: "node", Method: http.MethodPost, Path: "/internal/idle", Status: http.StatusNoContent, Permission: identity.Internal, Summary: "Close idle connections",
	}
)

type thingInput struct {
	ID string `query:"id" maxLength:"40"`
}

type thingOutput struct {
	Instance string `header:"X-Chaos-Instance"`
	Body     struct {
		Hops []hop `json:"hops"` // the one that answers first
	}
}

// hop is a node that a call came through.
type hop struct {
	Instance string `json:"instance"`
	LeftMs   int64  `json:"left_ms"` // until the deadline it was given
}

// fault is how a node misbehaves. The zero value is well.
type fault struct {
	Status   int     `json:"status"`    // answered at once; 0 answers as usual
	Share    float64 `json:"share"`     // of the calls; 0 is all
	Hang     bool    `json:"hang"`      // no answer before the fault is over, even if the caller has gone
	Factor   float64 `json:"factor"`    // times slower; 0 is 1
	PeriodMs int64   `json:"period_ms"` // there for so long, gone for so long, and so on; 0 stays
}

// work is what came in at a node since it was last asked, in microseconds of Unix time.
type work struct {
	Arrived []int64          `json:"arrived"`
	Stopped map[string]int64 `json:"stopped"` // by id: when the node saw that its caller had gone
}

// load is a number of calls, at an even rate.
type load struct {
	Callee      string  `json:"callee"`
	Method      string  `json:"method"`
	PerSecond   float64 `json:"per_second"`
	Calls       int     `json:"calls"`           // 0 goes on until it is ended
	CancelAfter int64   `json:"cancel_after_ms"` // when the caller gives up; 0 never
}

type loadName struct {
	Number int `json:"number"`
}

// sample is one call, as its caller saw it. Its time begins when it was due, not when the machine got round to it.
type sample struct {
	ID       string        `json:"i"`
	Began    int64         `json:"b"` // microseconds of Unix time
	Took     time.Duration `json:"t"`
	Result   string        `json:"r"` // "ok", a status, or a kind of mesh.Error
	Instance string        `json:"n"` // that answered, or that was tried last
}

type samples []sample

// at is a client of one node, whatever service it is.
func at(addr string) *http.Client {
	pool := &http.Transport{DisableKeepAlives: true} // so that we leave nothing open at a node whose files are counted
	return &http.Client{Timeout: 15 * time.Second, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Host = addr
		return pool.RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip is part of http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
