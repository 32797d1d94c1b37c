package coordinator

import (
	"testing"
	"time"

	"souk/migrations"
	"souk/shared/contract/coordinator"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// Who commits a transaction and who calls it off may come with one statement. One of them has decided, and both hear which.
func TestRegister_decidesOnceInOneStatement(t *testing.T) {
	t.Parallel()
	r := register{testkit.Postgres(t, migrations.Coordinator(), migrations.Idempotency())}
	soon := time.Now().Add(time.Minute)
	for _, outcomes := range [][]coordinator.State{
		{coordinator.Committed, coordinator.Aborted},
		{coordinator.Aborted, coordinator.Committed},
		{coordinator.Aborted, coordinator.Aborted},
	} {
		gid := uuid.New()
		var all []decision
		for _, o := range outcomes {
			all = append(all, decision{GID: gid, Outcome: o, Deadline: &soon}, decision{GID: uuid.New(), Outcome: o, Deadline: &soon})
		}
		rulings, err := r.decideAll(t.Context(), all, false)
		if err != nil {
			t.Fatal(err)
		}
		written, err := r.findAll(t.Context(), []uuid.UUID{gid})
		if err != nil {
			t.Fatal(err)
		}
		winners := 0
		for i, ruling := range rulings {
			if all[i].GID != gid {
				if !ruling.won || ruling.truth.Outcome != all[i].Outcome {
					t.Errorf("%s of another transaction: got %+v", all[i].Outcome, ruling)
				}
				continue
			}
			if ruling.won {
				winners++
			}
			if ruling.truth.Outcome != written[gid].Outcome {
				t.Errorf("of %s, who wanted %s is told %s, and the register says %s", outcomes, all[i].Outcome, ruling.truth.Outcome, written[gid].Outcome)
			}
		}
		if winners != 1 {
			t.Errorf("%d of %s have decided", winners, outcomes)
		}
	}
}
