package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/services/gateway"
	"souk/shared/identity"
	"souk/shared/mesh"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// consul is a Surveyor whose answers a test sets. It blocks until there is a change, as Consul does.
type consul struct {
	mu      sync.Mutex
	survey  registry.Survey
	changed chan struct{}
}

func newConsul() *consul {
	return &consul{survey: registry.Survey{Leader: "here", Index: 1}, changed: make(chan struct{})}
}

func (c *consul) Survey(ctx context.Context, index uint64, wait time.Duration) (registry.Survey, error) {
	for {
		c.mu.Lock()
		s, changed := c.survey, c.changed
		c.mu.Unlock()
		if s.Index > index {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return registry.Survey{}, ctx.Err()
		case <-time.After(wait):
			return s, nil
		}
	}
}

func (c *consul) list(instances ...registry.Surveyed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.survey.Instances = instances
	c.survey.Index++
	close(c.changed)
	c.changed = make(chan struct{})
}

// process is a caller with a real mesh and an admin port that streams what it knows, ten times as often as in life.
type process struct {
	registry.Surveyed
	mesh    *mesh.Mesh
	service string
	started time.Time
	server  *httptest.Server
	readers atomic.Int64
	cut     context.CancelFunc // ends its streams
}

func startProcess(t *testing.T, service, id string, callee *httptest.Server) *process {
	t.Helper()
	p := &process{service: service, started: time.Now()}
	p.mesh = mesh.New(mesh.Config{Caller: service}, mesh.Deps{Resolver: addresses{
		"callee": {{ID: "callee-1", Addr: callee.Listener.Addr().String()}},
	}})
	t.Cleanup(p.mesh.Close)
	ctx, cut := context.WithCancel(t.Context())
	p.cut = cut
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.readers.Add(1)
		defer p.readers.Add(-1)
		for ctx.Err() == nil && r.Context().Err() == nil {
			s := p.mesh.Snapshot()
			s.Process = mesh.Process{Service: service, Instance: id, Started: p.started}
			b, err := json.Marshal(s)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "data: %s\n\n", b)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(func() { p.die() })
	host, port, err := net.SplitHostPort(p.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.Surveyed = registry.Surveyed{Service: service, Status: "passing", Instance: registry.Instance{
		ID: id, Addr: net.JoinHostPort(host, "1"), Meta: map[string]string{"metrics_port": port},
	}}
	return p
}

// die ends the process as a crash would.
func (p *process) die() {
	p.cut()
	p.server.CloseClientConnections()
	p.server.Close()
}

func (p *process) call(t *testing.T, times int) {
	t.Helper()
	for range times {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://callee/v1/things", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.mesh.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

// tick is what a browser is told every second.
type tick struct {
	Second struct {
		Traffic []struct {
			Caller, Callee string
			Calls          map[string]uint64
			Latency        [][2]uint64
		}
	}
	State struct {
		Instances []struct{ ID, Health, Reading string }
		Pairs     []struct{ Caller, Callee string }
	}
	Events []struct{ Kind, Process string }
}

// look follows the stream with token until the test ends or stop is called.
func (e *edge) look(t *testing.T, token string) (ticks <-chan tick, status int, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/ops/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req) //nolint:bodyclose // closed by the goroutine below
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && (resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store") {
		t.Errorf("the stream has the headers %v", resp.Header)
	}
	told := make(chan tick, 100)
	done := make(chan struct{})
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	go func() {
		defer close(done)
		defer close(told)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		event := ""
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == "tick" {
				var k tick
				if err := json.Unmarshal([]byte(data), &k); err != nil {
					t.Error(err)
				}
				told <- k
			}
		}
	}()
	return told, resp.StatusCode, stop
}

// until reads ticks until one is as wanted.
func until(t *testing.T, ticks <-chan tick, wanted func(tick) bool) {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		select {
		case k, ok := <-ticks:
			if !ok {
				t.Fatal("the stream ended")
			}
			if wanted(k) {
				return
			}
		case <-late:
			t.Fatal("it did not come in 15 s")
		}
	}
}

func (e *edge) roles(t *testing.T, age time.Duration, roles ...identity.Role) string {
	t.Helper()
	token, err := identity.Sign(identity.Principal{UserID: uuid.New(), Roles: roles}, e.key, "test", time.Now().Add(-age))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// start runs the gateway until the test ends, or stop is called.
func (e *edge) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func quick(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return s
}

// The page is anybody's; what it shows is for admins.
func TestOps_isForAdmins(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	stop := e.start(t)
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	for name, c := range map[string]struct {
		headers []string
		status  int
		code    string
	}{
		"nobody":         {nil, 401, "unauthenticated"},
		"another scheme": {[]string{"Authorization", "Basic YTpi"}, 401, "unauthenticated"},
		"garbage":        {bearer("abc"), 401, "invalid_token"},
		"expired":        {bearer(e.roles(t, time.Hour, identity.Admin)), 401, "token_expired"},
		"a customer":     {bearer(e.roles(t, 0, identity.Customer)), 403, "forbidden"},
		"without a role": {bearer(e.roles(t, 0)), 403, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			e.do(t, "GET", "/ops/stream", nil, c.headers...).Problem(t, c.status, c.code)
		})
	}
	admin := e.roles(t, 0, identity.Admin)
	e.do(t, "POST", "/ops/stream", nil, bearer(admin)...).Problem(t, 405, "method_not_allowed")
	testkit.Eventually(t, 5*time.Second, func() bool {
		_, status, stop := e.look(t, admin)
		defer stop()
		return status == http.StatusOK
	})
	stop()
	e.do(t, "GET", "/ops/stream", nil, bearer(admin)...).Problem(t, 503, "unavailable")
}

