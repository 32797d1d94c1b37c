package twopc_test

import (
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// doing is a participant whose only action, "do", prepares by calling prepare.
func doing(t *testing.T, db *gorm.DB, prepare func(tx twopc.Tx) error) *twopc.Participant {
	t.Helper()
	nothing := func(twopc.Tx, struct{}) error { return nil }
	return twopc.NewParticipant(twopc.Deps{
		DB: db, Mesh: testkit.Hosts{}.Client(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now,
	}, map[string]twopc.Action{
		"do": twopc.NewAction(func(tx twopc.Tx, _ struct{}) error { return prepare(tx) }, nothing, nothing),
	})
}

func toDo(onePhase bool) twopc.Prepare {
	return twopc.Prepare{
		GID: uuid.New(), Action: "do", Payload: json.RawMessage(`{}`), Deadline: time.Now().Add(time.Minute), OnePhase: onePhase,
	}
}

// recorded is the state of the branch in the database; empty where it is unknown.
func recorded(t *testing.T, db *gorm.DB, m twopc.Prepare) (state twopc.BranchState) {
	t.Helper()
	if err := db.Raw("SELECT state FROM tx_branch WHERE gid = ? AND branch = ?", m.GID, m.Branch).Scan(&state).Error; err != nil {
		t.Fatal(err)
	}
	return state
}

// untilOneWaits returns when a session of the database waits for a lock.
func untilOneWaits(t *testing.T, db *gorm.DB) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, func() bool {
		var n int
		err := db.Raw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n).Error
		return err == nil && n > 0
	})
}

// out is the answer to a prepare message.
type out struct {
	state twopc.BranchState
	err   error
}

// prepareLater sends m, and gives the channel on which the answer will come.
func prepareLater(t *testing.T, p *twopc.Participant, m twopc.Prepare) <-chan out {
	t.Helper()
	answer := make(chan out, 1)
	go func() {
		state, err := p.Prepare(t.Context(), m)
		answer <- out{state, err}
	}()
	return answer
}

// slowNo makes the recording of a no take its time, so that what can come in between does.
const slowNo = `
	CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
	CREATE TRIGGER slow_no BEFORE INSERT ON tx_branch FOR EACH ROW WHEN (NEW.state = 'aborted') EXECUTE FUNCTION slowly()`

// The same branch is asked for twice at once, as when its coordinator's call is repeated on another instance. The first
// finds nothing left and is rolled back; the second, which waited for it, finds something. A no of the first would be
// believed, and the caller told that nothing will happen, while the branch holds or has even committed.
func TestPrepare_isNoOnlyWhereTheNoIsRecorded(t *testing.T) {
	t.Parallel()
	for name, onePhase := range map[string]bool{"two phases": false, "one phase": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testkit.Postgres(t, testkit.Migrations(t, "participant"))
			if err := db.Exec(slowNo).Error; err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int32
			inside, leave := make(chan struct{}), make(chan struct{})
			p := doing(t, db, func(twopc.Tx) error {
				if calls.Add(1) > 1 {
					return nil
				}
				close(inside)
				<-leave
				return fault.New(fault.Conflict, "out_of_stock", "nothing is left")
			})
			m := toDo(onePhase)
			first := prepareLater(t, p, m)
			<-inside
			second := prepareLater(t, p, m)
			untilOneWaits(t, db)
			close(leave)

			a, b := <-first, <-second
			if (a.err == nil) != (b.err == nil) || a.state != b.state || a.state != recorded(t, db, m) {
				t.Errorf("answered %v and %v, recorded %s", a, b, recorded(t, db, m))
			}
		})
	}
}

// A no that could not be recorded in time is no vote: somebody else may be recording a yes at this moment.
func TestPrepare_isNoVoteWhereTheNoCannotBeRecorded(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t, testkit.Migrations(t, "participant"))
	if err := db.Exec(slowNo).Error; err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	p := doing(t, db, func(twopc.Tx) error {
		close(inside)
		<-leave
		return fault.New(fault.Conflict, "out_of_stock", "nothing is left")
	})
	m := toDo(false)
	answer := prepareLater(t, p, m)
	<-inside
	other := db.Begin() // another instance, about to vote yes
	defer other.Rollback()
	voted := make(chan error, 1)
	go func() {
		voted <- other.Exec("INSERT INTO tx_branch (gid, branch, state, action) VALUES (?, 0, 'prepared', 'do')", m.GID).Error
	}()
	untilOneWaits(t, db)
	close(leave)
	if err := <-voted; err != nil {
		t.Fatal(err)
	}
	if a := <-answer; a.err == nil || fault.Is(a.err, fault.Conflict) {
		t.Errorf("answered %v, which the coordinator takes for a vote", a)
	}
}
