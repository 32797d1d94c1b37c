// Package coordinator is the wire of the two-phase-commit coordinator. What the protocol promises is told in
// souk/shared/twopc.
package coordinator

import (
	"encoding/json"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Service is the name the coordinator is registered under.
const Service = "coordinator"

// State is how far a transaction is.
type State string

// The states. Committed and Aborted are for ever.
const (
	Pending   State = "pending"   // not decided, and its deadline is not over
	Committed State = "committed" // decided: every branch is or will be committed
	Aborted   State = "aborted"   // decided: every branch is or will be aborted
)

// Branch is one service's part of a transaction.
type Branch struct {
	Service string          `json:"service" minLength:"1" maxLength:"64" example:"product"`
	Action  string          `json:"action" minLength:"1" maxLength:"64" doc:"What the service is to do, by the name it knows it under" example:"sell"`
	Key     string          `json:"key" minLength:"1" maxLength:"200" doc:"The thing that is changed; two branches on the same thing of one service are refused" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	Payload json.RawMessage `json:"payload" doc:"The action's own input" example:"{}"`
}

// Begin is the transaction a caller wants settled.
type Begin struct {
	GID       uuid.UUID `json:"gid" format:"uuid" doc:"Names the transaction, and is its idempotency key"`
	TimeoutMS int64     `json:"timeout_ms,omitempty" minimum:"0" maximum:"30000" doc:"Undecided after this long, it aborts; 5000 when absent"`
	Branches  []Branch  `json:"branches" minItems:"1" maxItems:"16"`
}

// Outcome is what became of a transaction.
type Outcome struct {
	GID      uuid.UUID      `json:"gid" format:"uuid"`
	State    State          `json:"state" enum:"pending,committed,aborted"`
	Reason   *fault.Problem `json:"reason,omitempty" doc:"Why it was aborted"`
	Replayed bool           `json:"replayed,omitempty" doc:"Another has decided it, before this request came or beside it"`
}

// BeginInput carries a Begin.
type BeginInput struct{ Body Begin }

// BeginOutput is 200 with a final outcome, or 202 where the decision itself is not known: ask again with the same gid.
type BeginOutput struct {
	Status int
	Body   Outcome
}

// Question is what a participant in doubt asks about. Where it says which branch of which service is in doubt, the answer is
// about that branch: what a transaction commits that has no such branch is no word about it.
type Question struct {
	GID      uuid.UUID `json:"gid" format:"uuid"`
	Service  string    `json:"service,omitempty" example:"product"`
	Branch   int       `json:"branch,omitempty" minimum:"0" maximum:"15" example:"0"`
	Deadline time.Time `json:"deadline" doc:"As the prepare message gave it: past it, an unknown transaction is made an aborted one"`
}

// ResolveInput asks for the outcome of up to 200 transactions.
type ResolveInput struct {
	Body struct {
		Questions []Question `json:"questions" minItems:"1" maxItems:"200"`
	}
}

// ResolveOutput answers them, in order.
type ResolveOutput struct {
	Body struct {
		Outcomes []Outcome `json:"outcomes"`
	}
}

// Transaction is a transaction as the admin list shows it.
type Transaction struct {
	GID         uuid.UUID      `json:"gid" format:"uuid"`
	State       State          `json:"state" example:"committed"`
	Services    []string       `json:"services"`
	Reason      *fault.Problem `json:"reason,omitempty"`
	DecidedAt   *time.Time     `json:"decided_at,omitempty"`
	CompletedAt *time.Time     `json:"completed_at,omitempty" doc:"When the last branch had carried out the decision"`
	Heuristic   bool           `json:"heuristic" doc:"It did not end as the protocol would have it: a participant contradicts the decision, or an operator forced it"`
	Attempts    int            `json:"attempts" doc:"How often recovery has driven it"`

	WaitingFor   string          `json:"waiting_for,omitempty" doc:"The participants that recovery did not reach the last time" example:""`
	Resolved     *Resolution     `json:"resolved,omitempty" doc:"An operator forced the decision"`
	Acknowledged *Acknowledgment `json:"acknowledged,omitempty" doc:"A person has looked at the heuristic outcome"`
}

// Event is one line of a transaction's timeline.
type Event struct {
	At       time.Time `json:"at"`
	Instance string    `json:"instance" doc:"The coordinator that saw it" example:"coordinator-1"`
	Event    string    `json:"event" doc:"begun, prepared, refused, unanswered, decided, taken_over, committed, unheard, aborted, heuristic, completed, redriven, acknowledged" example:"decided"`
	Service  string    `json:"service,omitempty" example:"product"`
	Detail   string    `json:"detail,omitempty" example:"must be at least 1"`
}

// Timeline is a transaction with everything that happened to it.
type Timeline struct {
	Transaction
	Events []Event `json:"events"`
}

// ListInput selects transactions.
type ListInput struct {
	contract.Paging
	State   string `query:"state" enum:"committed,aborted" doc:"Only those decided so"`
	InDoubt bool   `query:"in_doubt" doc:"Only those not yet carried out everywhere"`

	Heuristic bool `query:"heuristic" doc:"Only those that did not end as the protocol would have it and that nobody has acknowledged"`
}

// The routes.
var (
	BeginTransaction = contract.Route[BeginInput, BeginOutput]{
		ID: "begin-transaction", Service: Service, Method: http.MethodPost, Path: "/internal/v1/transactions",
		Permission: identity.Internal, Keyed: true, Summary: "Settle a transaction",
		Later: true,
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "duplicate_branch", "Two branches change the same thing of one service"),
			contract.Refuse(fault.Invalid, "transaction_reused", "This id was used for another transaction"),
		},
	}
	ResolveTransactions = contract.Route[ResolveInput, ResolveOutput]{
		ID: "resolve-transactions", Service: Service, Method: http.MethodPost, Path: "/internal/v1/transactions/resolve",
		Permission: identity.Internal, Keyed: true, Summary: "Ask for outcomes",
	}
	AbortTransaction = contract.Route[contract.ByID, contract.Body[Outcome]]{
		ID: "abort-transaction", Service: Service, Method: http.MethodPost, Path: "/internal/v1/transactions/{id}/abort",
		Permission: identity.Internal, Keyed: true, Summary: "Abort a transaction, unless it is decided already",
	}
	ListTransactions = contract.Route[ListInput, contract.Body[contract.Page[Transaction]]]{
		ID: "list-transactions", Service: Service, Method: http.MethodGet, Path: "/v1/transactions",
		Permission: identity.ViewTransactions, Summary: "List transactions, newest first",
	}
	GetTransaction = contract.Route[contract.ByID, contract.Body[Timeline]]{
		ID: "get-transaction", Service: Service, Method: http.MethodGet, Path: "/v1/transactions/{id}",
		Permission: identity.ViewTransactions, Summary: "A transaction with its timeline",
	}
)
