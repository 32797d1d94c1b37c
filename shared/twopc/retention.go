package twopc

import (
	"context"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Finished branches are kept 30 days at least, and longer than the coordinator knows their transaction: a message that
// comes late, or a transaction that is begun again under an old gid, still finds what became of the branch. Who forgets
// first is not left to two configurations: a participant asks, and forgets only what the coordinator has forgotten.
const (
	kept         = 30 * 24 * time.Hour
	forgetEvery  = time.Minute
	forgetAtOnce = askAtOnce
)

// Settled is up to when the branches of a service are settled.
type Settled struct {
	Until time.Time `json:"until" doc:"Every branch that was prepared before then knows its outcome, on disk"`
}

// SettledRoute asks service up to when no branch of it can be in doubt any more.
func SettledRoute(service string) contract.Route[contract.None, contract.Body[Settled]] {
	return contract.Route[contract.None, contract.Body[Settled]]{
		ID: "settled-branches", Service: service, Method: http.MethodGet, Path: "/internal/v1/tx/settled",
		Permission: identity.Internal, Summary: "Up to when all branches know their outcome",
	}
}

func (p *Participant) settled(ctx context.Context, _ *contract.None) (*contract.Body[Settled], error) {
	until, err := p.Settled(ctx)
	return &contract.Body[Settled]{Body: Settled{Until: until}}, err
}

// Settled is a time, by the database's clock, such that every branch prepared before it knows its outcome, and will after
// a crash too.
func (p *Participant) Settled(ctx context.Context) (until time.Time, err error) {
	err = postgres.InTx(ctx, p.deps.DB, func(tx *gorm.DB) error {
		// A transaction that has written something waits for the disk when it commits, and so for all that it has seen before;
		// this is the smallest thing it can write. Branches are finished without waiting for the disk: a crash could take back
		// what is answered here.
		if err := tx.Exec("SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'souk', 'settled')").Error; err != nil {
			return err
		}
		return tx.Raw("SELECT COALESCE(min(prepared_at), now()) FROM tx_branch WHERE state = 'prepared'").Scan(&until).Error
	})
	return until, err
}

// Forget removes once, in batches, the finished branches that are old enough and whose transaction the coordinator has
// forgotten.
func (p *Participant) Forget(ctx context.Context) error {
	type finished struct {
		GID        uuid.UUID
		Branch     int
		PreparedAt time.Time
	}
	for last := (finished{}); ; {
		var old []finished
		err := p.deps.DB.WithContext(ctx).Raw(`SELECT gid, branch, prepared_at FROM tx_branch
			WHERE state <> 'prepared' AND prepared_at < now() - make_interval(secs => ?)
				AND COALESCE(finished_at, prepared_at) < now() - make_interval(secs => ?) AND (prepared_at, gid, branch) > (?, ?, ?)
			ORDER BY prepared_at, gid, branch LIMIT ?`,
			kept.Seconds(), kept.Seconds(), last.PreparedAt, last.GID, last.Branch, forgetAtOnce).Scan(&old).Error
		if err != nil || len(old) == 0 {
			return err
		}
		gids := make([]uuid.UUID, len(old))
		for i, b := range old {
			gids[i] = b.GID
		}
		if gids, err = p.forgotten(ctx, gids); err != nil {
			return err
		}
		if err = p.remove(ctx, gids); err != nil || len(old) < forgetAtOnce {
			return err
		}
		last = old[len(old)-1]
	}
}

// forgotten gives those of gids that the coordinator does not know any more.
func (p *Participant) forgotten(ctx context.Context, gids []uuid.UUID) ([]uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	in := new(coordinator.ResolveInput)
	for _, gid := range gids {
		// With a deadline that is not over, the coordinator only looks, and decides nothing.
		in.Body.Questions = append(in.Body.Questions, coordinator.Question{GID: gid, Deadline: p.deps.Now().Add(kept)})
	}
	out, err := coordinator.ResolveTransactions.Call(ctx, p.deps.Mesh, in)
	if err != nil {
		return nil, err
	}
	var unknown []uuid.UUID
	for _, o := range out.Body.Outcomes {
		if o.State == coordinator.Pending {
			unknown = append(unknown, o.GID)
		}
	}
	return unknown, nil
}

// remove removes the finished branches of gids. It is not forced: what comes back in a crash is removed again.
func (p *Participant) remove(ctx context.Context, gids []uuid.UUID) error {
	if len(gids) == 0 {
		return nil
	}
	return postgres.InLazyTx(ctx, p.deps.DB, func(tx *gorm.DB) error {
		return tx.Exec("DELETE FROM tx_branch WHERE gid IN ? AND state <> 'prepared' AND prepared_at < now() - make_interval(secs => ?)",
			gids, kept.Seconds()).Error
	})
}
