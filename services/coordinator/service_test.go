package coordinator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/coordinator"
	"souk/shared/contract"
	wire "souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// shop is a coordinator and two banks on a network that a test can break.
type shop struct {
	*testkit.Service
	db          *gorm.DB
	coordinator *coordinator.Service
	client      *http.Client
	hosts       testkit.Hosts
	metrics     *prometheus.Registry
	east, west  *testkit.Bank

	westAway, westDeaf atomic.Bool // for outcomes: where a test changes it while messages are under way
}

func setup(t *testing.T) *shop {
	t.Helper()
	s := &shop{Service: testkit.NewService(t, "coordinator"), db: testkit.Postgres(t, migrations.Coordinator(), migrations.Idempotency()), hosts: testkit.Hosts{}, metrics: prometheus.NewRegistry()}
	s.client = s.hosts.Client()
	s.coordinator = coordinator.New(coordinator.Deps{
		DB: s.db, Mesh: s.client, Now: time.Now, Log: s.Log, Metrics: s.metrics, Instance: "coordinator-1",
	})
	s.coordinator.Routes(s.Server)
	s.east, s.west = testkit.NewBank(t, "east", s.client), testkit.NewBank(t, "west", s.client)
	s.east.Open(t, 100, "ann")
	s.west.Open(t, 100, "bob")
	s.hosts["coordinator"], s.hosts["east"], s.hosts["west"] = s.Handler(), s.east.Handler(), s.west.Handler()
	return s
}

// metric is the sum of a counter, or gauge, over its labels.
func (s *shop) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// transfer moves amount from ann in the east to bob in the west.
func transfer(gid uuid.UUID, amount int64) wire.Begin {
	leg := func(service, action, account string) wire.Branch {
		payload, _ := json.Marshal(testkit.Transfer{Account: account, Amount: amount})
		return wire.Branch{Service: service, Action: action, Key: account, Payload: payload}
	}
	return wire.Begin{GID: gid, Branches: []wire.Branch{leg("east", "debit", "ann"), leg("west", "credit", "bob")}}
}

func (s *shop) begin(t *testing.T, b wire.Begin) (*wire.BeginOutput, error) {
	t.Helper()
	return wire.BeginTransaction.Call(t.Context(), s.client, &wire.BeginInput{Body: b})
}

// settle runs recovery and inquiries until nothing is in doubt.
func (s *shop) settle(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, func() bool {
		// Whoever has just decided may still be carrying it out: half a second of the two that it has.
		if err := s.db.Exec("UPDATE decision SET next_at = now() WHERE completed_at IS NULL AND decided_at < now() - interval '0.5 s'").Error; err != nil {
			t.Error(err)
		}
		for _, b := range []*testkit.Bank{s.east, s.west} {
			if err := b.DB.Exec("UPDATE tx_branch SET prepared_at = now() - interval '1 minute' WHERE state = 'prepared'").Error; err != nil {
				t.Error(err)
			}
			_ = b.Participant.Inquire(t.Context())
		}
		_ = s.coordinator.Recover(t.Context())
		return s.inDoubt(t) == 0
	})
}

func (s *shop) inDoubt(t *testing.T) (n int64) {
	t.Helper()
	for db, q := range map[*gorm.DB]string{
		s.db: "SELECT count(*) FROM decision WHERE completed_at IS NULL", s.east.DB: "SELECT count(*) FROM tx_branch WHERE state = 'prepared'",
		s.west.DB: "SELECT count(*) FROM tx_branch WHERE state = 'prepared'",
	} {
		var one int64
		if err := db.Raw(q).Scan(&one).Error; err != nil {
			t.Fatal(err)
		}
		n += one
	}
	return n
}

// sound checks what must be true at rest: no money made or lost, nothing held, every transaction the same everywhere.
func (s *shop) sound(t *testing.T) {
	t.Helper()
	east, heldEast := s.east.Total(t)
	west, heldWest := s.west.Total(t)
	if east+west != 200 || heldEast+heldWest != 0 {
		t.Errorf("total %d (want 200), held %d (want 0)", east+west, heldEast+heldWest)
	}
	states := map[uuid.UUID]map[string]bool{}
	for _, b := range []*testkit.Bank{s.east, s.west} {
		var rows []struct {
			GID   uuid.UUID
			State string
		}
		if err := b.DB.Raw("SELECT gid, state FROM tx_branch").Scan(&rows).Error; err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if states[r.GID] == nil {
				states[r.GID] = map[string]bool{}
			}
			states[r.GID][r.State] = true
		}
	}
	for gid, s := range states {
		if len(s) != 1 {
			t.Errorf("transaction %s ended %v", gid, s)
		}
	}
}

