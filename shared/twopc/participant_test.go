package twopc_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

func setup(t *testing.T) *testkit.Bank {
	t.Helper()
	b := testkit.NewBank(t, "bank", testkit.Hosts{}.Client())
	b.Open(t, 100, "ann", "bob")
	return b
}

func debit(gid uuid.UUID, amount int64) twopc.Prepare {
	payload, _ := json.Marshal(testkit.Transfer{Account: "ann", Amount: amount})
	return twopc.Prepare{GID: gid, Action: "debit", Payload: payload, Deadline: time.Now().Add(time.Minute)}
}

func commit(gid uuid.UUID) twopc.Decision {
	return twopc.Decision{GID: gid, State: coordinator.Committed}
}

func abort(gid uuid.UUID) twopc.Decision { return twopc.Decision{GID: gid, State: coordinator.Aborted} }

// Each case is a conversation with one branch; after each message the account must be as written: available+held.
func TestParticipant_conversations(t *testing.T) {
	t.Parallel()
	type exchange struct {
		say     string // prepare, commit, abort
		want    string // the state answered, or the code of the refusal
		balance string
	}
	for name, talk := range map[string][]exchange{
		"commit":                    {{"prepare", "prepared", "70+30"}, {"commit", "committed", "70+0"}},
		"abort":                     {{"prepare", "prepared", "70+30"}, {"abort", "aborted", "100+0"}},
		"prepare twice":             {{"prepare", "prepared", "70+30"}, {"prepare", "prepared", "70+30"}, {"commit", "committed", "70+0"}},
		"commit twice":              {{"prepare", "prepared", "70+30"}, {"commit", "committed", "70+0"}, {"commit", "committed", "70+0"}},
		"abort twice":               {{"prepare", "prepared", "70+30"}, {"abort", "aborted", "100+0"}, {"abort", "aborted", "100+0"}},
		"prepare after commit":      {{"prepare", "prepared", "70+30"}, {"commit", "committed", "70+0"}, {"prepare", "committed", "70+0"}},
		"late prepare after abort":  {{"abort", "aborted", "100+0"}, {"prepare", "aborted", "100+0"}, {"abort", "aborted", "100+0"}},
		"commit of an unknown":      {{"commit", "refused", "100+0"}, {"commit", "refused", "100+0"}},
		"commit after abort":        {{"prepare", "prepared", "70+30"}, {"abort", "aborted", "100+0"}, {"commit", "refused", "100+0"}},
		"abort after commit":        {{"prepare", "prepared", "70+30"}, {"commit", "committed", "70+0"}, {"abort", "refused", "70+0"}},
		"no":                        {{"prepare 101", "insufficient_funds", "100+0"}, {"prepare 101", "insufficient_funds", "100+0"}, {"abort", "aborted", "100+0"}},
		"no, though money came in":  {{"prepare 101", "insufficient_funds", "100+0"}, {"deposit", "", "200+0"}, {"prepare 101", "insufficient_funds", "200+0"}},
		"another branch, same name": {{"prepare", "prepared", "70+30"}, {"prepare 31", "transaction_reused", "70+30"}},
		"one phase":                 {{"prepare once", "committed", "70+0"}, {"prepare once", "committed", "70+0"}},
		"too late":                  {{"prepare late", "deadline", "100+0"}},
		"no such action":            {{"prepare steal", "unknown_action", "100+0"}},
		"unreadable":                {{"prepare garbage", "invalid_payload", "100+0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gid := setup(t), uuid.New()
			for i, e := range talk {
				if got := say(t, b, gid, e.say); got != e.want {
					t.Errorf("%d: %s: got %s, want %s", i, e.say, got, e.want)
				}
				if got := b.Balance(t, "ann"); got != e.balance {
					t.Errorf("%d: after %s: balance %s, want %s", i, e.say, got, e.balance)
				}
			}
			var heuristics int
			if err := b.DB.Raw("SELECT count(*) FROM tx_heuristic").Scan(&heuristics).Error; err != nil {
				t.Fatal(err)
			}
			if want := 0; (talk[len(talk)-1].want == "refused") != (heuristics > want) {
				t.Errorf("%d heuristics were recorded", heuristics)
			}
		})
	}
}

