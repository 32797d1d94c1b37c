package user_test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"souk/services/user"
	"souk/shared/contract/coordinator"
	wire "souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

func branch(t *testing.T, action string, p any) twopc.Prepare {
	t.Helper()
	payload, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return twopc.Prepare{GID: uuid.Must(uuid.NewV7()), Action: action, Payload: payload, Deadline: time.Now().Add(time.Minute)}
}

func (s *shop) prepare(t *testing.T, m twopc.Prepare) {
	t.Helper()
	if state, err := s.user.Participant.Prepare(t.Context(), m); err != nil || state != twopc.Prepared {
		t.Fatalf("prepare %s: got %s, %v", m.Action, state, err)
	}
}

func (s *shop) finish(t *testing.T, m twopc.Prepare, as coordinator.State) twopc.BranchState {
	t.Helper()
	state, err := s.user.Participant.Finish(t.Context(), twopc.Decision{GID: m.GID, Branch: m.Branch, State: as})
	if err != nil {
		t.Fatalf("finish %s: %v", m.Action, err)
	}
	return state
}

// earn credits points through a whole transaction.
func (s *shop) earn(t *testing.T, id uuid.UUID, points int64) {
	t.Helper()
	m := branch(t, wire.ActionEarn, wire.Points{UserID: id, Points: points, Reference: "order"})
	s.prepare(t, m)
	s.finish(t, m, coordinator.Committed)
}

// wantPoints checks a balance as its owner sees it, and that the history accounts for it.
func (s *shop) wantPoints(t *testing.T, id uuid.UUID, available, held int64) {
	t.Helper()
	var got wire.PointsBalance
	s.get(t, s.Token(t, id, identity.Customer), "/v1/users/me/points").Into(t, 200, &got)
	if want := (wire.PointsBalance{Available: available, Held: held}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if sum := scan[int64](t, s.db, "SELECT coalesce(sum(points), 0) FROM points_entry WHERE user_id = ?", id); sum != got.Available+got.Held {
		t.Errorf("the history sums to %d, the balance to %d", sum, got.Available+got.Held)
	}
	inDoubt := scan[int64](t, s.db, `SELECT coalesce(sum((payload->>'points')::bigint), 0) FROM tx_branch
		WHERE state = 'prepared' AND action IN ('spend', 'take_back') AND payload->>'user_id' = ?`, id)
	if inDoubt != got.Held {
		t.Errorf("%d points are held, and branches in doubt account for %d", got.Held, inDoubt)
	}
}

func TestPoints_moveWithTheirTransaction(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, token := s.register(t, "p@souk.example")
	s.wantPoints(t, u.ID, 0, 0)
	s.earn(t, u.ID, 100)
	s.wantPoints(t, u.ID, 100, 0)

	lost := branch(t, wire.ActionEarn, wire.Points{UserID: u.ID, Points: 50, Reference: "aborted"})
	s.prepare(t, lost)
	s.wantPoints(t, u.ID, 100, 0)
	s.finish(t, lost, coordinator.Aborted)
	s.wantPoints(t, u.ID, 100, 0)

	spent := branch(t, wire.ActionSpend, wire.Points{UserID: u.ID, Points: 30, Reference: "redeem"})
	s.prepare(t, spent)
	s.prepare(t, spent) // a message may come twice
	s.wantPoints(t, u.ID, 70, 30)
	s.finish(t, spent, coordinator.Committed)
	if state := s.finish(t, spent, coordinator.Committed); state != twopc.Committed {
		t.Errorf("the second commit gave %s", state)
	}
	s.wantPoints(t, u.ID, 70, 0)

	kept := branch(t, wire.ActionSpend, wire.Points{UserID: u.ID, Points: 70, Reference: "redeem"})
	s.prepare(t, kept)
	s.wantPoints(t, u.ID, 0, 70)
	s.finish(t, kept, coordinator.Aborted)
	s.finish(t, kept, coordinator.Aborted)
	s.wantPoints(t, u.ID, 70, 0)
	if state := s.finish(t, kept, coordinator.Committed); state != twopc.Refused {
		t.Errorf("a commit after the abort gave %s", state)
	}
	s.wantPoints(t, u.ID, 70, 0)

	back := branch(t, wire.ActionTakeBack, wire.Points{UserID: u.ID, Points: 100, Reference: "refund"})
	s.prepare(t, back)
	s.wantPoints(t, u.ID, -30, 100)
	s.finish(t, back, coordinator.Aborted)
	s.wantPoints(t, u.ID, 70, 0)
	back = branch(t, wire.ActionTakeBack, wire.Points{UserID: u.ID, Points: 100, Reference: "refund"})
	s.prepare(t, back)
	s.finish(t, back, coordinator.Committed)
	s.wantPoints(t, u.ID, -30, 0)

	var p struct {
		Items []wire.PointsEntry `json:"items"`
		Next  string             `json:"next_page_token"`
	}
	s.get(t, token, "/v1/users/me/points/history?page_size=2").Into(t, 200, &p)
	if len(p.Items) != 2 || p.Next == "" || p.Items[0].GID != back.GID || p.Items[0].Points != -100 || p.Items[0].Kind != "take_back" ||
		p.Items[1].GID != spent.GID || p.Items[1].Points != -30 || p.Items[1].Reference != "redeem" {
		t.Errorf("got %+v", p)
	}
	s.get(t, token, "/v1/users/me/points/history?page_size=2&page_token="+p.Next).Into(t, 200, &p)
	if len(p.Items) != 1 || p.Next != "" || p.Items[0].Kind != "earn" || p.Items[0].Points != 100 {
		t.Errorf("got %+v", p)
	}
	s.get(t, token, "/v1/users/me/points/history?page_token=x").Problem(t, 400, "invalid_page_token")
	s.get(t, "", "/v1/users/me/points").Problem(t, 401, "unauthenticated")
	s.get(t, s.Token(t, uuid.New()), "/v1/users/me/points").Problem(t, 404, "no_such_user")
}

func TestPoints_inOnePhase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, _ := s.register(t, "p@souk.example")
	s.earn(t, u.ID, 10)
	m := branch(t, wire.ActionSpend, wire.Points{UserID: u.ID, Points: 10})
	m.OnePhase = true
	if state, err := s.user.Participant.Prepare(t.Context(), m); err != nil || state != twopc.Committed {
		t.Errorf("got %s, %v", state, err)
	}
	s.wantPoints(t, u.ID, 0, 0)
}

