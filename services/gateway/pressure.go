package gateway

import (
	"hash/fnv"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"souk/shared/fault"
	"souk/shared/mesh"

	"github.com/prometheus/client_golang/prometheus"
)

// pressure bounds how many requests the services behind the gateway are asked at a time, and finds out by itself how many
// that may be: as many as they answer in good time. More would not be answered sooner but later, and in the end nobody in
// time. Who is over the bound is told at once to come back, which costs next to nothing.
//
// The bound moves as TCP's window does: while requests are answered in time and there is a use for more, up by one, or a
// fiftieth, ten times a second; when more than one in ten is late, down. It may be used concurrently.
//
// Requests are refused by customer. A visit is several requests, and were each refused by chance, hardly anybody would come to
// the end of one: with one in ten let in, one visit of three requests in a thousand. So while the bound is full, a share of
// the customers is let in with everything they ask, and the others with nothing but to pay (user-level admission, as in
// "Overload Control for Scaling WeChat Microservices", SoCC 2018). The share narrows when the bound is met, and widens while
// there is room.
//
// The services' own bound (httpapi.Server.Admit) is their last defence. It cannot replace this one: what is refused in the
// middle of a checkout has already cost its beginning.
type pressure struct {
	mu    sync.Mutex
	limit float64
	taken int

	open     float64 // the share of the customers who are let in
	opened   time.Time
	counted  time.Time // since then, of their requests:
	let, met int       // were let in; met the bound
	stale    int       // of those who were in then, so many have not gone

	// Since the window began:
	began       time.Time
	ended, late int
	most        int // of taken

	limitGauge prometheus.Gauge
	openGauge  prometheus.Gauge
	shed       *prometheus.CounterVec // by priority
}

const (
	firstLimit = 128
	// Of two cores that serve 250 requests a second, so many make one wait an eighth of a second, which is no collapse; and a
	// machine that is slow for a moment, for whatever reason, need not refuse the few customers it has.
	leastLimit  = 32
	mostLimit   = 1024
	rankSteps   = 1021 // a prime, for FNV's low bits
	windowTime  = 100 * time.Millisecond
	windowLeast = 10 // requests, without which a window says nothing

	// When the bound is met the share narrows, by the part of its requests that met it; and again only when those who were in
	// have gone, because it cannot be seen before whether that was enough: while a service stands still for a moment, everybody
	// meets the bound. From then on the share follows the room below the bound, until nobody needs to be refused: it leans
	// towards the usual room at once, which damps it, and moves there with time. Who meets the bound in the middle of a visit
	// has wasted the first half of it, so there is room even in a crush; after one, everybody is let in within three seconds.
	leastOpen  = 0.01
	narrowMost = 0.5
	usualRoom  = 0.4 // of the bound
	leaning    = 0.5 // of the share, for all the room there could be
	moving     = 1.5 // the same, in a second

	// What is late is what the shop's objectives call so (deploy/monitoring/slo.yml).
	lateRead  = 250 * time.Millisecond
	lateWrite = 500 * time.Millisecond
)

// newPressure makes a pressure whose metrics are on reg; nil keeps them unregistered.
func newPressure(reg prometheus.Registerer) *pressure {
	p := &pressure{
		limit: firstLimit,
		open:  1,
		limitGauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_limit", Help: "Requests that the services are asked at a time, at most; it adapts.",
		}),
		openGauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_admitted_ratio", Help: "The share of the customers who are let in with everything they ask.",
		}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_shed_total", Help: "Requests that were told to come back because there was too much to do, by priority.",
		}, []string{"priority"}),
	}
	p.limitGauge.Set(firstLimit)
	p.openGauge.Set(1)
	for _, priority := range []mesh.Priority{mesh.Sheddable, mesh.Normal, mesh.Critical} {
		p.shed.WithLabelValues(string(priority)) // so that a rate of zero is a zero, and not nothing
	}
	if reg != nil {
		reg.MustRegister(p.limitGauge, p.openGauge, p.shed)
	}
	return p
}

