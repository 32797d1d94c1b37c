package coordinator_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/services/coordinator"
	wire "souk/shared/contract/coordinator"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
)

const week = coordinator.Retention(7 * 24 * time.Hour)

func TestRetention_hasAFloor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 168 * time.Hour, "24h": 24 * time.Hour, "2160h": 2160 * time.Hour, "23h59m": 0, "0": 0, "-1h": 0, "week": 0} {
		var cfg coordinator.Config
		environment := map[string]string{}
		if text != "" {
			environment["RETENTION"] = text
		}
		err := env.ParseWithOptions(&cfg, env.Options{Environment: environment})
		if (err == nil) != (want > 0) || time.Duration(cfg.Retention) != want {
			t.Errorf("%q: got %s, %v", text, time.Duration(cfg.Retention), err)
		}
	}
}

// aged makes the decision on gid, and its branches, as old as that.
func (s *shop) aged(t *testing.T, gid uuid.UUID, age time.Duration) {
	t.Helper()
	if err := s.db.Exec(`UPDATE decision SET decided_at = now() - make_interval(secs => @age),
		completed_at = CASE WHEN completed_at IS NOT NULL THEN now() - make_interval(secs => @age) END WHERE gid = @gid`,
		map[string]any{"gid": gid, "age": age.Seconds()}).Error; err != nil {
		t.Fatal(err)
	}
	for _, b := range []*testkit.Bank{s.east, s.west} {
		if err := b.DB.Exec(`UPDATE tx_branch SET prepared_at = now() - make_interval(secs => @age),
			finished_at = CASE WHEN finished_at IS NOT NULL THEN now() - make_interval(secs => @age) END WHERE gid = @gid`,
			map[string]any{"gid": gid, "age": age.Seconds()}).Error; err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shop) kept(t *testing.T, gid uuid.UUID) bool {
	t.Helper()
	var n int
	if err := s.db.Raw("SELECT count(*) FROM decision WHERE gid = ?", gid).Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n == 1
}

const day = 24 * time.Hour

func TestForget_removesOnlyWhatNobodyCanNeed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gids := map[string]uuid.UUID{}
	begin := func(name string, amount int64, age time.Duration) {
		t.Helper()
		gids[name] = uuid.New()
		if _, err := s.begin(t, transfer(gids[name], amount)); err != nil {
			t.Fatal(err)
		}
		s.settle(t)
		s.aged(t, gids[name], age)
	}
	begin("an old commit", 1, 8*day)
	begin("an old abort", 500, 8*day)
	begin("a recent commit", 1, 6*day)
	begin("a recent abort", 500, 6*day)
	begin("completed only now", 1, 8*day)
	for name, age := range map[string]time.Duration{"heuristic": 30 * day, "heuristic and acknowledged": 8 * day} {
		gids[name] = uuid.New()
		s.contradict(t, gids[name])
		s.aged(t, gids[name], age)
	}
	if _, err := s.operator().Acknowledge(t.Context(), gids["heuristic and acknowledged"], wire.Resolution{By: "ann", Reason: "seen"}); err != nil {
		t.Fatal(err)
	}
	gids["in doubt"] = uuid.New()
	hear := s.unheard()
	if _, err := s.begin(t, transfer(gids["in doubt"], 1)); err != nil {
		t.Fatal(err)
	}
	hear()
	if err := s.db.Exec("UPDATE decision SET decided_at = now() - interval '30 days' WHERE gid = ?", gids["in doubt"]).Error; err != nil {
		t.Fatal(err)
	}
	if err := s.db.Exec("UPDATE decision SET completed_at = now() WHERE gid = ?", gids["completed only now"]).Error; err != nil {
		t.Fatal(err)
	}

	if err := s.coordinator.Forget(t.Context(), week); err != nil {
		t.Fatal(err)
	}
	gone := map[string]bool{"an old commit": true, "an old abort": true, "heuristic and acknowledged": true}
	for name, gid := range gids {
		if s.kept(t, gid) == gone[name] {
			t.Errorf("%s: kept %v", name, s.kept(t, gid))
		}
	}
}