func TestPrepare_votesNo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	u, _ := s.register(t, "p@souk.example")
	s.earn(t, u.ID, 10)
	s.earn(t, user.SeedBob, 10)
	s.setState(t, admin, user.SeedBob, "disable").Into(t, 200, nil)
	for name, c := range map[string]struct {
		action  string
		payload any
		code    string
	}{
		"more than there is":             {wire.ActionSpend, wire.Points{UserID: u.ID, Points: 11}, "insufficient_points"},
		"a disabled account spends":      {wire.ActionSpend, wire.Points{UserID: user.SeedBob, Points: 1}, "account_disabled"},
		"an unknown account spends":      {wire.ActionSpend, wire.Points{UserID: uuid.New(), Points: 1}, "no_such_user"},
		"an unknown account earns":       {wire.ActionEarn, wire.Points{UserID: uuid.New(), Points: 1}, "no_such_user"},
		"an unknown account gives back":  {wire.ActionTakeBack, wire.Points{UserID: uuid.New(), Points: 1}, "no_such_user"},
		"zero":                           {wire.ActionEarn, wire.Points{UserID: u.ID}, "invalid_points"},
		"a negative spend":               {wire.ActionSpend, wire.Points{UserID: u.ID, Points: -5}, "invalid_points"},
		"a negative take back":           {wire.ActionTakeBack, wire.Points{UserID: u.ID, Points: -5}, "invalid_points"},
		"more than is possible":          {wire.ActionEarn, wire.Points{UserID: u.ID, Points: 1e18}, "invalid_points"},
		"a reference that is a document": {wire.ActionEarn, wire.Points{UserID: u.ID, Points: 1, Reference: fmt.Sprintf("%0201d", 1)}, "invalid_reference"},
		"a field we do not know":         {wire.ActionEarn, map[string]any{"user_id": u.ID, "points": 1, "bonus": 1}, "invalid_payload"},
		"an action we do not know":       {"give", wire.Points{UserID: u.ID, Points: 1}, "unknown_action"},
	} {
		m := branch(t, c.action, c.payload)
		for range 2 { // the same no for a repetition
			state, err := s.user.Participant.Prepare(t.Context(), m)
			if state != twopc.Aborted || !fault.Is(err, fault.Conflict) || !fault.HasCode(err, c.code) {
				t.Errorf("%s: got %s, %v, want a no with %s", name, state, err, c.code)
			}
		}
		if state := s.finish(t, m, coordinator.Aborted); state != twopc.Aborted {
			t.Errorf("%s: the abort gave %s", name, state)
		}
	}
	s.wantPoints(t, u.ID, 10, 0)
	s.wantPoints(t, user.SeedBob, 10, 0)

	late := branch(t, wire.ActionSpend, wire.Points{UserID: u.ID, Points: 5})
	s.finish(t, late, coordinator.Aborted) // overtakes its prepare
	if _, err := s.user.Participant.Prepare(t.Context(), late); !fault.HasCode(err, "aborted") {
		t.Errorf("the late prepare got %v, want aborted", err)
	}
	unknown := branch(t, wire.ActionEarn, wire.Points{UserID: u.ID, Points: 5})
	if state := s.finish(t, unknown, coordinator.Committed); state != twopc.Refused {
		t.Errorf("the commit of an unknown branch gave %s", state)
	}
	s.wantPoints(t, u.ID, 10, 0)

	// A disabled account still earns what it has bought, and gives back what it returns.
	s.earn(t, user.SeedBob, 5)
	back := branch(t, wire.ActionTakeBack, wire.Points{UserID: user.SeedBob, Points: 20})
	s.prepare(t, back)
	s.finish(t, back, coordinator.Committed)
	s.wantPoints(t, user.SeedBob, -5, 0)
}

