package order

import (
	"context"
	"fmt"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/idempotency"
	"souk/shared/identity"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Cancel gives up an order that nobody has begun to pay. Returns NotFound, or Conflict, code illegal_transition.
func (s *Service) Cancel(ctx context.Context, in *contract.ByID) (*contract.Body[order.Order], error) {
	return s.move(ctx, in.ID, identity.CancelOrder, func(o *row, who by) (change, error) { return o.become(order.Cancelled, who) })
}

// Ship says that a paid order is on its way. Returns NotFound; Conflict, code illegal_transition, or refund_in_progress
// while all of it is being refunded.
func (s *Service) Ship(ctx context.Context, in *order.ShipInput) (*contract.Body[order.Order], error) {
	var how order.Shipment
	if in.Body != nil {
		how = *in.Body
	}
	return s.move(ctx, in.ID, identity.ManageOrders, func(o *row, who by) (change, error) { return o.ship(how, who) })
}

// Deliver says that a shipped order has arrived. Returns NotFound, or Conflict, code illegal_transition.
func (s *Service) Deliver(ctx context.Context, in *contract.ByID) (*contract.Body[order.Order], error) {
	return s.move(ctx, in.ID, identity.ManageOrders, func(o *row, who by) (change, error) { return o.become(order.Delivered, who) })
}

// move does what the keyed request of ctx asks of an order to which its caller may do perm.
func (s *Service) move(ctx context.Context, id uuid.UUID, perm identity.Permission, do func(o *row, who by) (change, error)) (*contract.Body[order.Order], error) {
	var done change
	out, err := idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Body[order.Order], error) {
		o, err := s.reach(ctx, tx, id, perm, forChange)
		if err != nil {
			return nil, err
		}
		c, err := do(&o, s.caller(ctx))
		if err != nil {
			return nil, err
		}
		if err := write(tx, o, c); err != nil {
			return nil, fmt.Errorf("move order %s: %w", id, err)
		}
		w, err := withLines(tx, o)
		if err != nil {
			return nil, err
		}
		done = c
		shown, err := s.sealed.show(ctx, w)
		return &contract.Body[order.Order]{Body: shown}, err
	})
	if err == nil && done.ToStatus != "" { // or it is the stored answer
		s.moved.WithLabelValues(string(done.ToStatus)).Inc()
	}
	return out, err
}
