package twopc_test

import (
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// What an action leaves for after the commit is done once for each step that was, and not for what was rolled back.
func TestTx_afterCommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	done := map[string]int{}
	note := func(step string, err error) func(twopc.Tx, testkit.Transfer) error {
		return func(tx twopc.Tx, _ testkit.Transfer) error {
			tx.AfterCommit(func() { done[step]++ })
			return err
		}
	}
	p := twopc.NewParticipant(twopc.Deps{DB: b.DB, Mesh: testkit.Hosts{}.Client(), Log: b.Log, Metrics: prometheus.NewRegistry(), Now: time.Now},
		map[string]twopc.Action{
			"debit": twopc.NewAction(note("prepare", nil), note("commit", nil), note("abort", nil)),
			"never": twopc.NewAction(note("refused", fault.New(fault.Conflict, "no", "no")), note("commit", nil), note("abort", nil)),
		})
	gid := uuid.New()
	never := debit(uuid.New(), 1)
	never.Action = "never"
	for range 2 {
		if _, err := p.Prepare(t.Context(), debit(gid, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Finish(t.Context(), commit(gid)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Prepare(t.Context(), never); !fault.HasCode(err, "no") {
			t.Fatal(err)
		}
	}
	if len(done) != 2 || done["prepare"] != 1 || done["commit"] != 1 {
		t.Errorf("after commits: %v", done)
	}
}
