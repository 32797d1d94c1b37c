package twopc_test

import (
	"testing"
	"time"

	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// another is one more instance of b.
func another(b *testkit.Bank) *twopc.Participant {
	return twopc.NewParticipant(twopc.Deps{
		DB: b.DB, Mesh: testkit.Hosts{}.Client(), Log: b.Log, Metrics: prometheus.NewRegistry(), Now: time.Now,
	}, testkit.BankActions())
}

// What an instance remembers of a branch saves it reading the branch, and is never taken for what the branch is.
func TestFinish_doesWhatTheBranchSaysAndNotWhatIsRemembered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, b *testkit.Bank, gid uuid.UUID) // between a prepare of 30 and its commit
		want      string
	}{
		"it is as remembered": {func(*testing.T, *testkit.Bank, uuid.UUID) {}, "70+0"},
		"another instance has carried it out": {func(t *testing.T, b *testkit.Bank, gid uuid.UUID) {
			t.Helper()
			if _, err := another(b).Finish(t.Context(), commit(gid)); err != nil {
				t.Fatal(err)
			}
		}, "70+0"},
		"it was carried out, forgotten, and is another branch by now": {func(t *testing.T, b *testkit.Bank, gid uuid.UUID) {
			t.Helper()
			other := another(b)
			if _, err := other.Finish(t.Context(), abort(gid)); err != nil {
				t.Fatal(err)
			}
			if err := b.DB.Exec("DELETE FROM tx_branch WHERE gid = ?", gid).Error; err != nil {
				t.Fatal(err)
			}
			if _, err := other.Prepare(t.Context(), debit(gid, 5)); err != nil {
				t.Fatal(err)
			}
		}, "95+0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gid := setup(t), uuid.New()
			if _, err := b.Participant.Prepare(t.Context(), debit(gid, 30)); err != nil {
				t.Fatal(err)
			}
			c.meanwhile(t, b, gid)
			if state, err := b.Participant.Finish(t.Context(), commit(gid)); err != nil || state != twopc.Committed {
				t.Errorf("got %s, %v", state, err)
			}
			if got := b.Balance(t, "ann"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
