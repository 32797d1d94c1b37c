package order

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/telemetry"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

const lookTimeout = time.Second // to read the order for an answer of 202

// Pay settles the checkout of the caller's order: the goods are sold, the money goes from the wallet to the shop, the
// order is paid and the points are earned, or none of it. A repetition under the same Idempotency-Key, at the same time
// or after a crash, is the same checkout.
//
// It answers 202 while the outcome is not known; that answer is not kept, so the repetition tells the outcome. Returns
// NotFound for what is not there or is another's; Conflict, code order_not_payable, for an order that is not created or
// is being paid under another key; the refusing branch's fault, such as Conflict, code out_of_stock or
// insufficient_funds; and Unavailable when a service was away and nothing has happened. A refusal that is not for a
// passing reason stays the answer to its key: pay again under a new one.
func (s *Service) Pay(ctx context.Context, in *contract.ByID) (*order.PayOutput, error) {
	return idempotency.Steps(ctx, s.db, func(r idempotency.Request) (*order.PayOutput, bool, error) {
		mine, err := s.reach(ctx, s.db.WithContext(ctx), in.ID, identity.PayOrder, "")
		if err != nil {
			return nil, false, err
		}
		o, err := withLines(s.db.WithContext(ctx), mine)
		if err != nil {
			return nil, false, err
		}
		paymentID := r.ID("payment")
		if o.paidBy(paymentID) { // by an earlier repetition, whose answer was not kept
			out, err := s.answer(ctx, http.StatusOK, o)
			return out, true, err
		}
		// Only to spare the others a checkout that cannot succeed: who decides is preparePay.
		if err := o.payable(paymentID); err != nil {
			return nil, false, s.count("refused", err)
		}
		gid, err := s.Participant.Settle(ctx, r, o.checkout(paymentID))
		telemetry.Note(ctx, slog.String("order", in.ID.String()), slog.String("gid", gid.String()))
		if pending, ok := errors.AsType[*twopc.PendingError](err); ok {
			out, err := s.unknown(ctx, in.ID, pending)
			return out, false, s.count("unknown", err)
		}
		if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Invalid) {
			return nil, false, s.count("refused", err)
		}
		if err == nil {
			o, err = findWhole(s.db.WithContext(ctx), in.ID, anyone())
		}
		if err != nil {
			return nil, false, s.count("failed", err)
		}
		out, err := s.answer(ctx, http.StatusOK, o)
		return out, true, s.count("paid", err)
	})
}

// count counts what came of a request to pay, and gives err back.
func (s *Service) count(outcome string, err error) error {
	s.payments.WithLabelValues(outcome).Inc()
	return err
}

func (s *Service) answer(ctx context.Context, status int, w whole) (*order.PayOutput, error) {
	shown, err := s.sealed.show(ctx, w)
	if err != nil {
		return nil, err
	}
	return &order.PayOutput{Status: status, Body: shown}, nil
}

// checkout is what every service has to do for the order to be paid.
func (w *whole) checkout(paymentID uuid.UUID) []twopc.Branch {
	total := w.money(w.TotalMinor)
	branches := []twopc.Branch{
		{
			Service: product.Service, Action: product.ActionSell, Key: w.ID.String(),
			Payload: product.Lines{OrderID: w.ID, Lines: w.goods()},
		},
		{
			Service: order.Service, Action: order.ActionPay, Key: w.ID.String(),
			Payload: order.Pay{OrderID: w.ID, PaymentID: paymentID},
		},
	}
	if !w.free() {
		branches = append(branches, twopc.Branch{
			Service: payment.Service, Action: payment.ActionCharge, Key: paymentID.String(),
			Payload: payment.Charge{PaymentID: paymentID, OrderID: w.ID, UserID: w.UserID, Amount: total, PayoutLetter: w.PayoutLetter},
		})
	}
	if points := user.PointsFor(total); points > 0 {
		branches = append(branches, twopc.Branch{
			Service: user.Service, Action: user.ActionEarn, Key: w.UserID.String(),
			Payload: user.Points{UserID: w.UserID, Points: points, Reference: "order " + w.ID.String()},
		})
	}
	return branches
}

// unknown answers 202 with the order as it stands.
func (s *Service) unknown(ctx context.Context, id uuid.UUID, pending error) (*order.PayOutput, error) {
	// The outcome may be unknown because the request's time ran out; what is left to do is one read.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	w, err := findWhole(s.db.WithContext(ctx), id, anyone())
	if err != nil {
		return nil, errors.Join(pending, err)
	}
	out, err := s.answer(ctx, http.StatusAccepted, w)
	if err != nil {
		return nil, errors.Join(pending, err)
	}
	out.Location = location(id)
	return out, nil
}