// A branch that committed without waiting for its disk is prepared again after a crash, and asks when its server is back.
// Until then its decision must be there, or the branch would hear that the transaction was aborted.
func TestForget_keepsACommitThatABranchMayStillAskAbout(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	s.aged(t, gid, 100*day)
	// The crash, in which the west forgot what it had not forced.
	if err := s.west.DB.Exec("UPDATE tx_branch SET state = 'prepared', finished_at = NULL").Error; err != nil {
		t.Fatal(err)
	}
	if err := s.west.DB.Exec("UPDATE account SET available = 100").Error; err != nil {
		t.Fatal(err)
	}
	forget := func() {
		t.Helper()
		if err := s.coordinator.Forget(t.Context(), week); err != nil {
			t.Fatal(err)
		}
	}
	delete(s.hosts, "west") // it is away for months
	forget()
	if !s.kept(t, gid) {
		t.Fatal("a participant is away, and the decision is gone")
	}
	s.hosts["west"] = s.west.Handler() // it is back, and has not asked yet
	forget()
	if !s.kept(t, gid) {
		t.Fatal("a branch is in doubt, and the decision is gone")
	}
	if err := s.west.Participant.Inquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	forget()
	if s.kept(t, gid) {
		t.Error("nobody can ask any more, and the decision is kept")
	}
	if got := s.west.Balance(t, "bob"); got != "130+0" {
		t.Errorf("bob %s", got)
	}
	s.sound(t)
}

func TestForget_keepsADayAtLeast(t *testing.T) {
	t.Parallel()
	s := setup(t)
	young, old := uuid.New(), uuid.New()
	for gid, age := range map[uuid.UUID]time.Duration{young: 23 * time.Hour, old: 25 * time.Hour} {
		if _, err := s.begin(t, transfer(gid, 1)); err != nil {
			t.Fatal(err)
		}
		s.settle(t)
		s.aged(t, gid, age)
	}
	if err := s.coordinator.Forget(t.Context(), 0); err != nil || !s.kept(t, young) || s.kept(t, old) {
		t.Errorf("%v: kept the younger: %v, the older: %v", err, s.kept(t, young), s.kept(t, old))
	}
}

// More than one batch, with rows in between that must stay, and two coordinators at it.
func TestForget_removesInBatches(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if err := s.db.Exec(`INSERT INTO decision (gid, outcome, branches, decided_at, completed_at, next_at)
		SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'committed' ELSE 'aborted' END,
			CASE n % 7 WHEN 0 THEN '[{"branch": 0, "service": "nowhere"}]' ELSE '[{"branch": 0, "service": "east"}, {"branch": 1, "service": "west"}]' END::jsonb,
			now() - interval '8 days', CASE n % 5 WHEN 0 THEN NULL ELSE now() - interval '8 days' END, now()
		FROM generate_series(1, 1400) n`).Error; err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := s.coordinator.Forget(t.Context(), week); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var left struct{ All, Wrong int64 }
	if err := s.db.Raw(`SELECT count(*) AS all, count(*) FILTER (WHERE completed_at IS NOT NULL AND
		(outcome = 'aborted' OR branches->0->>'service' <> 'nowhere')) AS wrong FROM decision`).Scan(&left).Error; err != nil {
		t.Fatal(err)
	}
	// Of 1400 a fifth is in doubt; of the rest a fourteenth is committed and has a participant that is not there.
	if left.All != 280+80 || left.Wrong != 0 || s.metric(t, "twopc_forgotten_total") != 1400-360 {
		t.Errorf("%d are left, %d of them wrongly; counted %v", left.All, left.Wrong, s.metric(t, "twopc_forgotten_total"))
	}
}

