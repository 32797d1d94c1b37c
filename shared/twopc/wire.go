package twopc

import (
	"encoding/json"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// BranchState is what a participant knows of a branch.
type BranchState string

// The states of a branch. Refused is no state of a branch but an answer: the message contradicts what is known, and
// nothing was changed.
const (
	Prepared  BranchState = "prepared"
	Committed BranchState = "committed"
	Aborted   BranchState = "aborted"
	Refused   BranchState = "refused"
)

// Prepare is the first message of a branch: its vote is 200 for yes and 409 for no. Anything else is no vote.
type Prepare struct {
	GID      uuid.UUID       `json:"gid" format:"uuid"`
	Branch   int             `json:"branch" minimum:"0" maximum:"15"`
	Action   string          `json:"action" example:"sell"`
	Payload  json.RawMessage `json:"payload" example:"{}"`
	Deadline time.Time       `json:"deadline"`
	OnePhase bool            `json:"one_phase,omitempty" doc:"It is the only branch: commit at once"`
}

// PrepareInput carries a Prepare.
type PrepareInput struct{ Body Prepare }

// Vote is a yes; a no is a problem.
type Vote struct {
	State BranchState `json:"state" example:"committed"`
}

// PrepareAllInput carries the prepare messages of several transactions.
type PrepareAllInput struct {
	Body struct {
		Branches []Prepare `json:"branches" minItems:"1" maxItems:"200"`
	}
}

// Voted is the vote on one branch of several. State is empty where the branch was not voted on in this company: ask
// again, for it alone.
type Voted struct {
	GID    uuid.UUID   `json:"gid" format:"uuid"`
	Branch int         `json:"branch"`
	State  BranchState `json:"state" example:"prepared"`
}

// PrepareAllOutput answers each message, in order.
type PrepareAllOutput struct {
	Body struct {
		Votes []Voted `json:"votes"`
	}
}

// Decision tells one branch the outcome.
type Decision struct {
	GID    uuid.UUID         `json:"gid" format:"uuid"`
	Branch int               `json:"branch" minimum:"0" maximum:"15"`
	State  coordinator.State `json:"state" enum:"committed,aborted"`
}

// MaxBranches is how many branches one message may be about.
const MaxBranches = 200

// FinishInput tells branches their outcomes, batched.
type FinishInput struct {
	Body struct {
		Decisions []Decision `json:"decisions" minItems:"1" maxItems:"200"`
	}
}

// Finished is the answer to one Decision. State is empty where the participant could not carry it out now: tell it
// again.
type Finished struct {
	GID    uuid.UUID   `json:"gid" format:"uuid"`
	Branch int         `json:"branch"`
	State  BranchState `json:"state" example:"committed"`
}

// FinishOutput answers each decision, in order.
type FinishOutput struct {
	Body struct {
		Branches []Finished `json:"branches"`
	}
}

// PrepareRoute asks service for its vote.
func PrepareRoute(service string) contract.Route[PrepareInput, contract.Body[Vote]] {
	return contract.Route[PrepareInput, contract.Body[Vote]]{
		ID: "prepare-branch", Service: service, Method: http.MethodPost, Path: "/internal/v1/tx/prepare",
		Permission: identity.Internal, Keyed: true, Summary: "Vote on a branch",
	}
}

// PrepareAllRoute asks service for its votes on branches of different transactions.
func PrepareAllRoute(service string) contract.Route[PrepareAllInput, PrepareAllOutput] {
	return contract.Route[PrepareAllInput, PrepareAllOutput]{
		ID: "prepare-branches", Service: service, Method: http.MethodPost, Path: "/internal/v1/tx/prepare-all",
		Permission: identity.Internal, Keyed: true, Summary: "Vote on several branches",
	}
}

// FinishRoute tells service what was decided.
func FinishRoute(service string) contract.Route[FinishInput, FinishOutput] {
	return contract.Route[FinishInput, FinishOutput]{
		ID: "finish-branches", Service: service, Method: http.MethodPost, Path: "/internal/v1/tx/finish",
		Permission: identity.Internal, Keyed: true, Summary: "Carry out what was decided",
	}
}