func TestBegin_commitsEverywhere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	out, err := s.begin(t, transfer(gid, 30))
	if err != nil || out.Status != 200 || out.Body.State != wire.Committed || out.Body.Replayed {
		t.Fatalf("got %+v, %v", out, err)
	}
	// The answer waited for phase two: the caller reads its own writes.
	if a, b := s.east.Balance(t, "ann"), s.west.Balance(t, "bob"); a != "70+0" || b != "130+0" {
		t.Errorf("ann %s, bob %s", a, b)
	}
	s.settle(t)
	again, err := s.begin(t, transfer(gid, 30))
	if err != nil || again.Body.State != wire.Committed || !again.Body.Replayed {
		t.Errorf("repeated: got %+v, %v", again, err)
	}
	s.settle(t)
	s.sound(t)
}

func TestBegin_abortsEverywhereWithTheReason(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	for range 2 {
		out, err := s.begin(t, transfer(gid, 101))
		if err != nil || out.Body.State != wire.Aborted || out.Body.Reason == nil || out.Body.Reason.Code != "insufficient_funds" {
			t.Fatalf("got %+v, %v", out, err)
		}
	}
	s.settle(t)
	s.sound(t)
}

func TestBegin_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	if _, err := s.begin(t, transfer(gid, 1)); err != nil {
		t.Fatal(err)
	}
	poor := uuid.New()
	if out, err := s.begin(t, transfer(poor, 101)); err != nil || out.Body.State != wire.Aborted {
		t.Fatalf("got %+v, %v", out, err)
	}
	twice := transfer(uuid.New(), 1)
	twice.Branches = append(twice.Branches, twice.Branches[0])
	none := transfer(uuid.New(), 1)
	none.Branches = []wire.Branch{}
	other := transfer(poor, 1) // has none of the first's branches, so all of it votes yes
	slices.Reverse(other.Branches)
	for _, c := range []struct {
		code string
		b    wire.Begin
	}{
		{"transaction_reused", transfer(gid, 2)},
		{"transaction_reused", transfer(poor, 2)},
		{"transaction_reused", other},
		{"duplicate_branch", twice},
		{"invalid", none},
	} {
		if _, err := s.begin(t, c.b); !fault.Is(err, fault.Invalid) || !fault.HasCode(err, c.code) {
			t.Errorf("got %v, want %s", err, c.code)
		}
	}
	s.settle(t)
	s.sound(t)
}

func TestBegin_manyTimesAtOnceIsOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	var wg sync.WaitGroup
	var committed atomic.Int32
	for range 20 {
		wg.Go(func() {
			if out, err := s.begin(t, transfer(gid, 30)); err == nil && out.Body.State == wire.Committed {
				committed.Add(1)
			}
		})
	}
	wg.Wait()
	s.settle(t)
	if committed.Load() != 20 || s.east.Balance(t, "ann") != "70+0" {
		t.Errorf("%d of 20 were told it committed; ann %s", committed.Load(), s.east.Balance(t, "ann"))
	}
}

func TestBegin_oneBranchIsDoneInOnePhase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	one := transfer(uuid.New(), 30)
	one.Branches = one.Branches[:1]
	for range 2 {
		out, err := s.begin(t, one)
		if err != nil || out.Body.State != wire.Committed || s.east.Balance(t, "ann") != "70+0" {
			t.Fatalf("got %+v, %v; ann %s", out, err, s.east.Balance(t, "ann"))
		}
	}
	poor := transfer(uuid.New(), 71)
	poor.Branches = poor.Branches[:1]
	if out, err := s.begin(t, poor); err != nil || out.Body.State != wire.Aborted || out.Body.Reason.Code != "insufficient_funds" {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestBegin_abortsWhenAParticipantIsAway(t *testing.T) {
	t.Parallel()
	s := setup(t)
	delete(s.hosts, "west")
	gid := uuid.New()
	out, err := s.begin(t, transfer(gid, 30))
	if err != nil || out.Body.State != wire.Aborted || out.Body.Reason.Code != "participant_unavailable" {
		t.Fatalf("got %+v, %v", out, err)
	}
	if got := s.east.Balance(t, "ann"); got != "100+0" {
		t.Errorf("ann %s: what was held is not given back", got)
	}
	s.hosts["west"] = s.west.Handler()
	s.settle(t)
	// Its tombstone is there now: the prepare that was lost on the way is refused if it still comes.
	if _, err := s.west.Participant.Prepare(t.Context(), twopc.Prepare{
		GID: gid, Branch: 1, Action: "credit", Payload: json.RawMessage(`{"account":"bob","amount":30}`), Deadline: time.Now().Add(time.Minute),
	}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a late prepare: %v", err)
	}
	s.sound(t)
}

// losing serves requests to path, and breaks the connection before the answer gets out.
func losing(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			h.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	})
}

