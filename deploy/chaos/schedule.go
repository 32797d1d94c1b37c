package chaos

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"souk/shared/crash"
)

// The services that are broken, and how many of each there are. The gateway has no part in the protocol.
var casts = []cast{ //nolint:gochecknoglobals // never changes
	{"coordinator", 2}, {"product", 2}, {"payment", 2}, {"order", 2}, {"user", 2},
}

type cast struct {
	service   string
	instances int
}

func (c cast) names() []string {
	names := make([]string, c.instances)
	for i := range names {
		names[i] = c.service + "-" + strconv.Itoa(i+1)
	}
	return names
}

// deed is what is done to something.
type deed string

const (
	kill     deed = "kill"     // SIGKILL to one instance
	massacre deed = "massacre" // SIGKILL to all of a service at once
	spare    deed = "spare"    // SIGKILL to all coordinators but one
	hang     deed = "hang"     // SIGSTOP, and SIGCONT after a while
	power    deed = "power"    // PostgreSQL ends at once, as by pg_ctl -m immediate, and is started again
	registry deed = "consul"   // Consul is killed, and started again after a while
)

// step is one deed of the script.
type step struct {
	at   time.Duration // after the beginning
	do   deed
	who  []string
	wait time.Duration // of hang and registry: until it is over
}

func (s step) String() string {
	return fmt.Sprintf("(%6.2fs) %-8s %v %s", s.at.Seconds(), s.do, s.who, s.wait.Round(time.Millisecond))
}

// start is one start of an instance.
type start struct {
	pause  time.Duration // from its death on
	point  string        // at which it dies; empty for none
	nth    int           // when it gets there for that time
	faults uint64        // the seed of its messages' fates
}

// schedule is all that is done to a shop.
type schedule struct {
	seed  uint64
	steps []step
}

const (
	settleIn  = time.Second             // before the first deed, for some work to be under way
	meanGap   = 1300 * time.Millisecond // between two deeds
	longPause = 800 * time.Millisecond  // until something dead is started again
)

// newSchedule is what the seed makes of a campaign of that length.
func newSchedule(seed uint64, length time.Duration) schedule {
	s := schedule{seed: seed}
	r := s.rand("script")
	var all []string
	for _, c := range casts {
		all = append(all, c.names()...)
	}
	// The rare deeds come from a pack that is dealt to its end, so that a short campaign has one of each.
	var pack []deed
	for at := settleIn; at < length-settleIn; at += time.Duration((0.3 + 1.4*r.Float64()) * float64(meanGap)) {
		if len(pack) == 0 {
			pack = []deed{kill, kill, kill, kill, kill, kill, kill, massacre, spare, hang, hang, power, power, registry}
			r.Shuffle(len(pack), func(i, j int) { pack[i], pack[j] = pack[j], pack[i] })
		}
		st := step{at: at, do: pack[0]}
		pack = pack[1:]
		switch st.do {
		case kill:
			// Half of them are coordinators: they are the ones that all wait for.
			if st.who = []string{all[r.IntN(len(all))]}; r.IntN(10) < 4 {
				st.who = []string{pick(r, casts[0].names())}
			}
		case massacre:
			st.who = casts[r.IntN(len(casts))].names()
		case spare:
			st.who = casts[0].names()
			st.who = slices.Delete(st.who, 0, 1)
			if r.IntN(2) == 0 {
				st.who = casts[0].names()[:casts[0].instances-1]
			}
		case hang:
			st.who = []string{pick(r, all)}
			st.wait = time.Duration(r.Float64() * float64(3*time.Second))
		case power:
			st.who = []string{"postgres"}
		case registry:
			st.who = []string{"consul"}
			st.wait = time.Duration(r.Float64() * float64(4*time.Second))
		}
		s.steps = append(s.steps, st)
	}
	return s
}

// start says how the nth start of an instance goes, counted from 0, which is the one of the whole shop.
func (s schedule) start(instance string, nth int) start {
	r := s.rand(instance)
	service, _, _ := strings.Cut(instance, "-")
	points := pointsOf(service)
	r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	var st start
	for i := range nth + 1 {
		st = start{pause: time.Duration(r.Float64() * float64(longPause)), faults: r.Uint64()}
		// Now and then it is left to live, or only killing from outside would ever be left to do.
		if n := 1 + r.IntN(30); r.IntN(2) == 0 {
			st.point, st.nth = points[i%len(points)], n
		}
	}
	return st
}

// pointsOf is every point that an instance of service can get to.
func pointsOf(service string) []string {
	coordinator, participant := crash.Writes()
	around := func(points []string, before, after string, messages ...string) []string {
		for _, m := range messages {
			points = append(points, before+m, after+m)
		}
		return points
	}
	if service == "coordinator" {
		points := around(coordinator, crash.BeforeSend, crash.AfterSend, "prepare", "prepare-all", "finish")
		return around(points, crash.BeforeServe, crash.BeforeAnswer, "begin", "resolve", "abort")
	}
	points := around(participant, crash.BeforeServe, crash.BeforeAnswer, "prepare", "prepare-all", "finish")
	points = around(points, crash.BeforeSend, crash.AfterSend, "resolve")
	switch service {
	case "order":
		points = around(points, crash.BeforeSend, crash.AfterSend, "begin")
	case "payment":
		points = around(points, crash.BeforeSend, crash.AfterSend, "begin", "abort")
	}
	return points
}

// Shares of the messages that a fate befalls. A checkout is some fifteen messages, so that half of them meet one. Were many
// more lost, the breakers would stay open, and little would happen; one that is only slow trips nothing, and lets the abort
// overtake its prepare.
const fates = "lose=0.004&late=0.006&deaf=0.004&delay=0.025&twice=0.006"

// env is the environment of a process so started.
func (st start) env(whileFile string) []string {
	return []string{
		"SOUK_FAULTS=seed=" + strconv.FormatUint(st.faults, 10) + "&" + fates,
		"SOUK_FAULTS_WHILE=" + whileFile,
		"SOUK_CRASH_AT=" + st.point + ":" + strconv.Itoa(st.nth),
		"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0", // all the customers here have one address
	}
}

// rand is a source of its own for each purpose, so that one that is asked more often does not change the others.
func (s schedule) rand(purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // a hash takes everything
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
