package payment

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// The states of a payment.
const (
	Authorized        = "authorized"         // the money is held in the wallet
	Captured          = "captured"           // the merchant has it
	PartiallyRefunded = "partially_refunded" // some of it went back
	Refunded          = "refunded"           // all of it went back
	Voided            = "voided"             // it was given back before it was captured
)

// The states of what moves money once: a top-up, a refund, a transfer.
const (
	Pending   = "pending"
	Succeeded = "succeeded"
	Failed    = "failed"
)

// The states of a refund that needs somebody else's word, besides those.
const (
	Requested = "requested"
	Rejected  = "rejected"
)

// Payment is what was paid for an order.
type Payment struct {
	ID            uuid.UUID   `json:"id" format:"uuid"`
	OrderID       uuid.UUID   `json:"order_id" format:"uuid"`
	UserID        uuid.UUID   `json:"user_id" format:"uuid"`
	Amount        money.Money `json:"amount"`
	Refunded      money.Money `json:"refunded" doc:"How much of it went back"`
	Status        string      `json:"status" enum:"authorized,captured,partially_refunded,refunded,voided"`
	TransactionID uuid.UUID   `json:"transaction_id" format:"uuid" doc:"The distributed transaction that made it"`
	CreatedAt     time.Time   `json:"created_at"`
	UpdatedAt     time.Time   `json:"updated_at"`
}

// Detail is a payment with all that happened to it.
type Detail struct {
	Payment
	PayoutReference string       `json:"payout_reference,omitempty" doc:"Where money is to go that cannot go to the wallet, as it was said with the order" example:"CH93 0076 2011 6238 5295 7"`
	Refunds         []RefundView `json:"refunds"`
	History         []Move       `json:"history"`
}

// RefundView is a refund as it is shown; Refund is the branch that makes one.
type RefundView struct {
	ID            uuid.UUID   `json:"id" format:"uuid"`
	PaymentID     uuid.UUID   `json:"payment_id" format:"uuid"`
	Amount        money.Money `json:"amount"`
	Reason        string      `json:"reason" example:"the customer asked for it"`
	Restock       bool        `json:"restock" doc:"The goods went back to stock with it"`
	PointsBack    int64       `json:"points_back" doc:"Reward points taken back with it"`
	Status        string      `json:"status" enum:"requested,rejected,pending,succeeded,failed" doc:"requested: somebody else than who asked for it has to approve it"`
	RequestedBy   *uuid.UUID  `json:"requested_by,omitempty" format:"uuid" doc:"Who asked for it"`
	DecidedBy     *uuid.UUID  `json:"decided_by,omitempty" format:"uuid" doc:"Who approved or rejected it, where somebody had to"`
	TransactionID *uuid.UUID  `json:"transaction_id,omitempty" format:"uuid"`
	CreatedAt     time.Time   `json:"created_at"`
	SettledAt     *time.Time  `json:"settled_at,omitempty"`
}

// Move is one step of a payment from state to state.
type Move struct {
	From          string     `json:"from" doc:"Empty for the first" example:"authorized"`
	To            string     `json:"to" example:"captured"`
	Actor         *uuid.UUID `json:"actor,omitempty" format:"uuid" doc:"Who asked for it; absent where the shop itself did"`
	TransactionID uuid.UUID  `json:"transaction_id" format:"uuid"`
	RequestID     string     `json:"request_id,omitempty" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	At            time.Time  `json:"at"`
}

// ListPaymentsInput selects payments: the caller's own, or everybody's to whose role looks at all.
type ListPaymentsInput struct {
	contract.Paging
	OrderID uuid.UUID `query:"order_id" format:"uuid" doc:"Only those for this order"`
}

// RefundInput gives back some or all of a payment.
type RefundInput struct {
	contract.ByID
	Body struct {
		Amount  *money.Money `json:"amount,omitempty" doc:"All that is left, when absent"`
		Reason  string       `json:"reason" minLength:"1" maxLength:"200" example:"the customer asked for it"`
		Restock bool         `json:"restock,omitempty" doc:"Put the goods back to stock; only with the refund that completes the payment"`
	}
}

// RefundOutput is 201 with the refund done, or 202 while it is not known whether it is: ask at Location, or repeat the
// request with the same key.
type RefundOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     RefundView
}

// RefundByID names a refund of a payment.
type RefundByID struct {
	contract.ByID
	RefundID uuid.UUID `path:"refund_id" format:"uuid"`
}

// ListRefundRequestsInput asks for a page of the refunds that wait for somebody's word.
type ListRefundRequestsInput struct{ contract.Paging }

// TransferInput turns reward points into money in the caller's wallet.
type TransferInput struct {
	Body struct {
		Points   int64  `json:"points" minimum:"1" maximum:"1000000000" example:"100"`
		Currency string `json:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217 code of the wallet; a point is worth one minor unit" example:"USD"`
	}
}

