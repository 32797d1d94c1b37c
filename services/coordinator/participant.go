package coordinator

import (
	"context"
	"strconv"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/mesh"
	"souk/shared/twopc"
)

// participant is a service as the coordinator talks to it: what several transactions have to say to it at the same time
// goes in one message.
type participant struct {
	service  string
	coord    *Service
	prepares *batcher[twopc.Prepare, twopc.BranchState]
	finishes *batcher[twopc.Decision, twopc.Finished]
}

// A message that takes longer than an ordinary one has met a lock or a dead instance; the next does not wait for it.
const (
	messageLanes    = 8
	messagePatience = 25 * time.Millisecond
	messageExtra    = 200 // bytes of a prepare message beside action and payload
)

func (s *Service) participant(service string) *participant {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.participants[service]
	if !ok {
		p = &participant{service: service, coord: s}
		p.prepares = &batcher[twopc.Prepare, twopc.BranchState]{
			call: p.prepareAll, lanes: messageLanes, patience: messagePatience,
			size: func(m twopc.Prepare) int { return len(m.Action) + len(m.Payload) + messageExtra },
		}
		p.finishes = &batcher[twopc.Decision, twopc.Finished]{
			call: func(ctx context.Context, all []twopc.Decision) ([]twopc.Finished, error) {
				return s.tellAll(ctx, service, all)
			},
			lanes: messageLanes, patience: messagePatience,
		}
		s.participants[service] = p
	}
	return p
}

// prepare asks for the vote on a branch. The only branch of a transaction, and one that cannot be voted on in company, is
// asked for alone.
func (p *participant) prepare(ctx context.Context, m twopc.Prepare) (twopc.BranchState, error) {
	if !m.OnePhase {
		if state, err := p.prepares.ask(ctx, m); err != nil || state != "" {
			return state, err
		}
	}
	return p.prepareAlone(ctx, m)
}

func (p *participant) prepareAlone(ctx context.Context, m twopc.Prepare) (twopc.BranchState, error) {
	// A repetition finds the vote it made: the branch is the key.
	ctx = contract.WithKey(ctx, m.GID.String()+"."+strconv.Itoa(m.Branch))
	out, err := twopc.PrepareRoute(p.service).Call(ctx, p.coord.deps.Mesh, &twopc.PrepareInput{Body: m})
	if err != nil {
		return "", err
	}
	return out.Body.State, nil
}

func (p *participant) prepareAll(ctx context.Context, messages []twopc.Prepare) ([]twopc.BranchState, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	if len(messages) == 1 {
		state, err := p.prepareAlone(ctx, messages[0])
		return []twopc.BranchState{state}, err
	}
	in := new(twopc.PrepareAllInput)
	in.Body.Branches = messages
	ctx = contract.WithKey(ctx, messages[0].GID.String()+"."+strconv.Itoa(messages[0].Branch))
	out, err := twopc.PrepareAllRoute(p.service).Call(ctx, p.coord.deps.Mesh, in)
	states := make([]twopc.BranchState, len(messages))
	if fault.Is(err, fault.NotFound) { // it runs an older version: each alone
		return states, nil
	}
	if err != nil {
		return nil, err
	}
	if len(out.Body.Votes) != len(messages) {
		return nil, fault.New(fault.Upstream, "", "%s voted on %d of %d branches", p.service, len(out.Body.Votes), len(messages))
	}
	for i, m := range messages {
		v := out.Body.Votes[i]
		if v.GID != m.GID || v.Branch != m.Branch {
			return nil, fault.New(fault.Upstream, "", "%s voted on another branch than it was asked for", p.service)
		}
		states[i] = v.State
	}
	return states, nil
}

// tellAll has a participant carry out decisions, and gives its answer to each, in order.
func (s *Service) tellAll(ctx context.Context, service string, decisions []twopc.Decision) ([]twopc.Finished, error) {
	// A commit must get through if at all possible, so its breaker is the last to open.
	ctx, cancel := context.WithTimeout(mesh.WithClass(ctx, mesh.ClassCritical), finishTime)
	defer cancel()
	in := new(twopc.FinishInput)
	in.Body.Decisions = decisions
	out, err := twopc.FinishRoute(service).Call(contract.WithKey(ctx, decisions[0].GID.String()), s.deps.Mesh, in)
	if err != nil {
		return nil, err
	}
	if len(out.Body.Branches) != len(decisions) {
		return nil, fault.New(fault.Upstream, "", "%s answered %d of %d decisions", service, len(out.Body.Branches), len(decisions))
	}
	for i, d := range decisions {
		if b := out.Body.Branches[i]; b.GID != d.GID || b.Branch != d.Branch {
			return nil, fault.New(fault.Upstream, "", "%s answered another decision than it was told", service)
		}
	}
	return out.Body.Branches, nil
}
