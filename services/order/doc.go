// Package order owns the life of an order: what was ordered at which price, what became of it, and who did it. It starts
// the checkout, the transaction in which stock, money, points and the order itself move together or not at all, and takes
// part in it and in refunds.
//
// # The life
//
//	             pay: prepare          pay: commit
//	  created ─────────────────▶ paying ───────────▶ paid ──ship──▶ shipped ──deliver──▶ delivered
//	   │   ▲                       │                  │                │                    │
//	   │   └───────────────────────┘                  └────────────────┴─────────┬──────────┘
//	   │         pay: abort                                                      │ all is given back
//	   ▼ cancel                                                                  ▼
//	cancelled                                                                 refunded
//
// The arrows are one table, next in order.go; any other move is Conflict, code illegal_transition.
//
// # Invariants
//
//   - Prices come from the product service when the order is placed, never from the client, and what was ordered (name,
//     SKU, unit price, quantity, sums) is never changed again, whatever becomes of the product.
//   - Placing reserves nothing. Stock is held and sold when the order is paid, so an order can be refused with
//     out_of_stock then; an unpaid order costs the shop nothing and needs no expiry.
//   - An order is paid by one transaction at most. From prepare to its outcome the order is paying and remembers the
//     transaction, and nobody else can move it.
//   - What was given back, with what is prepared to be, never exceeds the total; refunded means all of it, and an order
//     whose whole refund is under way is not shipped.
//   - Every move appends a line to the history in the same database transaction.
//
// An order is seen by its owner and by whose role looks at all; to everybody else it answers exactly as one that is not
// there. Its owner may share it with another, to be looked at or managed, until some time; whom it is shared with can neither
// pay it nor share it on. The same goes for wish lists, which are here because they are what orders come from.
package order