func TestOps_loadsNothingFromOutside(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	page := e.do(t, "GET", "/ops", nil)
	page.Into(t, 200, nil)
	if regexp.MustCompile(`(?i)<style|<script>|\son\w+=|\sstyle=`).Match(page.Body) {
		t.Error("the page has a script or style of its own, which the policy forbids")
	}
	files := map[string]bool{}
	queue := []string{"/ops", "/ops/"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if files[path] {
			continue
		}
		files[path] = true
		got := e.do(t, "GET", path, nil)
		got.Into(t, 200, nil)
		if policy := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		text := strings.ReplaceAll(string(got.Body), "http://www.w3.org/2000/svg", "") // a name, not an address
		if outside := regexp.MustCompile(`(?i)https?://|@import|url\(|innerHTML|eval\(`).FindString(text); outside != "" {
			t.Errorf("%s has %q in it", path, outside)
		}
		for _, link := range regexp.MustCompile(`(?:src|href)="(/[^"]+)"|from '\.(/[^']+)'`).FindAllStringSubmatch(text, -1) {
			if link[1] != "" {
				queue = append(queue, link[1])
			} else {
				queue = append(queue, "/ops"+link[2])
			}
		}
	}
	if len(files) < 8 {
		t.Errorf("the page is made of %v only", files)
	}
}

// Two processes of one service are one caller: their calls and their histograms add up. A process that dies ends nothing.
func TestOps_addsUpProcessesAndSurvivesThem(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	e.start(t)
	callee := quick(t)
	one, two := startProcess(t, "caller", "caller-1", callee), startProcess(t, "caller", "caller-2", callee)
	one.call(t, 100) // before anybody looks: not to be shown
	e.consul.list(one.Surveyed, two.Surveyed)
	ticks, _, _ := e.look(t, e.roles(t, 0, identity.Admin))
	until(t, ticks, func(k tick) bool {
		live := 0
		for _, in := range k.State.Instances {
			if in.Reading == "live" {
				live++
			}
		}
		return live == 2
	})
	one.call(t, 7)
	two.call(t, 5)
	calls, measured := uint64(0), uint64(0)
	until(t, ticks, func(k tick) bool {
		for _, tr := range k.Second.Traffic {
			if tr.Caller != "caller" || tr.Callee != "callee" {
				t.Errorf("traffic between %s and %s", tr.Caller, tr.Callee)
			}
			calls += tr.Calls["success"]
			for _, bucket := range tr.Latency {
				measured += bucket[1]
			}
		}
		return calls >= 12
	})
	if calls != 12 || measured != 12 {
		t.Errorf("%d calls were shown and %d in histograms, want 12 of each", calls, measured)
	}

	two.die()
	until(t, ticks, func(k tick) bool {
		return slices.ContainsFunc(k.Events, func(e struct{ Kind, Process string }) bool {
			return e.Kind == "unreadable" && e.Process == "caller-2"
		})
	})
	one.call(t, 3)
	until(t, ticks, func(k tick) bool {
		for _, tr := range k.Second.Traffic {
			calls += tr.Calls["success"]
		}
		return calls == 15
	})
	e.consul.list(one.Surveyed)
	until(t, ticks, func(k tick) bool { return len(k.State.Instances) == 1 })
}

// However many look, a process is read once, and not at all when nobody has looked for a while.
func TestOps_readsOnceAndOnlyWhileSomebodyLooks(t *testing.T) {
	t.Parallel()
	now := newClock()
	e := setupWith(t, gateway.Config{}, addresses{}, now.now)
	e.start(t)
	p := startProcess(t, "caller", "caller-1", quick(t))
	e.consul.list(p.Surveyed)
	if p.readers.Load() != 0 {
		t.Fatal("it is read though nobody looks")
	}
	admin := e.roles(t, 0, identity.Admin)
	var stops []func()
	for range 5 {
		ticks, _, stop := e.look(t, admin)
		stops = append(stops, stop)
		until(t, ticks, func(k tick) bool { return len(k.State.Pairs)+len(k.State.Instances) > 0 })
	}
	if n := p.readers.Load(); n != 1 {
		t.Errorf("5 look, and %d readers read", n)
	}
	for _, stop := range stops {
		stop()
	}
	testkit.Eventually(t, 20*time.Second, func() bool {
		now.advance(time.Second)
		return p.readers.Load() == 0
	})
	ticks, _, _ := e.look(t, admin)
	until(t, ticks, func(tick) bool { return p.readers.Load() == 1 })
}

func TestOps_refusesTooMany(t *testing.T) {
	t.Parallel()
	e := setup(t, gateway.Config{}, shop{})
	stop := e.start(t)
	admin := e.roles(t, 0, identity.Admin)
	status := http.StatusOK
	for i := 0; status == http.StatusOK && i < 100; i++ {
		_, status, _ = e.look(t, admin)
	}
	if status != http.StatusTooManyRequests {
		t.Fatalf("got %d, want 429 for one too many", status)
	}
	stop() // sends everybody away: their streams end, or the test would not
	testkit.Eventually(t, 5*time.Second, func() bool {
		n := 0
		for _, r := range e.log.requests(t) {
			if r["route"] == "/ops/stream" && r["status"] == 200.0 {
				n++
			}
		}
		return n == 32
	})
}
