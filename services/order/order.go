package order

import (
	"slices"
	"time"

	"souk/shared/contract/order"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

// row is a row of orders. Its methods are the rules: they change the row in memory, and give the line for its history.
// Who calls them holds the lock of the row, and writes both with write.
type row struct {
	ID             uuid.UUID
	UserID         uuid.UUID
	Status         order.Status
	Currency       money.Currency
	TotalMinor     int64
	RefundedMinor  int64
	RefundingMinor int64  // prepared and not yet decided
	SealedNote     []byte // nil: there is none
	PayoutLetter   []byte // only the payment service can open it
	Carrier        string
	Tracking       string
	PaymentID      *uuid.UUID
	PayGID         *uuid.UUID
	CreatedAt      time.Time
	UpdatedAt      time.Time
	PaidAt         *time.Time
}

// line is a row of order_line.
type line struct {
	OrderID    uuid.UUID
	Position   int
	ProductID  uuid.UUID
	SKU        string
	Name       string
	UnitMinor  int64
	Quantity   int64
	TotalMinor int64
}

// whole is an order with its lines.
type whole struct {
	row
	lines []line
}

// by says who moves an order, as part of what, and when.
type by struct {
	Actor     string     // a user's id, or the name of a service
	GID       *uuid.UUID // nil outside a transaction of several services
	RequestID string
	Note      string
	At        time.Time
}

// change is a line of an order's history.
type change struct {
	FromStatus order.Status // empty in the first line
	ToStatus   order.Status
	Actor      string
	GID        *uuid.UUID
	RequestID  string
	Note       string
	At         time.Time
}

func (b by) changed(from, to order.Status) change {
	return change{FromStatus: from, ToStatus: to, Actor: b.Actor, GID: b.GID, RequestID: b.RequestID, Note: b.Note, At: b.At}
}

// next is the transition table: where an order may go from each status.
func next(from order.Status) []order.Status {
	switch from {
	case order.Created:
		return []order.Status{order.Paying, order.Cancelled}
	case order.Paying:
		return []order.Status{order.Paid, order.Created}
	case order.Paid:
		return []order.Status{order.Shipped, order.Refunded}
	case order.Shipped:
		return []order.Status{order.Delivered, order.Refunded}
	case order.Delivered:
		return []order.Status{order.Refunded}
	default: // cancelled and refunded are the end
		return nil
	}
}

// become takes the order to another status, if the transition table has it.
func (o *row) become(to order.Status, who by) (change, error) {
	if !slices.Contains(next(o.Status), to) {
		return change{}, fault.New(fault.Conflict, "illegal_transition", "an order that is %s cannot become %s", o.Status, to)
	}
	c := who.changed(o.Status, to)
	o.Status, o.UpdatedAt = to, who.At
	return c, nil
}

// payable reports whether the payment can be begun, or is under way already.
func (o *row) payable(payment uuid.UUID) error {
	if o.Status == order.Created || o.Status == order.Paying && *o.PaymentID == payment {
		return nil
	}
	return fault.New(fault.Conflict, "order_not_payable", "an order that is %s cannot be paid", o.Status)
}

// paidBy reports whether the payment has paid the order, whatever became of it since.
func (o *row) paidBy(payment uuid.UUID) bool {
	return o.PaidAt != nil && *o.PaymentID == payment
}

// startPaying is the order's yes to the transaction gid.
func (o *row) startPaying(gid, payment uuid.UUID, who by) (change, error) {
	if err := o.payable(payment); err != nil {
		return change{}, err
	}
	if o.Status == order.Paying {
		// The request that makes this payment tries again, and the transaction of its last try, aborted, has not been
		// undone here yet. Busy, and not a refusal for good: the next try may succeed.
		return change{}, fault.New(fault.Conflict, "busy", "the last try to pay this order is still being undone; try again")
	}
	o.PayGID, o.PaymentID = &gid, &payment
	return o.become(order.Paying, who)
}

// paying reports whether the order waits for the outcome of the transaction gid.
func (o *row) paying(gid uuid.UUID) bool { return o.Status == order.Paying && *o.PayGID == gid }

// finishPaying makes a paying order paid.
func (o *row) finishPaying(who by) (change, error) {
	o.PaidAt = &who.At
	return o.become(order.Paid, who)
}

// stopPaying makes a paying order one that can be paid or cancelled.
func (o *row) stopPaying(who by) (change, error) {
	o.PayGID, o.PaymentID = nil, nil
	return o.become(order.Created, who)
}

// ship sends the order on its way.
func (o *row) ship(how order.Shipment, who by) (change, error) {
	// Goods must not leave while the decision to give all of their price back is only not heard yet.
	if o.RefundingMinor > 0 && o.RefundedMinor+o.RefundingMinor == o.TotalMinor {
		return change{}, fault.New(fault.Conflict, "refund_in_progress", "this order is being refunded")
	}
	o.Carrier, o.Tracking = how.Carrier, how.Tracking
	return o.become(order.Shipped, who)
}

// holdRefund is the order's yes to giving amount back. It holds its part of the total, so that refunds that do not know
// of each other cannot sum to more, nor two of them both be full.
func (o *row) holdRefund(amount money.Money, full bool) error {
	after := o.RefundedMinor + o.RefundingMinor + amount.Amount
	switch {
	case !slices.Contains(next(o.Status), order.Refunded):
		return fault.New(fault.Conflict, "order_not_refundable", "an order that is %s cannot be refunded", o.Status)
	case amount.Currency != o.Currency:
		return fault.New(fault.Invalid, "currency_mismatch", "this order is in %s", o.Currency)
	case amount.Amount < 1:
		return fault.New(fault.Invalid, "refund_too_small", "a refund is at least one minor unit")
	case amount.Amount > o.TotalMinor-o.RefundedMinor:
		return fault.New(fault.Conflict, "refund_too_large", "of this order %s is left to refund", o.left())
	case after > o.TotalMinor, full && o.RefundingMinor > 0:
		return fault.New(fault.Conflict, "refund_in_progress", "another refund of this order is under way")
	case full && after < o.TotalMinor:
		return fault.New(fault.Conflict, "refund_not_full", "of this order %s is left to refund", o.left())
	}
	o.RefundingMinor += amount.Amount
	return nil
}

func (o row) left() money.Money { return o.money(o.TotalMinor - o.RefundedMinor) }

// refund gives back what holdRefund held. The history tells of every part; with the last one the order is refunded.
func (o *row) refund(amount money.Money, who by) (change, error) {
	o.releaseRefund(amount)
	o.RefundedMinor += amount.Amount
	who.Note = "refunded " + amount.String()
	if o.RefundedMinor == o.TotalMinor {
		return o.become(order.Refunded, who)
	}
	o.UpdatedAt = who.At
	return who.changed(o.Status, o.Status), nil
}

// releaseRefund undoes holdRefund.
func (o *row) releaseRefund(amount money.Money) { o.RefundingMinor -= amount.Amount }

func (o row) money(minor int64) money.Money { return money.Money{Amount: minor, Currency: o.Currency} }

// brief is the order as lists show it, without its note.
func (o row) brief() order.Brief {
	b := order.Brief{
		ID: o.ID, UserID: o.UserID, Status: o.Status, Total: o.money(o.TotalMinor), Refunded: o.money(o.RefundedMinor),
		PaymentID: o.PaymentID, Carrier: o.Carrier, Tracking: o.Tracking,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt, PaidAt: o.PaidAt,
	}
	if o.free() {
		b.PaymentID = nil // its checkout has the name of a payment and makes none
	}
	return b
}

// free reports whether there is nothing to pay: the checkout of such an order moves goods only.
func (o row) free() bool { return o.TotalMinor == 0 }

// shown are the lines as the client sees them.
func (w *whole) shown() []order.Line {
	shown := make([]order.Line, len(w.lines))
	for i, l := range w.lines {
		shown[i] = order.Line{
			ProductID: l.ProductID, SKU: l.SKU, Name: l.Name, Quantity: l.Quantity,
			UnitPrice: w.money(l.UnitMinor), Total: w.money(l.TotalMinor),
		}
	}
	return shown
}

// goods are the quantities of products in the order.
func (w *whole) goods() []product.Line {
	goods := make([]product.Line, len(w.lines))
	for i, l := range w.lines {
		goods[i] = product.Line{ProductID: l.ProductID, Quantity: l.Quantity}
	}
	return goods
}
