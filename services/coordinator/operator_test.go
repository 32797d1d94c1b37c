package coordinator_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/services/coordinator"
	"souk/shared/contract"
	wire "souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// prepared has both branches of a transfer vote yes, as if their coordinator had died then.
func (s *shop) prepared(t *testing.T, gid uuid.UUID, amount int64) {
	t.Helper()
	b := transfer(gid, amount)
	for i, bank := range []*testkit.Bank{s.east, s.west} {
		if _, err := bank.Participant.Prepare(t.Context(), twopc.Prepare{
			GID: gid, Branch: i, Action: b.Branches[i].Action, Payload: b.Branches[i].Payload, Deadline: time.Now().Add(time.Minute),
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// unheard makes west deaf for outcomes until hear is called.
func (s *shop) unheard() (hear func()) {
	s.hosts["west"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/internal/v1/tx/finish" {
			panic(http.ErrAbortHandler)
		}
		s.west.Handler().ServeHTTP(w, r)
	})
	return func() { s.hosts["west"] = s.west.Handler() }
}

func (s *shop) post(t *testing.T, token string, gid uuid.UUID, what, key string, body any) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/transactions/" + gid.String() + "/" + what, Token: token, Key: key, Body: body})
}

func (s *shop) get(t *testing.T, gid uuid.UUID) wire.Timeline {
	t.Helper()
	out, err := s.coordinator.Get(t.Context(), &contract.ByID{ID: gid})
	if err != nil {
		t.Fatal(err)
	}
	return out.Body
}

func (s *shop) operator() *coordinator.Operator {
	return coordinator.NewOperator(s.db, time.Now, "coordinator-1/tx")
}

func events(line wire.Timeline) string {
	var names []string
	for _, e := range line.Events {
		names = append(names, e.Event)
	}
	return strings.Join(names, " ")
}

func force(reason string) map[string]string {
	return map[string]string{"outcome": "aborted", "reason": reason}
}

func TestForce_abortsWhatNobodyHasDecided(t *testing.T) {
	t.Parallel()
	s := setup(t)
	person := uuid.New()
	admin, gid := s.Token(t, person, identity.Admin), uuid.New()
	s.prepared(t, gid, 30)
	for range 2 { // the second is the same request again
		var out wire.Outcome
		s.post(t, admin, gid, "resolve", "one-key", force("its coordinator burned down")).Into(t, 200, &out)
		if out.State != wire.Aborted || out.Replayed || out.Reason == nil || out.Reason.Code != "voided" {
			t.Fatalf("got %+v", out)
		}
	}
	// What it holds it gives back, though its deadline is a minute away.
	s.settle(t)
	s.sound(t)
	line := s.get(t, gid)
	if r := line.Resolved; r == nil || r.By != person.String() || r.Reason != "its coordinator burned down" || !line.Heuristic ||
		line.Acknowledged == nil || events(line) != "decided" || line.Events[0].Instance != "coordinator-1" {
		t.Errorf("recorded %+v", line)
	}
	if out, err := s.begin(t, transfer(gid, 30)); err != nil || out.Body.State != wire.Aborted {
		t.Errorf("begun again: %+v, %v", out, err)
	}
	// Another operator who wants the same finds it done, and does not put a name to it.
	var out wire.Outcome
	s.post(t, s.Token(t, uuid.New(), identity.Admin), gid, "resolve", "another", force("me too")).Into(t, 200, &out)
	if !out.Replayed || s.get(t, gid).Resolved.By != person.String() {
		t.Errorf("got %+v, and %+v is recorded", out, s.get(t, gid).Resolved)
	}
}

func TestForce_neverContradictsACommit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin, gid := s.Token(t, uuid.New(), identity.Admin), uuid.New()
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	before := s.get(t, gid)
	s.post(t, admin, gid, "resolve", "k", force("I want it gone")).Problem(t, 409, "already_committed")
	if after := s.get(t, gid); after.State != wire.Committed || after.Resolved != nil || after.Heuristic || events(after) != events(before) {
		t.Errorf("it became %+v", after)
	}
	s.sound(t)
}

