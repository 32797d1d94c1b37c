package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/loop"
	"souk/shared/postgres"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Retention is how long a decision is kept. Removing one is safe when nobody can need it any more:
//
//   - A client that repeats its request must find the outcome. Keys are kept 24 hours; that is the floor.
//   - A coordinator that carries it out must find it: only completed decisions are removed, and heuristic ones only when a
//     person has acknowledged them.
//   - A participant that asks must find it. Of a transaction that is not known it hears, once its deadline is over, that it
//     was aborted: so an aborted one may go without more ado. But completed does not mean that no branch of a committed one
//     will ask again: a branch that carried it out without waiting for its disk, and whose server then crashed, is prepared
//     again, and asks when the server is back, be that in a month. So before commits are removed, each participant of them
//     is asked up to when all its branches know their outcome, on disk (twopc.SettledRoute). What it cannot say is kept.
//
// Participants keep their branches until the coordinator has forgotten the transaction, and 30 days at least: a gid that
// is begun again after that is answered by its branches, and has no second effect.
type Retention time.Duration

const (
	leastRetention = Retention(24 * time.Hour) // idempotency.Kept, the longest that a client is promised an answer
	forgetEvery    = time.Minute
	forgetAtOnce   = 500                   // rows in one statement: some milliseconds of work
	forgetPause    = 20 * time.Millisecond // between two of them, for the others
	settledTime    = 5 * time.Second       // to ask one participant
	settledMargin  = time.Hour             // by which a participant's clock may be wrong
)

// UnmarshalText reads a duration such as "168h", and refuses one that is below the floor.
func (r *Retention) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if Retention(d) < leastRetention {
		return fmt.Errorf("decisions must be kept for %s at least", time.Duration(leastRetention))
	}
	*r = Retention(d)
	return nil
}

// Config is what the coordinator reads from its environment besides what every service does.
type Config struct {
	Retention Retention `env:"RETENTION" envDefault:"168h"`
}

// Forgetter is a loop that removes decisions older than kept, until its context ends. A kept below the floor is the floor.
// Several coordinators may run it.
func (s *Service) Forgetter(kept Retention) func(context.Context) error {
	return func(ctx context.Context) error {
		return loop.Every(ctx, forgetEvery, s.deps.Log, "forget old decisions", func(ctx context.Context) error {
			return s.Forget(ctx, kept)
		})
	}
}

// Forget removes once what may be removed, in batches.
func (s *Service) Forget(ctx context.Context, kept Retention) error {
	kept = max(kept, leastRetention)
	participants := map[string]time.Time{} // until when each is settled; the zero time where it did not say
	for after := new(cursor); ; {
		old, err := s.register.old(ctx, kept, *after, forgetAtOnce)
		if err != nil || len(old) == 0 {
			return err
		}
		var gids []uuid.UUID
		for _, d := range old {
			if d.Outcome == coordinator.Aborted || s.settled(ctx, d, participants) {
				gids = append(gids, d.GID)
			}
		}
		n, err := s.register.remove(ctx, kept, gids)
		if err != nil {
			return err
		}
		s.seen.forgotten.Add(float64(n))
		if len(old) < forgetAtOnce {
			return nil
		}
		after = &cursor{old[len(old)-1].DecidedAt, old[len(old)-1].GID}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(forgetPause):
		}
	}
}

// settled reports whether no participant of d can ask about it any more. It asks each participant once, and notes the
// answer in known.
func (s *Service) settled(ctx context.Context, d decision, known map[string]time.Time) bool {
	for _, p := range d.Branches {
		until, ok := known[p.Service]
		if !ok {
			until = s.settledUntil(ctx, p.Service)
			known[p.Service] = until
		}
		if until.Before(d.DecidedAt.Add(settledMargin)) {
			return false
		}
	}
	return true
}

func (s *Service) settledUntil(ctx context.Context, service string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, settledTime)
	defer cancel()
	out, err := twopc.SettledRoute(service).Call(ctx, s.deps.Mesh, &contract.None{})
	if err != nil {
		s.deps.Log.WarnContext(ctx, "old commits are kept: a participant does not say that none is in doubt", "participant", service, "error", err)
		return time.Time{}
	}
	return out.Body.Until
}

// removable is the rows that retention may look at. Time is the database's.
const removable = `completed_at IS NOT NULL AND (NOT heuristic OR acknowledged_at IS NOT NULL)
	AND decided_at < now() - make_interval(secs => @kept) AND completed_at < now() - make_interval(secs => @kept)`

// old gives removable decisions, oldest first, from after on.
func (r register) old(ctx context.Context, kept Retention, after cursor, limit int) ([]decision, error) {
	var rows []decision
	err := r.db.WithContext(ctx).Raw(`SELECT gid, outcome, branches, decided_at FROM decision
		WHERE `+removable+` AND (decided_at, gid) > (@at, @gid) ORDER BY decided_at, gid LIMIT @limit`,
		map[string]any{"kept": time.Duration(kept).Seconds(), "at": after.At, "gid": after.GID, "limit": limit}).Scan(&rows).Error
	return rows, err
}

// remove removes what is still removable of gids. It is not forced: what comes back in a crash is removed again.
func (r register) remove(ctx context.Context, kept Retention, gids []uuid.UUID) (n int64, err error) {
	if len(gids) == 0 {
		return 0, nil
	}
	// One array, and not as many parameters as there are gids: the statement is the same each time.
	list, err := json.Marshal(gids)
	if err != nil {
		return 0, err
	}
	err = postgres.InLazyTx(ctx, r.db, func(tx *gorm.DB) error {
		res := tx.Exec(`DELETE FROM decision WHERE gid IN (SELECT CAST(g AS uuid) FROM jsonb_array_elements_text(CAST(@gids AS jsonb)) g)
			AND `+removable, map[string]any{"gids": string(list), "kept": time.Duration(kept).Seconds()})
		n = res.RowsAffected
		return res.Error
	})
	return n, err
}
