package twopc_test

import (
	"context"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/httpapi"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

const day = 24 * time.Hour

func branchesOf(t *testing.T, b *testkit.Bank) (n int) {
	t.Helper()
	if err := b.DB.Raw("SELECT count(*) FROM tx_branch").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForget_removesOnlyFinishedOldAndForgottenBranches(t *testing.T) {
	t.Parallel()
	remembered := uuid.New()
	s := testkit.NewService(t, "coordinator")
	httpapi.Handle(s.Server, coordinator.ResolveTransactions, func(_ context.Context, in *coordinator.ResolveInput) (*coordinator.ResolveOutput, error) {
		out := new(coordinator.ResolveOutput)
		for _, q := range in.Body.Questions {
			if q.Deadline.Before(time.Now().Add(time.Hour)) {
				t.Errorf("asked with deadline %s: the coordinator would write a decision", q.Deadline)
			}
			state := coordinator.Pending
			if q.GID == remembered {
				state = coordinator.Committed
			}
			out.Body.Outcomes = append(out.Body.Outcomes, coordinator.Outcome{GID: q.GID, State: state})
		}
		return out, nil
	})
	hosts := testkit.Hosts{}
	b := testkit.NewBank(t, "bank", hosts.Client())
	b.Open(t, 1000, "ann")

	old := map[string]uuid.UUID{
		"committed": uuid.New(), "aborted": uuid.New(), "refused": uuid.New(), "a tombstone": uuid.New(), "in doubt": uuid.New(),
		"remembered": remembered, "finished lately": uuid.New(),
	}
	for name, gid := range old {
		amount := int64(1)
		if name == "refused" {
			amount = 5000
		}
		if name != "a tombstone" {
			_, _ = b.Participant.Prepare(t.Context(), debit(gid, amount))
		}
		finish := commit(gid)
		switch name {
		case "refused", "in doubt":
			continue
		case "aborted", "a tombstone":
			finish = abort(gid)
		}
		if _, err := b.Participant.Finish(t.Context(), finish); err != nil {
			t.Fatal(err)
		}
	}
	// And more old ones than are asked about at once.
	if err := b.DB.Exec("INSERT INTO tx_branch (gid, branch, state, action) SELECT gen_random_uuid(), 0, 'aborted', '' FROM generate_series(1, 450)").Error; err != nil {
		t.Fatal(err)
	}
	if err := b.DB.Exec(`UPDATE tx_branch SET prepared_at = now() - interval '31 days',
		finished_at = CASE WHEN finished_at IS NOT NULL AND gid <> ? THEN now() - interval '31 days' ELSE finished_at END`, old["finished lately"]).Error; err != nil {
		t.Fatal(err)
	}
	young := uuid.New()
	if _, err := b.Participant.Finish(t.Context(), abort(young)); err != nil {
		t.Fatal(err)
	}
	if err := b.DB.Exec("UPDATE tx_branch SET prepared_at = now() - interval '29 days', finished_at = now() - interval '29 days' WHERE gid = ?", young).Error; err != nil {
		t.Fatal(err)
	}

	before := branchesOf(t, b)
	if err := b.Participant.Forget(t.Context()); err == nil || branchesOf(t, b) != before {
		t.Errorf("no coordinator: got %v, and %d of %d are left", err, branchesOf(t, b), before)
	}
	hosts["coordinator"] = s.Handler()
	if err := b.Participant.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left []uuid.UUID
	if err := b.DB.Raw("SELECT gid FROM tx_branch").Scan(&left).Error; err != nil {
		t.Fatal(err)
	}
	want := map[uuid.UUID]bool{old["in doubt"]: true, remembered: true, old["finished lately"]: true, young: true}
	for _, gid := range left {
		if !want[gid] {
			t.Errorf("%s is kept", gid)
		}
		delete(want, gid)
	}
	if len(want) != 0 {
		t.Errorf("gone: %v of %v", want, old)
	}
}

func TestSettled_isBeforeEveryBranchInDoubtAndOnDisk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := testkit.Hosts{"bank": b.Handler()}.Client()
	until := func() time.Time {
		t.Helper()
		out, err := twopc.SettledRoute("bank").Call(t.Context(), client, &contract.None{})
		if err != nil {
			t.Fatal(err)
		}
		return out.Body.Until
	}
	if got := until(); time.Since(got).Abs() > time.Minute {
		t.Errorf("nothing is in doubt, and it is settled until %s", got)
	}
	first, second := uuid.New(), uuid.New()
	for gid, age := range map[uuid.UUID]time.Duration{first: 3 * day, second: day} {
		if _, err := b.Participant.Prepare(t.Context(), debit(gid, 1)); err != nil {
			t.Fatal(err)
		}
		if err := b.DB.Exec("UPDATE tx_branch SET prepared_at = now() - make_interval(secs => ?) WHERE gid = ?", age.Seconds(), gid).Error; err != nil {
			t.Fatal(err)
		}
	}
	if got := time.Since(until()); (got - 3*day).Abs() > time.Minute {
		t.Errorf("settled until %s ago, want three days", got)
	}
	if _, err := b.Participant.Finish(t.Context(), commit(first)); err != nil {
		t.Fatal(err)
	}
	// Finishing did not wait for the disk; the answer does.
	var written string
	if err := b.DB.Raw("SELECT pg_current_wal_insert_lsn()::text").Scan(&written).Error; err != nil {
		t.Fatal(err)
	}
	if got := time.Since(until()); (got - day).Abs() > time.Minute {
		t.Errorf("settled until %s ago, want a day", got)
	}
	var flushed bool
	if err := b.DB.Raw("SELECT pg_current_wal_flush_lsn() >= ?::pg_lsn", written).Scan(&flushed).Error; err != nil || !flushed {
		t.Errorf("on disk: %v, %v", flushed, err)
	}
}