func TestForce_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	admin, customer := s.Token(t, uuid.New(), identity.Admin), s.Token(t, uuid.New(), identity.Customer)
	s.post(t, "", gid, "resolve", "k", force("x")).Problem(t, 401, "unauthenticated")
	s.post(t, customer, gid, "resolve", "k", force("x")).Problem(t, 403, "forbidden")
	s.post(t, customer, gid, "retry", "k", nil).Problem(t, 403, "forbidden")
	s.post(t, customer, gid, "acknowledge", "k", map[string]string{"reason": "x"}).Problem(t, 403, "forbidden")
	s.post(t, admin, gid, "resolve", "", force("x")).Problem(t, 400, "idempotency_key_required")
	for name, body := range map[string]map[string]string{
		"no reason": force(""), "a blank one": force("  "), "a novel": force(strings.Repeat("x", 501)),
		"a commit": {"outcome": "committed", "reason": "x"},
	} {
		if got := s.post(t, admin, gid, "resolve", "k", body); got.Status != 422 {
			t.Errorf("%s: %d", name, got.Status)
		}
	}
	s.post(t, admin, gid, "retry", "k", nil).Problem(t, 404, "not_found")
	s.post(t, admin, gid, "acknowledge", "k", map[string]string{"reason": "x"}).Problem(t, 404, "not_found")
	if _, err := s.operator().Show(t.Context(), gid); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v: a refusal wrote something", err)
	}
}

// An operator and a coordinator decide the same transaction at the same time: one of them wins, and both say so.
func TestForce_orCommitButNotBoth(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range 10 {
		gid := uuid.New()
		var wg sync.WaitGroup
		var begun wire.State
		var called *wire.Outcome
		var refused error
		wg.Go(func() {
			if out, err := s.begin(t, transfer(gid, 5)); err == nil {
				begun = out.Body.State
			}
		})
		wg.Go(func() {
			called, refused = s.operator().CallOff(t.Context(), gid, wire.Resolution{By: "ann", Reason: "race"})
		})
		wg.Wait()
		if fault.HasCode(refused, "already_committed") != (begun == wire.Committed) || (called != nil) != (begun == wire.Aborted) {
			t.Errorf("one was told %q, the other %+v, %v", begun, called, refused)
		}
	}
	s.settle(t)
	s.sound(t)
}

// A transaction of one branch is decided by its participant; here the register was not told, and an operator calls off
// what is done already. The caller must hear what is true, and somebody of the contradiction.
func TestForce_doesNotHideWhatTheOnlyBranchHasDone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	one := transfer(uuid.New(), 30)
	one.Branches = one.Branches[:1]
	if out, err := s.begin(t, one); err != nil || out.Body.State != wire.Committed {
		t.Fatalf("got %+v, %v", out, err)
	}
	s.row(t, one.GID)
	if err := s.db.Exec("DELETE FROM decision").Error; err != nil { // lost in a crash: it is not forced
		t.Fatal(err)
	}
	if _, err := s.operator().CallOff(t.Context(), one.GID, wire.Resolution{By: "ann", Reason: "it hangs"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := s.begin(t, one); err != nil || out.Body.State != wire.Committed {
			t.Errorf("got %+v, %v, want what the participant knows", out, err)
		}
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		line := s.get(t, one.GID)
		return line.Heuristic && line.Acknowledged == nil && events(line) == "decided begun prepared heuristic"
	})
	if got := s.east.Balance(t, "ann"); got != "70+0" {
		t.Errorf("ann %s", got)
	}
}

// row waits for the decision on gid to be in the register: the caller does not.
func (s *shop) row(t *testing.T, gid uuid.UUID) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, func() bool {
		_, err := s.operator().Show(t.Context(), gid)
		return err == nil
	})
}

func TestRetry_doesNotWaitForItsTurn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin, gid := s.Token(t, uuid.New(), identity.Admin), uuid.New()
	hear := s.unheard()
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { // one turn is missed if Begin still writes down what it has seen
		s.due(t)
		if err := s.coordinator.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.get(t, gid).Attempts == 3
	})
	stuck := s.get(t, gid)
	if !strings.Contains(events(stuck), "unheard") || !strings.Contains(events(stuck), "committed") {
		t.Errorf("the timeline is %s", events(stuck))
	}
	if stuck.WaitingFor != "west" || strings.Count(events(stuck), "taken_over") != 1 {
		t.Errorf("while west is away: %+v", stuck)
	}
	if got := s.metric(t, "twopc_retries_total"); got < 3 {
		t.Errorf("%v retries are counted", got)
	}
	if err := s.db.Exec("UPDATE decision SET next_at = now() + interval '1 hour'").Error; err != nil {
		t.Fatal(err)
	}
	hear()
	var now wire.Transaction
	s.post(t, admin, gid, "retry", "k", nil).Into(t, 200, &now)
	if err := s.coordinator.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if line := s.get(t, gid); line.CompletedAt == nil || line.WaitingFor != "" || !strings.Contains(events(line), "redriven") {
		t.Errorf("it is %+v", line)
	}
	s.post(t, admin, gid, "retry", "another", nil).Problem(t, 409, "already_completed")
	s.settle(t)
	s.sound(t)
}

