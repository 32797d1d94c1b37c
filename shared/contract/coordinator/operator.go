package coordinator

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
)

// Resolution says who forced a decision, and why.
type Resolution struct {
	By     string `json:"by" doc:"The user's id, or the name an operator gave on the command line" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	Reason string `json:"reason" example:"the customer asked for it"`
}

// Acknowledgment says who has looked at a heuristic outcome, and what came of it.
type Acknowledgment struct {
	Resolution
	At time.Time `json:"at"`
}

// Reason is why somebody does what the protocol does not do by itself. It is kept with the transaction.
type Reason struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"\\S" doc:"Why; kept with the transaction for whoever looks at it later" example:"the customer asked for it"`
}

// ForceInput forces the decision of a transaction that nobody has decided.
type ForceInput struct {
	contract.ByID
	Body struct {
		Outcome State `json:"outcome" enum:"aborted" doc:"A transaction can be called off by force, never committed: not every branch has voted"`
		Reason
	}
}

// AcknowledgeInput acknowledges a heuristic outcome.
type AcknowledgeInput struct {
	contract.ByID
	Body Reason
}

// Statistics are the register in numbers. Counts are of the rows that are kept, or of those decided since Since.
type Statistics struct {
	Since           *time.Time `json:"since,omitempty"`
	Committed       int64      `json:"committed"`
	Aborted         int64      `json:"aborted"`
	Resolved        int64      `json:"resolved" doc:"Decided by an operator; they are among the aborted"`
	Heuristic       int64      `json:"heuristic" doc:"Did not end as the protocol would have it"`
	TakenOver       int64      `json:"taken_over" doc:"Were driven by recovery at least once"`
	Retries         int64      `json:"retries" doc:"Drives by recovery after the first"`
	InDoubt         int64      `json:"in_doubt" doc:"Decided and not yet carried out everywhere, whenever that was"`
	OldestInDoubtS  float64    `json:"oldest_in_doubt_s" doc:"Age of the oldest of those, in seconds"`
	Unacknowledged  int64      `json:"unacknowledged" doc:"Heuristic outcomes that nobody has looked at, whenever they were"`
	OldestDecidedAt *time.Time `json:"oldest_decided_at,omitempty" doc:"Of the oldest row that is kept"`
}

// The operators' routes. A decision that was made is never changed by any of them.
var (
	ForceTransaction = contract.Route[ForceInput, contract.Body[Outcome]]{
		ID: "force-transaction", Service: Service, Method: http.MethodPost, Path: "/v1/transactions/{id}/resolve",
		Permission: identity.ManageTransactions, Keyed: true, Summary: "Decide a transaction by force, unless it is decided already",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "already_committed", "The transaction is committed, and that is for ever"),
		},
	}
	RetryTransaction = contract.Route[contract.ByID, contract.Body[Transaction]]{
		ID: "retry-transaction", Service: Service, Method: http.MethodPost, Path: "/v1/transactions/{id}/retry",
		Permission: identity.ManageTransactions, Keyed: true, Summary: "Have a decided transaction carried out now, without waiting for its turn",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "already_completed", "Every branch has carried out the decision already"),
		},
	}
	AcknowledgeTransaction = contract.Route[AcknowledgeInput, contract.Body[Transaction]]{
		ID: "acknowledge-transaction", Service: Service, Method: http.MethodPost, Path: "/v1/transactions/{id}/acknowledge",
		Permission: identity.ManageTransactions, Keyed: true, Summary: "Say that a person has looked at a heuristic outcome",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "nothing_to_acknowledge", "The transaction is not heuristic, or is acknowledged already"),
		},
	}
	TransactionStatistics = contract.Route[StatisticsInput, contract.Body[Statistics]]{
		ID: "transaction-statistics", Service: Service, Method: http.MethodGet, Path: "/v1/transactions/statistics",
		Permission: identity.ViewTransactions, Summary: "The decision register in numbers",
	}
)

// StatisticsInput narrows the counts by outcome.
type StatisticsInput struct {
	Since time.Time `query:"since" doc:"Only transactions decided from then on"`
}