// A client that repeats itself after the decision is forgotten: the branches outlive it, so nothing happens twice, whoever
// of the participants is reached and whoever still remembers.
func TestForget_aTransactionBegunAgainHasNoSecondEffect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		amount int64
		before func(s *shop) error
		want   []wire.State
	}{
		"a commit":               {30, nil, []wire.State{wire.Committed}},
		"an abort":               {500, nil, []wire.State{wire.Aborted}},
		"the west has forgotten": {30, func(s *shop) error { return s.west.DB.Exec("DELETE FROM tx_branch").Error }, []wire.State{wire.Committed}},
		"the east has forgotten": {30, func(s *shop) error { return s.east.DB.Exec("DELETE FROM tx_branch").Error }, []wire.State{wire.Committed}},
		// Whether the east's answer comes before the west's failure is chance, and so is what the client hears.
		"the west is away":              {30, func(s *shop) error { s.westAway.Store(true); return nil }, []wire.State{wire.Committed, wire.Aborted}},
		"the west is deaf for outcomes": {30, func(s *shop) error { s.westDeaf.Store(true); return nil }, []wire.State{wire.Committed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			// The network itself is not changed while somebody may still be on it.
			s.hosts["west"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s.westAway.Load() || s.westDeaf.Load() && strings.HasSuffix(r.URL.Path, "/finish") {
					panic(http.ErrAbortHandler)
				}
				s.west.Handler().ServeHTTP(w, r)
			})
			b := transfer(uuid.New(), c.amount)
			b.TimeoutMS = 500
			if _, err := s.begin(t, b); err != nil {
				t.Fatal(err)
			}
			s.settle(t)
			s.aged(t, b.GID, 8*day)
			if err := s.coordinator.Forget(t.Context(), week); err != nil || s.kept(t, b.GID) {
				t.Fatalf("kept %v, %v", s.kept(t, b.GID), err)
			}
			balances := func() string { return s.east.Balance(t, "ann") + " " + s.west.Balance(t, "bob") }
			want := balances()
			if c.before != nil {
				if err := c.before(s); err != nil {
					t.Fatal(err)
				}
			}
			out, err := s.begin(t, b)
			if err != nil || !slices.Contains(c.want, out.Body.State) {
				t.Errorf("got %+v, %v, want %v", out, err, c.want)
			}
			s.westAway.Store(false)
			s.westDeaf.Store(false)
			s.settleWithin(t, b)
			if got := balances(); got != want {
				t.Errorf("it was %s, and is %s", want, got)
			}
		})
	}
}

// settleWithin is settle for a transaction whose deadline must pass first.
func (s *shop) settleWithin(t *testing.T, b wire.Begin) {
	t.Helper()
	for _, bank := range []*testkit.Bank{s.east, s.west} {
		if err := bank.DB.Exec("UPDATE tx_branch SET deadline = now() - interval '1 second' WHERE gid = ? AND state = 'prepared'", b.GID).Error; err != nil {
			t.Fatal(err)
		}
	}
	s.settle(t)
}

// A participant forgets last: not before the coordinator, and not before its own time.
func TestForget_branchesOutliveTheDecision(t *testing.T) {
	t.Parallel()
	s := setup(t)
	gid := uuid.New()
	if _, err := s.begin(t, transfer(gid, 30)); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	s.aged(t, gid, 40*day)
	branches := func() (n int) {
		t.Helper()
		if err := s.east.Participant.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.east.DB.Raw("SELECT count(*) FROM tx_branch").Scan(&n).Error; err != nil {
			t.Fatal(err)
		}
		return n
	}
	if branches() != 1 {
		t.Error("the coordinator knows the transaction, and the branch is gone")
	}
	if err := s.coordinator.Forget(t.Context(), coordinator.Retention(60*day)); err != nil || branches() != 1 {
		t.Errorf("%v: the coordinator keeps decisions longer than branches are kept, and the branch is gone", err)
	}
	if err := s.coordinator.Forget(t.Context(), week); err != nil {
		t.Fatal(err)
	}
	s.aged(t, gid, 29*day)
	if branches() != 1 {
		t.Error("the branch is not a month old, and gone")
	}
	s.aged(t, gid, 31*day)
	if branches() != 0 {
		t.Error("nobody can need the branch, and it is kept")
	}
	// A prepare that was a month on its way is refused by its deadline, without a tombstone.
	b := transfer(gid, 30).Branches[0]
	if _, err := s.east.Participant.Prepare(t.Context(), twopc.Prepare{
		GID: gid, Action: b.Action, Payload: b.Payload, Deadline: time.Now().Add(-31 * day),
	}); err == nil {
		t.Error("a prepare after its deadline got a yes")
	}
}