func (s *shop) due(t *testing.T) {
	t.Helper()
	if err := s.db.Exec("UPDATE decision SET next_at = now() WHERE completed_at IS NULL").Error; err != nil {
		t.Fatal(err)
	}
}

func TestAcknowledge_endsTheAlarm(t *testing.T) {
	t.Parallel()
	s := setup(t)
	person, gid := uuid.New(), uuid.New()
	admin := s.Token(t, person, identity.Admin)
	s.contradict(t, gid)
	if err := s.coordinator.Recover(t.Context()); err != nil || s.metric(t, "twopc_heuristics_unacknowledged") != 1 {
		t.Errorf("%v: %v heuristics wait", err, s.metric(t, "twopc_heuristics_unacknowledged"))
	}
	var page contract.Page[wire.Transaction]
	s.Do(t, testkit.Request{Method: "GET", Path: "/v1/transactions?heuristic=true", Token: admin}).Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].GID != gid {
		t.Errorf("listed %+v", page.Items)
	}
	var out wire.Transaction
	s.post(t, admin, gid, "acknowledge", "k", map[string]string{"reason": "bob was paid by hand"}).Into(t, 200, &out)
	if a := out.Acknowledged; a == nil || a.By != person.String() || a.Reason != "bob was paid by hand" || !out.Heuristic {
		t.Errorf("got %+v", out)
	}
	if err := s.coordinator.Recover(t.Context()); err != nil || s.metric(t, "twopc_heuristics_unacknowledged") != 0 {
		t.Errorf("%v: %v heuristics wait", err, s.metric(t, "twopc_heuristics_unacknowledged"))
	}
	s.post(t, admin, gid, "acknowledge", "another", map[string]string{"reason": "again"}).Problem(t, 409, "nothing_to_acknowledge")
}

// contradict commits a transfer of which west's branch was aborted behind the coordinator's back.
func (s *shop) contradict(t *testing.T, gid uuid.UUID) {
	t.Helper()
	s.hosts["west"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/internal/v1/tx/finish" {
			_, _ = s.west.Participant.Finish(r.Context(), twopc.Decision{GID: gid, Branch: 1, State: wire.Aborted})
		}
		s.west.Handler().ServeHTTP(w, r)
	})
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	s.hosts["west"] = s.west.Handler()
	s.settle(t)
}