// enter takes a request of a customer in, or refuses it. Who was taken in leaves.
func (p *pressure) enter(w http.ResponseWriter, priority mesh.Priority, rank float64, now time.Time) error {
	p.mu.Lock()
	admitted := p.admit(priority, rank, now)
	p.mu.Unlock()
	if admitted {
		return nil
	}
	p.shed.WithLabelValues(string(priority)).Inc()
	w.Header().Set("Retry-After", "1")
	return fault.New(fault.Unavailable, "overloaded", "there is too much to do at the moment; come back in 1 s")
}

func (p *pressure) admit(priority mesh.Priority, rank float64, now time.Time) bool {
	if open := p.adapt(now); priority != mesh.Critical && rank >= open {
		return false
	}
	if float64(p.taken) >= p.limit*share(priority) {
		p.met++
		return false
	}
	p.let++
	p.taken++
	p.most = max(p.most, p.taken)
	return true
}

// adapt moves the share of the customers who are let in, and gives what it is at the moment.
func (p *pressure) adapt(now time.Time) float64 {
	if now.Sub(p.counted) >= windowTime && p.stale <= 0 {
		if p.met > 0 {
			p.open = max(leastOpen, p.open*max(narrowMost, 1-float64(p.met)/float64(p.met+p.let)))
		}
		p.counted, p.let, p.met, p.stale = now, 0, 0, p.taken
		p.openGauge.Set(p.open)
	}
	moved := now.Sub(p.opened).Seconds()
	p.opened = now
	if p.open >= 1 {
		return 1
	}
	over := 1 - float64(p.taken)/(p.limit*share(mesh.Sheddable)) - usualRoom
	p.open = min(1, max(leastOpen, p.open*math.Exp(over*moving*moved)))
	return p.open * (1 + leaning*over)
}

// rankOf is a customer's place, from 0 to 1, in the order in which customers are let in. It is by the signature of the token,
// which is not verified yet, or else by where they call from; both change, and so does the place.
func rankOf(r *http.Request, from netip.Addr, now time.Time) float64 {
	const tokenLife = 10 * time.Minute
	who := r.Header.Get("Authorization")
	if who = who[max(0, len(who)-32):]; who == "" { //nolint:mnd // enough of the signature
		who = from.String() + strconv.FormatInt(now.Unix()/int64(tokenLife.Seconds()), 10)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(who))
	return float64(h.Sum64()%rankSteps) / rankSteps
}

func (p *pressure) leave() {
	p.mu.Lock()
	p.taken--
	p.stale--
	p.mu.Unlock()
}

// learn takes how a request that was asked of a service went.
func (p *pressure) learn(now time.Time, late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began = now
	}
	p.ended++
	if late {
		p.late++
	}
	if p.ended < windowLeast || now.Sub(p.began) < windowTime {
		return
	}
	switch {
	case p.late*2 > p.ended:
		p.limit = max(leastLimit, p.limit*0.7)
	case p.late*10 > p.ended:
		p.limit = max(leastLimit, p.limit*0.9)
	case float64(p.most) > p.limit*share(mesh.Normal)*0.9: // or it would grow while nobody needs it
		p.limit = min(mostLimit, p.limit+max(1, p.limit/50))
	}
	p.limitGauge.Set(p.limit)
	p.began, p.ended, p.late, p.most = now, 0, 0, p.taken
}

// share is how much of the limit a priority may fill: to pay finds room where nothing else does. Between looking and ordering
// there is no difference here, or in a crush nobody could look.
func share(p mesh.Priority) float64 {
	if p == mesh.Critical {
		return 1
	}
	return 0.8
}

// priorityOf says what of r would be lost: looking can be done again, and paying ends what has cost the most.
func priorityOf(r *http.Request) mesh.Priority {
	switch {
	case isRead(r.Method):
		return mesh.Sheddable
	case strings.HasSuffix(r.URL.Path, "/pay"), strings.HasSuffix(r.URL.Path, "/refunds"), strings.HasPrefix(r.URL.Path, "/api/v1/webhooks"):
		return mesh.Critical
	}
	return mesh.Normal
}

// isLate tells whether a request was answered later than is good. Those about passwords take their time on purpose, and say
// nothing.
func isLate(r *http.Request, took time.Duration, shed bool) bool {
	if isRead(r.Method) {
		return shed || took > lateRead
	}
	return shed || took > lateWrite
}
