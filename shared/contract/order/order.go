// Package order is the wire of the order service: what customers and who manages orders ask of it, what other services
// ask of it, and what it does as its branch of a transaction.
package order

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// Status is where an order is in its life.
type Status string

// The statuses. What follows what is the order service's one transition table.
const (
	Created   Status = "created"   // placed; nothing is reserved and nothing paid
	Paying    Status = "paying"    // a payment is being settled: it becomes paid or created again
	Paid      Status = "paid"      // the money and the goods have moved
	Shipped   Status = "shipped"   // handed to a carrier
	Delivered Status = "delivered" // at the customer's
	Cancelled Status = "cancelled" // given up before it was paid
	Refunded  Status = "refunded"  // all of its money was given back
)

// PlaceLine is what a customer wants of one product. There is no price in it: prices are the shop's to say.
type PlaceLine struct {
	ProductID uuid.UUID `json:"product_id" format:"uuid"`
	Quantity  int64     `json:"quantity" minimum:"1" maximum:"1000" example:"2"`
}

// PlaceInput is an order to be placed.
type PlaceInput struct {
	Body struct {
		Lines []PlaceLine `json:"lines" minItems:"1" maxItems:"100" doc:"Lines of the same product are summed, up to 1000 of it"`
		Note  string      `json:"note,omitempty" maxLength:"500" doc:"A word to the shop" example:"as a gift"`
		// PayoutReference is sealed at once, to the payment service's key: nobody else can read it again.
		PayoutReference string `json:"payout_reference,omitempty" maxLength:"100" doc:"Where money is to go that cannot go to the wallet, such as an IBAN; only the payment service can read it" example:"CH93 0076 2011 6238 5295 7"`
	}
}

// Brief is an order without its lines, as lists show it.
type Brief struct {
	ID        uuid.UUID   `json:"id" format:"uuid"`
	UserID    uuid.UUID   `json:"user_id" format:"uuid" doc:"The customer whose order it is"`
	Status    Status      `json:"status" enum:"created,paying,paid,shipped,delivered,cancelled,refunded"`
	Total     money.Money `json:"total" doc:"Of all lines, fixed when the order was placed"`
	Refunded  money.Money `json:"refunded" doc:"How much of the total was given back"`
	Note      string      `json:"note,omitempty" example:"as a gift"`
	PaymentID *uuid.UUID  `json:"payment_id,omitempty" format:"uuid" doc:"The payment that paid it; of a paying order, the one under way. A free order has none"`
	Carrier   string      `json:"carrier,omitempty" example:"Swallow Post"`
	Tracking  string      `json:"tracking,omitempty" doc:"The carrier's number of the parcel" example:"SW123456789"`
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
	PaidAt    *time.Time  `json:"paid_at,omitempty"`
}

// Line is a product as it was when the order was placed, whatever becomes of it later.
type Line struct {
	ProductID uuid.UUID   `json:"product_id" format:"uuid"`
	SKU       string      `json:"sku" example:"CER-001"`
	Name      string      `json:"name" example:"Tea bowl, ash glaze"`
	UnitPrice money.Money `json:"unit_price"`
	Quantity  int64       `json:"quantity"`
	Total     money.Money `json:"total" doc:"Unit price times quantity"`
}

// Order is an order with its lines.
type Order struct {
	Brief
	Lines []Line `json:"lines"`
}

// Change is one line of an order's history.
type Change struct {
	From      Status     `json:"from" doc:"Empty in the first line; the same as to where only money was given back" example:"created"`
	To        Status     `json:"to" example:"paying"`
	Actor     string     `json:"actor" doc:"Who did it: a user's id, or the name of a service" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	GID       *uuid.UUID `json:"gid,omitempty" format:"uuid" doc:"The transaction it was part of"`
	RequestID string     `json:"request_id,omitempty" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	Note      string     `json:"note,omitempty" example:"as a gift"`
	At        time.Time  `json:"at"`
}

// Detail is an order with its lines and the newest 200 lines of its history, the oldest of them first.
type Detail struct {
	Order
	History []Change `json:"history"`
}

// ListInput selects orders. Whose role does not look at everybody's sees only their own, whatever it says.
type ListInput struct {
	contract.Paging
	Shared        bool      `query:"shared_with_me" doc:"Those that others share with you, in place of your own"`
	UserID        uuid.UUID `query:"user_id" format:"uuid" doc:"Only this customer's"`
	Status        Status    `query:"status" enum:"created,paying,paid,shipped,delivered,cancelled,refunded" doc:"Only in this status"`
	CreatedFrom   time.Time `query:"created_from" doc:"Only placed at this time or later" example:"2026-01-01T00:00:00Z"`
	CreatedBefore time.Time `query:"created_before" doc:"Only placed before this time" example:"2027-01-01T00:00:00Z"`
}

