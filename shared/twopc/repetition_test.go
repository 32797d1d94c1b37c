package twopc_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/fault"
	"souk/shared/postgres"
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
			p := doing(t, db, func(tx twopc.Tx) error {
				if calls.Add(1) > 1 {
					return nil
				}
				if err := postgres.Flush(tx.DB); err != nil { // the branch is known, and not yet committed
					return err
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
	p := doing(t, db, func(tx twopc.Tx) error {
		if err := postgres.Flush(tx.DB); err != nil {
			return err
		}
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

// A row that another transaction has says nothing about whether the action is possible.
func TestPrepare_isNoVoteWhereTheDatabaseIsBusy(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t, testkit.Migrations(t, "participant"))
	if err := db.Exec("CREATE TABLE thing (n bigint)").Error; err != nil {
		t.Fatal(err)
	}
	p := doing(t, db, func(tx twopc.Tx) error {
		return errors.Join(tx.Exec("SET LOCAL lock_timeout TO '20ms'").Error, tx.Exec("LOCK TABLE thing").Error)
	})
	other := db.Begin()
	defer other.Rollback()
	if err := other.Exec("LOCK TABLE thing").Error; err != nil {
		t.Fatal(err)
	}
	m := toDo(false)
	if _, err := p.Prepare(t.Context(), m); !fault.Is(err, fault.Unavailable) || !fault.HasCode(err, "busy") {
		t.Errorf("answered %v, want that it is busy", err)
	}
	if got := recorded(t, db, m); got != "" {
		t.Errorf("recorded %s", got)
	}
	other.Rollback()
	if state, err := p.Prepare(t.Context(), m); state != twopc.Prepared {
		t.Errorf("asked again it answered %s, %v", state, err)
	}
}

// Of two that wait for each other one is ended by the database; it is run again, and nobody hears of it.
func TestPrepare_isRunAgainAfterADeadlock(t *testing.T) {
	t.Parallel()
	db := testkit.Postgres(t, testkit.Migrations(t, "participant"))
	if err := db.Exec("CREATE TABLE thing (n bigint); INSERT INTO thing VALUES (1), (2)").Error; err != nil {
		t.Fatal(err)
	}
	take := func(tx *gorm.DB, n int) error { return tx.Exec("SELECT n FROM thing WHERE n = ? FOR UPDATE", n).Error }
	var calls atomic.Int32
	var both sync.WaitGroup
	both.Add(2)
	p := doing(t, db, func(tx twopc.Tx) error {
		n := int(calls.Add(1))
		if n > 2 {
			return errors.Join(take(tx.DB, 1), take(tx.DB, 2))
		}
		if err := take(tx.DB, n); err != nil {
			return err
		}
		both.Done()
		both.Wait()
		return take(tx.DB, 3-n)
	})
	a, b := prepareLater(t, p, toDo(false)), prepareLater(t, p, toDo(false))
	for _, got := range []out{<-a, <-b} {
		if got.state != twopc.Prepared {
			t.Errorf("answered %v", got)
		}
	}
}
