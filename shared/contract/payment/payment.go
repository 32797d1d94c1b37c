package payment

import (
	"net/http"
	"time"

	"souk/shared/contract"
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
	Refunds []RefundView `json:"refunds"`
	History []Move       `json:"history"`
}

// RefundView is a refund as it is shown; Refund is the branch that makes one.
type RefundView struct {
	ID            uuid.UUID   `json:"id" format:"uuid"`
	PaymentID     uuid.UUID   `json:"payment_id" format:"uuid"`
	Amount        money.Money `json:"amount"`
	Reason        string      `json:"reason"`
	Restock       bool        `json:"restock" doc:"The goods went back to stock with it"`
	PointsBack    int64       `json:"points_back" doc:"Reward points taken back with it"`
	Status        string      `json:"status" enum:"pending,succeeded,failed"`
	TransactionID *uuid.UUID  `json:"transaction_id,omitempty" format:"uuid"`
	CreatedAt     time.Time   `json:"created_at"`
	SettledAt     *time.Time  `json:"settled_at,omitempty"`
}

// Move is one step of a payment from state to state.
type Move struct {
	From          string     `json:"from" doc:"Empty for the first"`
	To            string     `json:"to"`
	Actor         *uuid.UUID `json:"actor,omitempty" format:"uuid" doc:"Who asked for it; absent where the shop itself did"`
	TransactionID uuid.UUID  `json:"transaction_id" format:"uuid"`
	RequestID     string     `json:"request_id,omitempty"`
	At            time.Time  `json:"at"`
}

// ListPaymentsInput selects payments: the caller's own, or with manage_payments everybody's.
type ListPaymentsInput struct {
	contract.Paging
	OrderID uuid.UUID `query:"order_id" format:"uuid" doc:"Only those for this order"`
}

// RefundInput gives back some or all of a payment.
type RefundInput struct {
	contract.ByID
	Body struct {
		Amount  *money.Money `json:"amount,omitempty" doc:"All that is left, when absent"`
		Reason  string       `json:"reason" minLength:"1" maxLength:"200"`
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
		Permission: identity.SignedIn, Summary: "My payments, newest first; everybody's with manage_payments",
	}
	GetPayment = contract.Route[contract.ByID, contract.Body[Detail]]{
		ID: "get-payment", Service: Service, Method: http.MethodGet, Path: "/v1/payments/{id}",
		Permission: identity.SignedIn, Summary: "A payment with its refunds and history",
	}
	RefundPayment = contract.Route[RefundInput, RefundOutput]{
		ID: "refund-payment", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/refunds", Status: http.StatusCreated,
		Permission: identity.ManagePayments, Keyed: true, Summary: "Give back some or all of a payment",
	}
	GetRefund = contract.Route[RefundByID, contract.Body[RefundView]]{
		ID: "get-refund", Service: Service, Method: http.MethodGet, Path: "/v1/payments/{id}/refunds/{refund_id}",
		Permission: identity.SignedIn, Summary: "A refund of a payment of mine; of any with manage_payments",
	}
	VoidPayment = contract.Route[contract.ByID, contract.Body[Detail]]{
		ID: "void-payment", Service: Service, Method: http.MethodPost, Path: "/v1/payments/{id}/void",
		Permission: identity.ManagePayments, Keyed: true, Summary: "Give back a payment that is not captured yet",
	}
	CreateTransfer = contract.Route[TransferInput, TransferOutput]{
		ID: "create-transfer", Service: Service, Method: http.MethodPost, Path: "/v1/transfers", Status: http.StatusCreated,
		Permission: identity.PlaceOrder, Keyed: true, Summary: "Turn my reward points into money in my wallet",
	}
	GetTransfer = contract.Route[contract.ByID, contract.Body[Transfer]]{
		ID: "get-transfer", Service: Service, Method: http.MethodGet, Path: "/v1/transfers/{id}",
		Permission: identity.SignedIn, Summary: "A transfer of mine",
	}
)