// Twenty spends of ten meet a balance of a hundred, while others earn and take back: ten are a yes, and what is left at
// the end is what the history says.
func TestSpend_neverMoreThanThereIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, _ := s.register(t, "p@souk.example")
	s.earn(t, u.ID, 100)
	var yes, no atomic.Int32
	atOnce(20, func(i int) {
		m := branch(t, wire.ActionSpend, wire.Points{UserID: u.ID, Points: 10})
		_, err := s.user.Participant.Prepare(t.Context(), m)
		switch {
		case err == nil:
			yes.Add(1)
			s.finish(t, m, coordinator.Committed)
		case fault.HasCode(err, "insufficient_points"):
			no.Add(1)
		default:
			t.Error(err)
		}
	})
	if yes.Load() != 10 || no.Load() != 10 {
		t.Errorf("%d yes and %d no, want ten of each", yes.Load(), no.Load())
	}
	s.wantPoints(t, u.ID, 0, 0)

	atOnce(24, func(i int) {
		action := []string{wire.ActionEarn, wire.ActionSpend, wire.ActionTakeBack}[i%3]
		m := branch(t, action, wire.Points{UserID: u.ID, Points: int64(1 + i%5)})
		if _, err := s.user.Participant.Prepare(t.Context(), m); err != nil {
			if !fault.HasCode(err, "insufficient_points") {
				t.Error(err)
			}
			return
		}
		s.finish(t, m, []coordinator.State{coordinator.Committed, coordinator.Aborted}[i/3%2])
	})
	available := scan[int64](t, s.db, "SELECT available FROM points_account WHERE user_id = ?", u.ID)
	s.wantPoints(t, u.ID, available, 0)
}