// Shipment says how an order travels. Both may be empty.
type Shipment struct {
	Carrier  string `json:"carrier,omitempty" maxLength:"100" example:"Swallow Post"`
	Tracking string `json:"tracking,omitempty" maxLength:"100" example:"SW123456789"`
}

// ShipInput names an order and how it travels; the body may be left out.
type ShipInput struct {
	contract.ByID
	Body *Shipment
}

// PayOutput is 200 with the order once it is paid, or 202 with the order as it stands and where to look where the
// outcome is not known yet: repeat the request with the same Idempotency-Key to have it.
type PayOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     Order
}

// The routes.
var (
	Place = contract.Route[PlaceInput, contract.Created[Order]]{
		ID: "place-order", Service: Service, Method: http.MethodPost, Path: "/v1/orders", Status: http.StatusCreated,
		Permission: identity.PlaceOrder, Keyed: true, Summary: "Place an order at today's prices; stock is reserved when it is paid",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "unknown_product", "There is no such product"),
			contract.Refuse(fault.Invalid, "product_unavailable", "A product is not sold any more"),
			contract.Refuse(fault.Invalid, "currency_mismatch", "The products are priced in different currencies"),
			contract.Refuse(fault.Invalid, "quantity_too_large", "The lines of one product sum to more than 1000"),
			contract.Refuse(fault.Invalid, "amount_too_large", "The total is too large"),
			contract.Refuse(fault.Upstream, "", "The catalogue gave an answer that makes no sense"),
		},
	}
	List = contract.Route[ListInput, contract.Body[contract.Page[Brief]]]{
		ID: "list-orders", Service: Service, Method: http.MethodGet, Path: "/v1/orders",
		Permission: identity.ReadOrder, Summary: "List your orders, or everybody's if your role looks at all; newest first",
	}
	Get = contract.Route[contract.ByID, contract.Body[Detail]]{
		ID: "get-order", Service: Service, Method: http.MethodGet, Path: "/v1/orders/{id}",
		Permission: identity.ReadOrder, Summary: "An order with its lines and history",
	}
	Cancel = contract.Route[contract.ByID, contract.Body[Order]]{
		ID: "cancel-order", Service: Service, Method: http.MethodPost, Path: "/v1/orders/{id}/cancel",
		Permission: identity.CancelOrder, Keyed: true, Summary: "Give up an order that is not paid",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "illegal_transition", "The order is paid, or being paid, or over"),
		},
	}
	PayFor = contract.Route[contract.ByID, PayOutput]{
		ID: "pay-order", Service: Service, Method: http.MethodPost, Path: "/v1/orders/{id}/pay",
		Permission: identity.PayOrder, Keyed: true, Summary: "Pay an order from your wallet: stock, money, points and order move together or not at all",
		Later: true,
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "order_not_payable", "The order is paid, or being paid, or over"),
			contract.Refuse(fault.Conflict, "out_of_stock", "Fewer pieces are left than were ordered"),
			contract.Refuse(fault.Conflict, "product_unavailable", "A product is no longer sold"),
			contract.Refuse(fault.Conflict, "insufficient_funds", "The wallet has less than the total"),
			contract.Refuse(fault.Conflict, "account_disabled", "The account is disabled"),
			contract.Refuse(fault.Conflict, "aborted", "The transaction was aborted; nothing has moved"),
			contract.Refuse(fault.Conflict, "too_many_attempts", "This Idempotency-Key has failed too often: use a new one"),
			contract.Refuse(fault.Unavailable, "outcome_unknown", "The outcome is not known yet: repeat the request with the same Idempotency-Key"),
			contract.Refuse(fault.Unavailable, "participant_unavailable", "A service could not take part; nothing has moved"),
		},
	}
	Ship = contract.Route[ShipInput, contract.Body[Order]]{
		ID: "ship-order", Service: Service, Method: http.MethodPost, Path: "/v1/orders/{id}/ship",
		Permission: identity.ManageOrders, Keyed: true, Summary: "Say that a paid order is on its way",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "illegal_transition", "The order is not paid, or shipped already"),
			contract.Refuse(fault.Conflict, "refund_in_progress", "The order is being refunded"),
		},
	}
	Deliver = contract.Route[contract.ByID, contract.Body[Order]]{
		ID: "deliver-order", Service: Service, Method: http.MethodPost, Path: "/v1/orders/{id}/deliver",
		Permission: identity.ManageOrders, Keyed: true, Summary: "Say that a shipped order has arrived",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "illegal_transition", "The order is not shipped, or delivered already"),
		},
	}
)
