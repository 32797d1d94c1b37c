package coordinator

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/loop"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

// Recovery finds decided transactions that nobody is carrying out, takes them under a lease, and tells their branches
// again, for ever. It does not matter who decided them.
const (
	recoverEvery   = 500 * time.Millisecond
	recoverAtOnce  = 100
	firstPause     = 100 * time.Millisecond // between two drives of one transaction; doubled each time, with full jitter
	longestPause   = 5 * time.Second
	doublings      = 6 // 100 ms · 2⁶ is past the longest pause
	statisticsTime = time.Second
)

// Run recovers until ctx ends, and then waits for the transactions that are under way here.
func (s *Service) Run(ctx context.Context) error {
	defer s.flying.Wait()
	return loop.Every(ctx, recoverEvery, s.deps.Log, "recover transactions", s.Recover)
}

// Recover drives once what is due. The failure of one transaction, or of one participant, does not hold up the others.
func (s *Service) Recover(ctx context.Context) error {
	s.count(ctx)
	crash.At(crash.BeforeLease)
	due, err := s.register.due(ctx, recoverAtOnce, s.event("taken_over", "", ""))
	if err != nil {
		s.seen.registerErrors.Inc()
	}
	if err != nil || len(due) == 0 {
		return err
	}
	crash.At(crash.AfterLease)
	s.seen.takeovers.Add(float64(len(due)))
	answers := s.tellDue(ctx, due)

	var failed error
	var completions []completion
	for _, d := range due {
		heuristic := d.Heuristic
		var waitingFor []string
		var timeline []coordinator.Event
		for _, p := range d.Branches {
			switch done := answers[d.GID][p.Branch]; done {
			case "":
				waitingFor = append(waitingFor, p.Service)
				s.seen.retries.WithLabelValues(p.Service).Inc()
			case twopc.Refused:
				heuristic = true
				timeline = append(timeline, s.event("heuristic", p.Service, "recovery"))
			default:
				timeline = append(timeline, s.event(string(done), p.Service, "recovery"))
			}
		}
		if len(waitingFor) == 0 {
			completions = append(completions, s.completion(ctx, d.GID, heuristic, timeline))
			continue
		}
		pause := min(firstPause<<min(d.Attempts, doublings), longestPause)
		crash.At(crash.BeforePostpone)
		failed = errors.Join(failed, s.register.postpone(ctx, d.GID, rand.N(pause), strings.Join(waitingFor, ", ")))
		crash.At(crash.AfterPostpone)
	}
	if len(completions) > 0 {
		if _, err := s.completeAll(ctx, completions); err != nil {
			s.incomplete(ctx, err)
		}
	}
	return failed
}

// tellDue tells every branch of the given decisions, in batches per participant, all in parallel. A branch
// that could not be told has no answer.
func (s *Service) tellDue(ctx context.Context, due []decision) map[uuid.UUID]map[int]twopc.BranchState {
	batches := map[string][]twopc.Decision{}
	answers := map[uuid.UUID]map[int]twopc.BranchState{}
	for _, d := range due {
		answers[d.GID] = map[int]twopc.BranchState{}
		for _, p := range d.Branches {
			batches[p.Service] = append(batches[p.Service], twopc.Decision{GID: d.GID, Branch: p.Branch, State: d.Outcome})
		}
	}
	var mu sync.Mutex
	var telling sync.WaitGroup
	for service, all := range batches {
		for batch := range slices.Chunk(all, twopc.MaxBranches) {
			telling.Go(func() {
				done, err := s.tellAll(ctx, service, batch)
				if err != nil {
					s.deps.Log.WarnContext(ctx, "tell a participant what was decided", "participant", service, "error", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, b := range done {
					answers[b.GID][b.Branch] = b.State
				}
			})
		}
	}
	telling.Wait()
	return answers
}

// count keeps the gauges of what is not over.
func (s *Service) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statisticsTime)
	defer cancel()
	o, err := s.register.open(ctx)
	if err != nil {
		return // Recover will fail on the same register, and say so
	}
	s.seen.inDoubt.Set(float64(o.InDoubt))
	s.seen.oldest.Set(o.OldestSeconds)
	s.seen.unacknowledged.Set(float64(o.Unacknowledged))
}

// Resolve answers participants in doubt. See register.fence for what makes the answer final.
func (s *Service) Resolve(ctx context.Context, in *coordinator.ResolveInput) (*coordinator.ResolveOutput, error) {
	crash.At(crash.BeforeFence)
	rows, fenced, err := s.register.fence(ctx, in.Body.Questions, s.event("decided", "", "aborted: nobody had decided by its deadline"))
	if err != nil {
		s.seen.registerErrors.Inc()
		return nil, err
	}
	crash.At(crash.AfterFence)
	s.seen.decisions.WithLabelValues(string(coordinator.Aborted), string(fault.Deadline)).Add(float64(fenced))
	decided := make(map[uuid.UUID]decision, len(rows))
	for _, d := range rows {
		decided[d.GID] = d
	}
	out := new(coordinator.ResolveOutput)
	for _, q := range in.Body.Questions {
		o := coordinator.Outcome{GID: q.GID, State: coordinator.Pending}
		if d, ok := decided[q.GID]; ok {
			o.State, o.Reason = d.Outcome, d.Reason
			if d.Outcome == coordinator.Committed && !d.has(q) {
				o.State, o.Reason = coordinator.Aborted, fault.Of(reused()).Problem()
			}
		}
		out.Body.Outcomes = append(out.Body.Outcomes, o)
	}
	return out, nil
}

// has reports whether the branch that q is about is one of d's, which is a commit and names all it has. If not, another
// transaction was begun under the same gid: it has lost.
func (d decision) has(q coordinator.Question) bool {
	return q.Service == "" || slices.Contains(d.Branches, part{Branch: q.Branch, Service: q.Service})
}

// Abort decides a transaction against committing, unless it is decided already, and gives the outcome that is true from
// now on. Only a participant that holds a prepared branch of the transaction may ask: one of a single branch is never
// prepared, and its participant has decided it without the register. Branches learn of it from the coordinator that was
// settling it, or by asking.
func (s *Service) Abort(ctx context.Context, in *contract.ByID) (*contract.Body[coordinator.Outcome], error) {
	now := s.deps.Now()
	d := decision{
		GID: in.ID, Outcome: coordinator.Aborted, CompletedAt: &now,
		Reason:   fault.New(fault.Conflict, "voided", "the transaction was called off").Problem(),
		Timeline: []coordinator.Event{s.event("decided", "", "aborted on request")},
	}
	crash.At(crash.BeforeCallOff)
	r, err := s.decide(ctx, d, false)
	if err != nil {
		s.seen.registerErrors.Inc()
		return nil, err
	}
	crash.At(crash.AfterCallOff)
	return &contract.Body[coordinator.Outcome]{Body: coordinator.Outcome{
		GID: in.ID, State: r.truth.Outcome, Reason: r.truth.Reason, Replayed: !r.won,
	}}, nil
}
