package order

import (
	"souk/shared/money"

	"github.com/google/uuid"
)

// Service is the name the order service is registered under.
const Service = "order"

// The actions the order service can do as its branch of a transaction.
const (
	ActionPay    = "pay"    // created → paying → paid, or back to created; payload Pay; a no has code order_not_payable
	ActionRefund = "refund" // paid or later → refunded when Full; payload Refund
)

// Pay is the payload of ActionPay.
type Pay struct {
	OrderID   uuid.UUID `json:"order_id"`
	PaymentID uuid.UUID `json:"payment_id"` // the payment that ActionCharge of the same transaction makes
}

// LockOrder is part of twopc.Locking.
func (p Pay) LockOrder() string { return p.OrderID.String() }

// Refund is the payload of ActionRefund.
type Refund struct {
	OrderID  uuid.UUID   `json:"order_id"`
	RefundID uuid.UUID   `json:"refund_id"`
	Amount   money.Money `json:"amount"`
	Full     bool        `json:"full"` // with this one the whole payment is refunded
}

// LockOrder is part of twopc.Locking.
func (r Refund) LockOrder() string { return r.OrderID.String() }