func TestBegin_aLostYesIsNoYes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.hosts["east"] = losing("/internal/v1/tx/prepare", s.east.Handler())
	out, err := s.begin(t, transfer(uuid.New(), 30))
	if err != nil || out.Body.State != wire.Aborted {
		t.Fatalf("got %+v, %v", out, err)
	}
	s.settle(t)
	s.sound(t)
}

func TestRecover_finishesWhatWasDecided(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.hosts["west"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/internal/v1/tx/finish" {
			panic(http.ErrAbortHandler)
		}
		s.west.Handler().ServeHTTP(w, r)
	})
	out, err := s.begin(t, transfer(uuid.New(), 30))
	if err != nil || out.Body.State != wire.Committed {
		t.Fatalf("got %+v, %v", out, err)
	}
	if err := s.coordinator.Recover(t.Context()); err != nil || s.inDoubt(t) != 2 {
		t.Errorf("west is away: %v, %d in doubt (its branch and the decision)", err, s.inDoubt(t))
	}
	s.hosts["west"] = s.west.Handler()
	s.settle(t)
	if got := s.west.Balance(t, "bob"); got != "130+0" {
		t.Errorf("bob %s", got)
	}
	s.sound(t)
}

// Transactions with several branches at one participant are more to tell it than one message holds.
func TestRecover_tellsAParticipantHoweverMuchThereIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if err := s.db.Exec(`INSERT INTO decision (gid, outcome, branches, next_at) SELECT gen_random_uuid(), 'aborted',
		'[{"branch": 0, "service": "east"}, {"branch": 1, "service": "east"}, {"branch": 2, "service": "east"}]', now()
		FROM generate_series(1, 100)`).Error; err != nil {
		t.Fatal(err)
	}
	if err := s.coordinator.Recover(t.Context()); err != nil || s.inDoubt(t) != 0 {
		t.Errorf("%v, %d in doubt", err, s.inDoubt(t))
	}
}