func say(t *testing.T, b *testkit.Bank, gid uuid.UUID, what string) string {
	t.Helper()
	m := debit(gid, 30)
	switch what {
	case "deposit":
		if err := b.DB.Exec("UPDATE account SET available = available + 100 WHERE id = 'ann'").Error; err != nil {
			t.Fatal(err)
		}
		return ""
	case "commit", "abort":
		d := map[string]twopc.Decision{"commit": commit(gid), "abort": abort(gid)}[what]
		state, err := b.Participant.Finish(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return string(state)
	case "prepare 101":
		m = debit(gid, 101)
	case "prepare 31":
		m = debit(gid, 31)
	case "prepare once":
		m.OnePhase = true
	case "prepare late":
		m.Deadline = time.Now().Add(-time.Second)
	case "prepare steal":
		m.Action = "steal"
	case "prepare garbage":
		m.Payload = json.RawMessage(`{"account":"ann","amount":1,"to":"me"}`)
	}
	state, err := b.Participant.Prepare(t.Context(), m)
	if err != nil {
		return fault.Of(err).Problem().Code
	}
	return string(state)
}

// Every message of one branch at the same time, several times over: one outcome, and the money is in one place.
func TestParticipant_allMessagesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 10 {
		gid := uuid.New()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = b.Participant.Prepare(t.Context(), debit(gid, 1)) })
			wg.Go(func() { _, _ = b.Participant.Finish(t.Context(), abort(gid)) })
		}
		wg.Wait()
		if state, err := b.Participant.Finish(t.Context(), abort(gid)); err != nil || state != twopc.Aborted {
			t.Errorf("got %s, %v", state, err)
		}
	}
	if total, held := b.Total(t); total != 200 || held != 0 {
		t.Errorf("total %d, held %d", total, held)
	}
}

func TestParticipant_neverPromisesMoreThanThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var wg sync.WaitGroup
	yes := make(chan uuid.UUID, 20)
	for range 20 {
		wg.Go(func() {
			gid := uuid.New()
			if _, err := b.Participant.Prepare(t.Context(), debit(gid, 30)); err == nil {
				yes <- gid
			}
		})
	}
	wg.Wait()
	if len(yes) != 3 {
		t.Errorf("%d debits of 30 were promised out of 100", len(yes))
	}
	if got := b.Balance(t, "ann"); got != "10+90" {
		t.Errorf("balance %s", got)
	}
}

func TestInquire_learnsTheOutcomeOfWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	var asked []coordinator.Question
	outcomes := map[uuid.UUID]coordinator.State{}
	s := testkit.NewService(t, "coordinator")
	httpapi.Handle(s.Server, coordinator.ResolveTransactions, func(_ context.Context, in *coordinator.ResolveInput) (*coordinator.ResolveOutput, error) {
		asked = append(asked, in.Body.Questions...)
		out := new(coordinator.ResolveOutput)
		for _, q := range in.Body.Questions {
			out.Body.Outcomes = append(out.Body.Outcomes, coordinator.Outcome{GID: q.GID, State: outcomes[q.GID]})
		}
		return out, nil
	})
	hosts := testkit.Hosts{}
	b := testkit.NewBank(t, "bank", hosts.Client())
	b.Open(t, 100, "ann")

	committed, aborted, open, fresh := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	outcomes[committed], outcomes[aborted], outcomes[open] = coordinator.Committed, coordinator.Aborted, coordinator.Pending
	for _, gid := range []uuid.UUID{committed, aborted, open, fresh} {
		if _, err := b.Participant.Prepare(t.Context(), debit(gid, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.DB.Exec("UPDATE tx_branch SET prepared_at = now() - interval '3 seconds' WHERE gid <> ?", fresh).Error; err != nil {
		t.Fatal(err)
	}

	if err := b.Participant.Inquire(t.Context()); err == nil {
		t.Error("no coordinator, and no error")
	}
	if got := b.Balance(t, "ann"); got != "60+40" {
		t.Errorf("without an answer the balance became %s", got)
	}
	hosts["coordinator"] = s.Handler()
	if err := b.Participant.Inquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 {
		t.Errorf("asked about %d branches, want the 3 that are in doubt", len(asked))
	}
	if got := b.Balance(t, "ann"); got != "70+20" {
		t.Errorf("balance %s, want one debit done, one given back, two held", got)
	}
}

// The messages as they are on the wire.
func TestRoutes_aNoIsAConflict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := testkit.Hosts{"bank": b.Handler()}.Client()
	gid := uuid.New()
	if _, err := twopc.PrepareRoute("bank").Call(t.Context(), client, &twopc.PrepareInput{Body: debit(gid, 500)}); !fault.Is(err, fault.Conflict) || !fault.HasCode(err, "insufficient_funds") {
		t.Errorf("got %v, want a conflict with the reason", err)
	}
	yes, err := twopc.PrepareRoute("bank").Call(t.Context(), client, &twopc.PrepareInput{Body: debit(uuid.New(), 5)})
	if err != nil || yes.Body.State != twopc.Prepared {
		t.Errorf("got %v, %v, want prepared", yes, err)
	}
	in := new(twopc.FinishInput)
	in.Body.Decisions = []twopc.Decision{abort(gid), commit(uuid.New())}
	out, err := twopc.FinishRoute("bank").Call(t.Context(), client, in)
	if err != nil {
		t.Fatal(err)
	}
	if out.Body.Branches[0].State != twopc.Aborted || out.Body.Branches[1].State != twopc.Refused {
		t.Errorf("got %+v", out.Body.Branches)
	}
	if got := b.Do(t, testkit.Request{Method: http.MethodPost, Path: "/internal/v1/tx/finish", Body: "{}"}); got.Status != 400 {
		t.Errorf("a message without a key: %d", got.Status)
	}
}
