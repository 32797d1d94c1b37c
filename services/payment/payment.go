package payment

import (
	"context"
	"slices"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/money"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// transitions is the table of a payment's legal moves: where it may go from a state, which is empty before the first. The
// move back from voided is that of a checkout that is tried again: doc.go tells why.
func transitions(from string) []string {
	switch from {
	case "":
		return []string{payment.Authorized}
	case payment.Authorized:
		return []string{payment.Captured, payment.Voided}
	case payment.Captured, payment.PartiallyRefunded:
		return []string{payment.PartiallyRefunded, payment.Refunded}
	case payment.Voided:
		return []string{payment.Authorized}
	default: // payment.Refunded: nothing is left to move
		return nil
	}
}

// refundable reports whether a payment in that state may have something refunded.
func refundable(status string) bool {
	return slices.Contains(transitions(status), payment.Refunded)
}

// move is one step of a payment.
type move struct {
	payment  uuid.UUID
	from, to string
	gid      uuid.UUID  // the distributed transaction that makes it
	actor    *uuid.UUID // who asked for it; nil: the shop itself
	refunded int64      // how much more is refunded by it, in minor units
}

// move changes a payment's state and writes down that it did. Returns Conflict, code illegal_state, for a move that is
// not in the table or not from the state the payment is in.
func (s *Service) move(tx *gorm.DB, m move) error {
	illegal := fault.New(fault.Conflict, "illegal_state", "the payment cannot go from %q to %q", m.from, m.to)
	if !slices.Contains(transitions(m.from), m.to) {
		return illegal
	}
	if m.from != "" {
		moved, err := updatePaymentStatus(tx, m, s.now())
		if err != nil {
			return err
		}
		if !moved {
			return illegal
		}
	}
	return insertMove(tx, m, contract.RequestIDFrom(tx.Statement.Context), s.now())
}

// ListPayments gives payments, newest first. Returns Malformed for a foreign page token.
func (s *Service) ListPayments(ctx context.Context, in *payment.ListPaymentsInput) (*contract.Body[contract.Page[payment.Payment]], error) {
	before, err := contract.After[timeCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := selectPayments(s.db.WithContext(ctx), policy.Scope(ctx, identity.ReadPayment, policy.Payment), in.OrderID, before, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), paymentRow.view, func(r paymentRow) any { return timeCursor{r.CreatedAt, r.ID} })
}

// GetPayment gives a payment with its last hundred refunds and moves. Returns NotFound for another person's.
func (s *Service) GetPayment(ctx context.Context, in *contract.ByID) (*contract.Body[payment.Detail], error) {
	d, err := s.detail(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.Detail]{Body: *d}, nil
}

func (s *Service) detail(ctx context.Context, id uuid.UUID) (*payment.Detail, error) {
	tx := s.db.WithContext(ctx)
	p, err := reach(ctx, tx, id, identity.ReadPayment)
	if err != nil {
		return nil, err
	}
	refunds, err := selectRefunds(tx, id)
	if err != nil {
		return nil, err
	}
	d := &payment.Detail{Payment: p.view(), Refunds: make([]payment.RefundView, len(refunds))}
	for i, r := range refunds {
		d.Refunds[i] = r.view(s.now())
	}
	if p.PayoutLetter != nil {
		if d.PayoutReference, err = s.sealed.letters.Open(ctx, payment.AboutOrder(p.OrderID), p.PayoutLetter); err != nil {
			return nil, err
		}
	}
	d.History, err = selectMoves(tx, id)
	return d, err
}

// Void gives back a payment that is authorized and not captured, by having its transaction aborted. A payment that is
// voided already is answered as it stands. Returns NotFound for none, and Conflict, code already_captured, where the
// transaction has committed: such a payment is refunded instead.
func (s *Service) Void(ctx context.Context, in *contract.ByID) (*contract.Body[payment.Detail], error) {
	return idempotency.Steps(ctx, s.db, func(idempotency.Request) (*contract.Body[payment.Detail], bool, error) {
		if err := s.void(ctx, in.ID); err != nil {
			return nil, false, err
		}
		d, err := s.detail(ctx, in.ID)
		if err == nil && d.Status != payment.Voided {
			err = busy("the checkout of this payment was tried again meanwhile; try again")
		}
		if err != nil {
			return nil, false, err
		}
		return &contract.Body[payment.Detail]{Body: *d}, true, nil
	})
}

func (s *Service) void(ctx context.Context, id uuid.UUID) error {
	p, err := reach(ctx, s.db.WithContext(ctx), id, identity.ManagePayments)
	captured := fault.New(fault.Conflict, "already_captured", "the payment is captured; refund it instead")
	switch {
	case err != nil:
		return err
	case p.Status == payment.Voided:
		return nil
	case p.Status != payment.Authorized:
		return captured
	}
	// The abort is carried out by whoever brings it; so who asked for it is written down first.
	if err := askVoid(s.db.WithContext(ctx), p.ID, p.GID, identity.From(ctx).UserID); err != nil {
		return err
	}
	state, err := s.Participant.Abort(ctx, p.GID)
	if err != nil {
		return err
	}
	if state == coordinator.Committed {
		return captured
	}
	return nil
}

func (r paymentRow) view() payment.Payment {
	return payment.Payment{
		ID: r.ID, OrderID: r.OrderID, UserID: r.UserID, Amount: r.Money,
		Refunded: money.Money{Amount: r.Refunded, Currency: r.Currency}, Status: r.Status, TransactionID: r.GID,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}