// Transfer is reward points turned into money.
type Transfer struct {
	ID            uuid.UUID   `json:"id" format:"uuid"`
	Points        int64       `json:"points"`
	Amount        money.Money `json:"amount"`
	Status        string      `json:"status" enum:"pending,succeeded,failed"`
	TransactionID *uuid.UUID  `json:"transaction_id,omitempty" format:"uuid"`
	CreatedAt     *time.Time  `json:"created_at,omitempty"`
	SettledAt     *time.Time  `json:"settled_at,omitempty"`
}

// TransferOutput is 201 with the transfer done, or 202 while it is not known whether it is, as RefundOutput.
type TransferOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     Transfer
}

// The routes of payments, refunds and transfers.
var (
	ListPayments = contract.Route[ListPaymentsInput, contract.Body[contract.Page[Payment]]]{
		ID: "list-payments", Service: Service, Method: http.MethodGet, Path: "/v1/payments",
		Permission: identity.ReadPayment, Summary: "My payments, newest first; everybody's if your role looks at all",
	}
	GetPayment = contract.Route[contract.ByID, contract.Body[Detail]]{
		ID: "get-payment", Service: Service, Method: http.MethodGet, Path: "/v1/payments/{id}",
		Permission: identity.ReadPayment, Summary: "A payment with its refunds and history",
	}
	RefundPayment = contract.Route[RefundInput, RefundOutput]{
		ID: "refund-payment", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/refunds", Status: http.StatusCreated,
		Permission: identity.RequestRefund, Keyed: true, Summary: "Give back some or all of a payment",
		Description: "Where the refunds of the payment come to more than the limit, the answer is a refund that is `requested`: " +
			"somebody else has to approve it, and it is neither the customer's own payment nor one's own request that one decides on.",
		Later: true,
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Forbidden, "not_for_yourself", "Nobody refunds their own payment"),
			contract.Refuse(fault.Conflict, "refund_too_large", "Less than that is left of the payment"),
			contract.Refuse(fault.Conflict, "illegal_state", "The payment is not captured"),
			contract.Refuse(fault.Conflict, "order_not_refundable", "The order cannot be refunded as it is"),
			contract.Refuse(fault.Conflict, "refund_in_progress", "Another refund of the order is under way"),
			contract.Refuse(fault.Conflict, "insufficient_funds", "The merchant does not have the money"),
			contract.Refuse(fault.Conflict, "aborted", "The transaction was aborted; nothing has moved"),
			contract.Refuse(fault.Conflict, "too_many_attempts", "This Idempotency-Key has failed too often: use a new one"),
			contract.Refuse(fault.Invalid, "currency_mismatch", "A payment is refunded in its own currency"),
			contract.Refuse(fault.Invalid, "invalid_amount", "A refund gives something back"),
			contract.Refuse(fault.Invalid, "restock_needs_full_refund", "Goods go back only with the refund that completes the payment"),
			contract.Refuse(fault.Unavailable, "participant_unavailable", "A service could not take part; nothing has moved"),
		},
	}
	GetRefund = contract.Route[RefundByID, contract.Body[RefundView]]{
		ID: "get-refund", Service: Service, Method: http.MethodGet, Path: "/v1/payments/{id}/refunds/{refund_id}",
		Permission: identity.ReadPayment, Summary: "A refund of a payment of mine; of any if your role looks at all",
	}
	ListRefundRequests = contract.Route[ListRefundRequestsInput, contract.Body[contract.Page[RefundView]]]{
		ID: "list-refund-requests", Service: Service, Method: http.MethodGet, Path: "/v1/refund-requests",
		Permission: identity.ApproveRefund, Summary: "Refunds that wait to be approved, oldest first",
	}
	ApproveRefund = contract.Route[RefundByID, RefundOutput]{
		ID: "approve-refund", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/refunds/{refund_id}/approve", Status: http.StatusCreated,
		Permission: identity.ApproveRefund, Keyed: true, Summary: "Approve a refund that somebody else has asked for, and make it",
		Later: true,
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Forbidden, "not_your_own", "It is your request, or your payment"),
			contract.Refuse(fault.Conflict, "refund_too_large", "Less than that is left of the payment"),
			contract.Refuse(fault.Conflict, "illegal_state", "The refund does not wait to be approved, or the payment is not captured"),
			contract.Refuse(fault.Conflict, "order_not_refundable", "The order cannot be refunded as it is"),
			contract.Refuse(fault.Conflict, "refund_in_progress", "Another refund of the order is under way"),
			contract.Refuse(fault.Conflict, "insufficient_funds", "The merchant does not have the money"),
			contract.Refuse(fault.Conflict, "aborted", "The transaction was aborted; nothing has moved"),
			contract.Refuse(fault.Conflict, "too_many_attempts", "This Idempotency-Key has failed too often: use a new one"),
			contract.Refuse(fault.Invalid, "restock_needs_full_refund", "Goods go back only with the refund that completes the payment"),
			contract.Refuse(fault.Unavailable, "participant_unavailable", "A service could not take part; nothing has moved"),
		},
	}
	RejectRefund = contract.Route[RefundByID, contract.Body[RefundView]]{
		ID: "reject-refund", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/refunds/{refund_id}/reject",
		Permission: identity.ApproveRefund, Keyed: true, Summary: "Reject a refund that somebody else has asked for",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Forbidden, "not_your_own", "It is your request, or your payment"),
			contract.Refuse(fault.Conflict, "illegal_state", "The refund does not wait to be approved"),
		},
	}
	VoidPayment = contract.Route[contract.ByID, contract.Body[Detail]]{
		ID: "void-payment", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/void",
		Permission: identity.ManagePayments, Keyed: true, Summary: "Give back a payment that is not captured yet",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "already_captured", "The payment is captured: refund it instead"),
			contract.Refuse(fault.Conflict, "illegal_state", "The payment is voided already"),
		},
	}
	CreateTransfer = contract.Route[TransferInput, TransferOutput]{
		ID: "create-transfer", Service: Service, Method: http.MethodPost, Path: "/v1/transfers", Status: http.StatusCreated,
		Permission: identity.PlaceOrder, Keyed: true, Fresh: true, Summary: "Turn my reward points into money in my wallet",
		Later: true,
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "insufficient_points", "There are fewer points"),
			contract.Refuse(fault.Conflict, "account_disabled", "The account is disabled"),
			contract.Refuse(fault.Conflict, "aborted", "The transaction was aborted; nothing has moved"),
			contract.Refuse(fault.Conflict, "too_many_attempts", "This Idempotency-Key has failed too often: use a new one"),
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
			contract.Refuse(fault.Unavailable, "participant_unavailable", "A service could not take part; nothing has moved"),
		},
	}
	GetTransfer = contract.Route[contract.ByID, contract.Body[Transfer]]{
		ID: "get-transfer", Service: Service, Method: http.MethodGet, Path: "/v1/transfers/{id}",
		Permission: identity.SignedIn, Summary: "A transfer of mine",
	}
)
