package payment

import (
	"souk/shared/money"

	"github.com/google/uuid"
)

// Service is the name the payment service is registered under.
const Service = "payment"

// The actions the payment service can do as its branch of a transaction.
const (
	ActionCharge = "charge" // wallet → held → merchant; payload Charge; a no has code insufficient_funds
	ActionRefund = "refund" // merchant → held → wallet; payload Refund
	ActionCredit = "credit" // rewards → wallet; payload Credit
)

// Charge is the payload of ActionCharge. It makes the payment PaymentID: authorized by prepare, captured by commit,
// voided by abort.
type Charge struct {
	PaymentID uuid.UUID   `json:"payment_id"`
	OrderID   uuid.UUID   `json:"order_id"`
	UserID    uuid.UUID   `json:"user_id"`
	Amount    money.Money `json:"amount"`
	// PayoutLetter came with the order, for the payment service alone; see AboutOrder.
	PayoutLetter []byte `json:"payout_letter,omitempty"`
}

// LockOrder is part of twopc.Locking.
func (c Charge) LockOrder() string { return c.UserID.String() }

// Refund is the payload of ActionRefund.
type Refund struct {
	RefundID  uuid.UUID   `json:"refund_id"`
	PaymentID uuid.UUID   `json:"payment_id"`
	Amount    money.Money `json:"amount"`
	Reason    string      `json:"reason" example:"the customer asked for it"`
}

// LockOrder is part of twopc.Locking.
func (r Refund) LockOrder() string { return r.PaymentID.String() }

// Credit is the payload of ActionCredit: what reward points become.
type Credit struct {
	TransferID uuid.UUID   `json:"transfer_id"`
	UserID     uuid.UUID   `json:"user_id"`
	Points     int64       `json:"points"`
	Amount     money.Money `json:"amount"`
}

// LockOrder is part of twopc.Locking.
func (c Credit) LockOrder() string { return c.UserID.String() }