func TestOperator_listsAndCounts(t *testing.T) {
	t.Parallel()
	s := setup(t)
	op := s.operator()
	done, refused, called, contradicted, first, second := uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()
	for gid, amount := range map[uuid.UUID]int64{done: 1, refused: 500} {
		if _, err := s.begin(t, transfer(gid, amount)); err != nil {
			t.Fatal(err)
		}
	}
	s.contradict(t, contradicted)
	if _, err := op.CallOff(t.Context(), called, wire.Resolution{By: "ann", Reason: "practice"}); err != nil {
		t.Fatal(err)
	}
	s.unheard()
	for _, gid := range []uuid.UUID{first, second} {
		if _, err := s.begin(t, transfer(gid, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Exec("UPDATE decision SET decided_at = now() - interval '1 minute', attempts = 4 WHERE gid = ?", first).Error; err != nil {
		t.Fatal(err)
	}

	list := func(f coordinator.Filter) []uuid.UUID {
		t.Helper()
		if f.Limit == 0 {
			f.Limit = 100
		}
		rows, err := op.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		gids := []uuid.UUID{}
		for _, r := range rows {
			gids = append(gids, r.GID)
		}
		return gids
	}
	for name, c := range map[string]struct {
		filter coordinator.Filter
		want   []uuid.UUID
	}{
		"in doubt, the oldest first":     {coordinator.Filter{}, []uuid.UUID{first, second}},
		"older than half a minute":       {coordinator.Filter{Older: 30 * time.Second}, []uuid.UUID{first}},
		"the oldest one":                 {coordinator.Filter{Limit: 1}, []uuid.UUID{first}},
		"in doubt and aborted":           {coordinator.Filter{State: wire.Aborted}, []uuid.UUID{}},
		"heuristic, not looked at":       {coordinator.Filter{Heuristic: true}, []uuid.UUID{contradicted}},
		"all heuristic, oldest first":    {coordinator.Filter{Heuristic: true, All: true}, []uuid.UUID{contradicted, called}},
		"the newest of all":              {coordinator.Filter{All: true, Limit: 1}, []uuid.UUID{second}},
		"the newest of all that aborted": {coordinator.Filter{All: true, State: wire.Aborted, Limit: 1}, []uuid.UUID{called}},
	} {
		if got := list(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	if got := list(coordinator.Filter{All: true}); len(got) != 6 {
		t.Errorf("%d in all, want 6", len(got))
	}

	stats, err := op.Statistics(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Committed != 4 || stats.Aborted != 2 || stats.Resolved != 1 || stats.Heuristic != 2 || stats.Unacknowledged != 1 ||
		stats.InDoubt != 2 || stats.OldestInDoubtS < 59 || stats.Retries != 3 || stats.TakenOver != 1 || stats.OldestDecidedAt == nil {
		t.Errorf("got %+v", stats)
	}
	var lately wire.Statistics
	s.Do(t, testkit.Request{
		Method: "GET", Path: "/v1/transactions/statistics?since=" + time.Now().Add(-30*time.Second).UTC().Format(time.RFC3339),
		Token: s.Token(t, uuid.New(), identity.Admin),
	}).Into(t, 200, &lately)
	if lately.Committed != 3 || lately.InDoubt != 2 || lately.Since == nil {
		t.Errorf("lately: %+v", lately)
	}
}

// What is counted, and that a register that is away is counted as such.
func TestMetrics_tellDecisionsByWhoeverMadeThem(t *testing.T) {
	t.Parallel()
	s := setup(t)
	one := transfer(uuid.New(), 1)
	one.Branches = one.Branches[:1]
	for _, b := range []wire.Begin{transfer(uuid.New(), 1), transfer(uuid.New(), 500), one} {
		if _, err := s.begin(t, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := wire.AbortTransaction.Call(t.Context(), s.client, &contract.ByID{ID: uuid.New()}); err != nil {
		t.Fatal(err)
	}
	in := new(wire.ResolveInput)
	in.Body.Questions = []wire.Question{{GID: uuid.New(), Deadline: time.Now().Add(-time.Second)}}
	if _, err := wire.ResolveTransactions.Call(t.Context(), s.client, in); err != nil {
		t.Fatal(err)
	}
	s.post(t, s.Token(t, uuid.New(), identity.Admin), uuid.New(), "resolve", "k", force("x")).Into(t, 200, new(wire.Outcome))
	testkit.Eventually(t, 5*time.Second, func() bool { return s.metric(t, "twopc_decisions_total") == 6 })
	if got := s.metric(t, "twopc_register_errors_total"); got != 0 {
		t.Errorf("%v register errors", got)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return s.inDoubt(t) == 0 }) // what is begun needs the register no more
	breakRegister(t, s.db)
	if out, err := s.begin(t, transfer(uuid.New(), 1)); err != nil || out.Status != http.StatusAccepted {
		t.Errorf("it was settled without a register: %+v, %v", out, err)
	}
	// From now on it is known that the register is away, and nobody is asked for a vote.
	gid := uuid.New()
	if _, err := s.begin(t, transfer(gid, 1)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	var asked int
	if err := s.east.DB.Raw("SELECT count(*) FROM tx_branch WHERE gid = ?", gid).Scan(&asked).Error; err != nil || asked != 0 {
		t.Errorf("%d branches, %v", asked, err)
	}
	if err := s.coordinator.Recover(context.WithoutCancel(t.Context())); err == nil || s.metric(t, "twopc_register_errors_total") != 3 {
		t.Errorf("got %v, %v register errors", err, s.metric(t, "twopc_register_errors_total"))
	}
}

func breakRegister(t *testing.T, db *gorm.DB) {
	t.Helper()
	if err := db.Exec("ALTER TABLE decision RENAME TO gone").Error; err != nil {
		t.Fatal(err)
	}
}
