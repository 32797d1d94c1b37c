package twopc_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Several branches of several transactions on one account, and messages about them in any order, any number of times: a
// commit before its prepare, a prepare after its abort, an abort after its commit, everything twice. Each answer, each
// branch and the account are what a table of six lines says, whichever of two instances a message comes to, and whatever that
// one remembers.
func TestParticipant_inAnySchedule(t *testing.T) {
	t.Parallel()
	b := testkit.NewBank(t, "bank", testkit.Hosts{}.Client())
	instances := []*twopc.Participant{b.Participant, another(b)}
	var runs int
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		ann := fmt.Sprint("ann-", runs)
		b.Open(t, 100, ann)
		available, held, refused := int64(100), int64(0), 0
		type name struct {
			gid    uuid.UUID
			branch int
		}
		states := map[name]twopc.BranchState{}
		gids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}

		for range rapid.IntRange(5, 30).Draw(rt, "messages") {
			which := rapid.IntRange(0, len(gids)-1).Draw(rt, "transaction")
			n := name{gids[which], rapid.IntRange(0, 1).Draw(rt, "branch")}
			amount := int64(20 + 10*n.branch + 15*which) // the same each time the branch is named
			was := states[n]
			var got, want twopc.BranchState
			var err error
			instance := rapid.SampledFrom(instances).Draw(rt, "instance")
			what := rapid.SampledFrom([]string{"prepare", "prepare", "commit", "abort"}).Draw(rt, "message")
			switch what {
			case "prepare":
				payload, _ := json.Marshal(testkit.Transfer{Account: ann, Amount: amount})
				got, err = instance.Prepare(rt.Context(), twopc.Prepare{
					GID: n.gid, Branch: n.branch, Action: "debit", Payload: payload, Deadline: time.Now().Add(time.Minute),
				})
				want = was
				if was == "" && amount <= available {
					want, available, held = twopc.Prepared, available-amount, held+amount
				} else if was == "" {
					want = twopc.Aborted
				}
				states[n] = want
				if (want == twopc.Aborted) != fault.Is(err, fault.Conflict) {
					rt.Fatalf("prepare of a branch that is %q: %v", want, err)
				}
				err = nil
			case "commit":
				got, err = instance.Finish(rt.Context(), twopc.Decision{GID: n.gid, Branch: n.branch, State: coordinator.Committed})
				switch was {
				case twopc.Prepared:
					states[n], held = twopc.Committed, held-amount
					want = twopc.Committed
				case twopc.Committed:
					want = was
				default:
					want = twopc.Refused
				}
			case "abort":
				got, err = instance.Finish(rt.Context(), twopc.Decision{GID: n.gid, Branch: n.branch, State: coordinator.Aborted})
				switch was {
				case twopc.Prepared:
					available, held = available+amount, held-amount
					fallthrough
				case "", twopc.Aborted:
					states[n], want = twopc.Aborted, twopc.Aborted
				default:
					want = twopc.Refused
				}
			}
			if want == twopc.Refused {
				refused++
			}
			if err != nil || got != want {
				rt.Fatalf("%s of a branch that is %q: got %s, %v, want %s", what, was, got, err, want)
			}
			if now := b.Balance(t, ann); now != fmt.Sprintf("%d+%d", available, held) {
				rt.Fatalf("after %s: the account has %s, want %d+%d", what, now, available, held)
			}
		}

		// What contradicted is written down, for a person to see.
		var alarms int
		if err := b.DB.Raw("SELECT count(*) FROM tx_heuristic WHERE gid IN ?", gids).Scan(&alarms).Error; err != nil {
			rt.Fatal(err)
		}
		if (alarms > 0) != (refused > 0) {
			rt.Fatalf("%d messages were refused, %d are recorded", refused, alarms)
		}
	})
}
