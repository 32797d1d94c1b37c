//go:build crashpoints

package crash

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Message is the name of a message of the protocol in the points around it; empty for any other request. It is the last
// word of the path: prepare, finish, resolve, abort; and begin.
func message(r *http.Request) string {
	if r.Method != http.MethodPost {
		return ""
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/internal/v1/tx/"); ok {
		return rest
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/internal/v1/transactions")
	switch {
	case !ok:
		return ""
	case rest == "":
		return "begin"
	default:
		return rest[strings.LastIndexByte(rest, '/')+1:]
	}
}

// Handler has the points around what comes in. An answer of less than a buffer has not left when h returns.
func Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := message(r)
		if name == "" {
			h.ServeHTTP(w, r)
			return
		}
		At(BeforeServe + name)
		h.ServeHTTP(w, r)
		At(BeforeAnswer + name)
	})
}

// Transport has the points around what goes out, and does to messages what SOUK_FAULTS says: a query such as
// "seed=7&lose=0.01&late=0.01&deaf=0.01&delay=0.02&twice=0.02", each the share of messages that fate befalls.
func Transport(rt http.RoundTripper) http.RoundTripper {
	return &transport{next: rt, fates: fates()}
}

type transport struct {
	next  http.RoundTripper
	fates *dice
}

// The fates of a message.
const (
	lose  = "lose"  // it does not arrive
	late  = "late"  // its sender gives it up, and then it arrives
	deaf  = "deaf"  // it arrives, its answer does not
	delay = "delay" // it takes its time
	twice = "twice" // it arrives, and arrives once more
)

// How long a message may take: a copy or a straggler comes past the deadline of most transactions, which is five seconds.
const (
	longestDelay = 3 * time.Second
	latest       = 7 * time.Second
	givenUp      = 500 * time.Millisecond // until the sender learns that the connection is gone
	deliverTime  = 10 * time.Second
)

// reset is what the sender of r sees of a connection that was there and has gone.
func reset(r *http.Request) error {
	if t := httptrace.ContextClientTrace(r.Context()); t != nil {
		t.GetConn(r.URL.Host)
		t.GotConn(httptrace.GotConnInfo{})
	}
	return &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
}

// RoundTrip sends r, or does to it what its fate is.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	name := message(r)
	if name != "" {
		At(BeforeSend + name)
	}
	resp, err := t.send(r)
	if name != "" && err == nil {
		At(AfterSend + name)
	}
	return resp, err
}

func (t *transport) send(r *http.Request) (*http.Response, error) {
	fate, pause := t.fates.cast()
	if fate == "" || !on() {
		return t.next.RoundTrip(r)
	}
	report(r, fate)
	switch fate {
	case lose:
		if r.Body != nil {
			_ = r.Body.Close()
		}
		wait(r.Context(), scaled(pause, givenUp))
		return nil, reset(r)
	case deaf:
		resp, err := t.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return nil, reset(r)
	case delay:
		wait(r.Context(), scaled(pause, longestDelay))
		return t.next.RoundTrip(r)
	}
	now, copied, err := copies(r)
	if err != nil {
		return nil, err
	}
	go t.deliver(copied, scaled(pause, latest))
	if fate == twice {
		return t.next.RoundTrip(now)
	}
	wait(r.Context(), scaled(pause, givenUp))
	return nil, reset(r)
}

// deliver sends a copy that nobody waits for, after a while.
func (t *transport) deliver(r *http.Request, after time.Duration) {
	ctx, cancel := context.WithTimeout(r.Context(), after+deliverTime)
	defer cancel()
	if wait(ctx, after); !on() {
		return // when the faults are over they are over
	}
	if resp, err := t.next.RoundTrip(r.WithContext(ctx)); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// copies makes two of r; the second outlives the first one's context.
func copies(r *http.Request) (now, then *http.Request, err error) {
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, nil, err
		}
		_ = r.Body.Close()
	}
	now, then = r.Clone(r.Context()), r.Clone(context.WithoutCancel(r.Context()))
	if r.Body != nil {
		now.Body, then.Body = io.NopCloser(bytes.NewReader(body)), io.NopCloser(bytes.NewReader(body))
	}
	return now, then, nil
}

func scaled(share float64, longest time.Duration) time.Duration {
	return time.Duration(share * float64(longest))
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// dice decide the fates of a process's messages.
type dice struct {
	mu     sync.Mutex
	rand   *rand.Rand
	shares map[string]float64
}

var fates = sync.OnceValue(func() *dice { //nolint:gochecknoglobals // one per process, so that its messages are one sequence
	q, err := url.ParseQuery(os.Getenv("SOUK_FAULTS"))
	if err != nil {
		panic(err) // a campaign that disturbs nothing would prove nothing
	}
	seed, _ := strconv.ParseUint(q.Get("seed"), 10, 64) // none is zero
	d := &dice{rand: rand.New(rand.NewPCG(seed, seed)), shares: map[string]float64{}}
	for _, fate := range []string{lose, late, deaf, delay, twice} {
		d.shares[fate], _ = strconv.ParseFloat(q.Get(fate), 64) // none is zero
	}
	return d
})

// cast gives a fate, empty for the usual one, and a number of 0 to 1 for how long it takes.
func (d *dice) cast() (fate string, pause float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, pause := d.rand.Float64(), d.rand.Float64()
	for _, fate := range []string{lose, late, deaf, delay, twice} {
		if n -= d.shares[fate]; n < 0 {
			return fate, pause
		}
	}
	return "", pause
}

func report(r *http.Request, fate string) {
	fmt.Fprintf(os.Stdout, `{"time":%q,"level":"INFO","msg":"message disturbed","fate":%q,"method":%q,"path":%q,"to":%q,"key":%q}`+"\n",
		time.Now().UTC().Format(time.RFC3339Nano), fate, r.Method, r.URL.Path, r.URL.Host, r.Header.Get("Idempotency-Key"))
}