func TestResolve_fencesTheUnknown(t *testing.T) {
	t.Parallel()
	s := setup(t)
	late, open := uuid.New(), uuid.New()
	in := new(wire.ResolveInput)
	in.Body.Questions = []wire.Question{{GID: late, Deadline: time.Now().Add(-time.Second)}, {GID: open, Deadline: time.Now().Add(time.Minute)}}
	out, err := wire.ResolveTransactions.Call(t.Context(), s.client, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []wire.State{wire.Aborted, wire.Pending} {
		if got := out.Body.Outcomes[i].State; got != want {
			t.Errorf("question %d: got %s, want %s", i, got, want)
		}
	}
	// Whoever still tries to commit it finds the answer that was given.
	if got, err := s.begin(t, transfer(late, 1)); err != nil || got.Body.State != wire.Aborted {
		t.Errorf("got %+v, %v", got, err)
	}
	s.settle(t)
	s.sound(t)
}

func TestAbort_orCommitButNotBoth(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range 10 {
		gid := uuid.New()
		var wg sync.WaitGroup
		var begun, aborted wire.State
		wg.Go(func() {
			if out, err := s.begin(t, transfer(gid, 5)); err == nil {
				begun = out.Body.State
			}
		})
		wg.Go(func() {
			if out, err := wire.AbortTransaction.Call(t.Context(), s.client, &contract.ByID{ID: gid}); err == nil {
				aborted = out.Body.State
			}
		})
		wg.Wait()
		if begun == "" || begun != aborted {
			t.Errorf("one was told %q, the other %q", begun, aborted)
		}
	}
	s.settle(t)
	s.sound(t)
}

func TestHeuristic_isRecordedAndNotTakenForSuccess(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	// Somebody aborts the branch behind the coordinator's back, right before it is told to commit.
	s.hosts["west"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/internal/v1/tx/finish" {
			_, _ = s.west.Participant.Finish(r.Context(), twopc.Decision{GID: gid, Branch: 1, State: wire.Aborted})
		}
		s.west.Handler().ServeHTTP(w, r)
	})
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	got, err := s.coordinator.Get(t.Context(), &contract.ByID{ID: gid})
	if err != nil || !got.Body.Heuristic {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTransactions_areListedWithTheirTimeline(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.Token(t, uuid.New(), identity.Admin)
	gids := map[uuid.UUID]bool{}
	for _, amount := range []int64{1, 2, 500} {
		gid := uuid.New()
		gids[gid] = true
		if _, err := s.begin(t, transfer(gid, amount)); err != nil {
			t.Fatal(err)
		}
	}
	s.settle(t)
	var page contract.Page[wire.Transaction]
	for token := ""; ; token = page.NextPageToken {
		page = contract.Page[wire.Transaction]{}
		s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions?page_size=2&page_token=" + token, Token: admin}).Into(t, 200, &page)
		for _, tx := range page.Items {
			if !gids[tx.GID] || tx.CompletedAt == nil {
				t.Errorf("listed %+v", tx)
			}
			delete(gids, tx.GID)
			var line wire.Timeline
			s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions/" + tx.GID.String(), Token: admin}).Into(t, 200, &line)
			names := ""
			for _, e := range line.Events {
				names += e.Event + " "
			}
			if first, last := line.Events[0].Event, line.Events[len(line.Events)-1].Event; first != "begun" || last != "completed" {
				t.Errorf("the timeline of %s is %s", tx.GID, names)
			}
		}
		if page.NextPageToken == "" {
			break
		}
	}
	if len(gids) != 0 {
		t.Errorf("not listed: %v", gids)
	}
	page = contract.Page[wire.Transaction]{}
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions?state=aborted", Token: admin}).Into(t, 200, &page)
	if len(page.Items) != 1 {
		t.Errorf("%d aborted, want 1", len(page.Items))
	}

	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions"}).Problem(t, 401, "unauthenticated")
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions", Token: s.Token(t, uuid.New(), identity.Customer)}).Problem(t, 403, "forbidden")
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions?page_token=x", Token: admin}).Problem(t, 400, "invalid_page_token")
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions/" + uuid.NewString(), Token: admin}).Problem(t, 404, "not_found")
}

// A network that loses, repeats and delays messages, many transfers at once, two coordinators on one register: at rest
// the money is all there, and every answer that a caller got is true.
func TestTransfers_overABadNetwork(t *testing.T) {
	t.Parallel()
	s := setup(t)
	second := testkit.NewService(t, "coordinator")
	other := coordinator.New(coordinator.Deps{
		DB: s.db, Mesh: s.client, Now: time.Now, Log: second.Log, Metrics: prometheus.NewRegistry(), Instance: "coordinator-2",
	})
	other.Routes(second.Server)
	var bad atomic.Bool
	bad.Store(true)
	for host, h := range map[string]http.Handler{"east": s.east.Handler(), "west": s.west.Handler()} {
		s.hosts[host] = unreliable(&bad, h)
	}
	turn := new(atomic.Int64)
	s.hosts["coordinator"] = unreliable(&bad, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if turn.Add(1)%2 == 0 {
			second.Handler().ServeHTTP(w, r)
			return
		}
		s.Handler().ServeHTTP(w, r)
	}))

	var mu sync.Mutex
	answers := map[uuid.UUID]wire.State{}
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for i := range 10 {
				b := transfer(uuid.New(), int64(1+(client+i)%20))
				b.TimeoutMS = 500
				for range 3 { // as a caller does that was not answered
					out, err := s.begin(t, b)
					if err != nil || out.Body.State == wire.Pending {
						continue
					}
					mu.Lock()
					if was, ok := answers[b.GID]; ok && was != out.Body.State {
						t.Errorf("%s: told %s, then %s", b.GID, was, out.Body.State)
					}
					answers[b.GID] = out.Body.State
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	bad.Store(false)
	s.settle(t)
	s.sound(t)

	counts := map[wire.State]int{}
	for gid, told := range answers {
		counts[told]++
		var rows []string
		if err := s.west.DB.Raw("SELECT state FROM tx_branch WHERE gid = ?", gid).Scan(&rows).Error; err != nil {
			t.Fatal(err)
		}
		if told == wire.Committed && fmt.Sprint(rows) != "[committed]" || told == wire.Aborted && fmt.Sprint(rows) == "[committed]" {
			t.Errorf("%s: the caller was told %s, west has %v", gid, told, rows)
		}
	}
	if counts[wire.Committed] == 0 || counts[wire.Aborted] == 0 {
		t.Errorf("the network was too good or too bad to show anything: %v", counts)
	}
	t.Logf("answers: %v", counts)
}

// unreliable loses one request in ten, loses the answer to one in ten, and delivers one in ten twice.
func unreliable(bad *atomic.Bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bad.Load() {
			h.ServeHTTP(w, r)
			return
		}
		switch rand.IntN(10) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			h.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case 2:
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			first := r.Clone(r.Context())
			first.Body, r.Body = io.NopCloser(bytes.NewReader(body)), io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(httptest.NewRecorder(), first)
			h.ServeHTTP(w, r)
		default:
			h.ServeHTTP(w, r)
		}
	})
}
