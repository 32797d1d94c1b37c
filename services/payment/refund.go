package payment

import (
	"context"
	"errors"
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
	"souk/shared/identity/policy"
	"souk/shared/money"
	"souk/shared/postgres"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	// A plan that has not become pending by then never will: its transaction's deadline is long over, and a prepare that
	// comes after it is refused.
	planLife = time.Minute

	refundPlanned = "planned" // the one state of a refund that is not shown
)

// Refund gives back some or all of a payment, everywhere or nowhere: the money, the order's state, the goods where they go
// back to stock, and the reward points that were earned with it. Returns NotFound for no such payment; Conflict with code
// refund_too_large for more than is left, illegal_state for a payment that is not captured, busy while another refund of
// it is being settled, or the code of whichever service refused; Invalid for another currency, and with code
// restock_needs_full_refund where the goods would go back though not all the money does; and Forbidden, code not_for_yourself,
// for a payment of the caller. What is more than the limit is only requested: see ApproveRefund.
func (s *Service) Refund(ctx context.Context, in *payment.RefundInput) (*payment.RefundOutput, error) {
	return idempotency.Steps(ctx, s.db, func(r idempotency.Request) (*payment.RefundOutput, bool, error) {
		plan, err := s.planRefund(ctx, r.ID("refund"), in)
		if err != nil {
			return nil, false, err
		}
		if plan.needsAnother() {
			out := plan.output()
			out.Body = plan.view(s.now())
			return out, true, nil
		}
		return s.settleRefund(ctx, r, plan)
	})
}

// settleRefund has the planned refund made, if by what is known of it no other person has to say yes first.
func (s *Service) settleRefund(ctx context.Context, r idempotency.Request, plan refundRow) (*payment.RefundOutput, bool, error) {
	out := plan.output()
	if plan.Status != payment.Succeeded {
		if err := policy.Check(ctx, identity.SettleRefund, plan.resource(s.cfg.RefundLimit)); err != nil {
			return nil, false, err
		}
		branches, err := s.refundBranches(ctx, plan)
		if err != nil {
			return nil, false, err
		}
		_, err = s.Participant.Settle(ctx, r, branches)
		if _, pending := errors.AsType[*twopc.PendingError](err); pending {
			out.Status, out.Body = http.StatusAccepted, plan.view(s.now())
			return out, false, nil
		}
		if err != nil {
			return nil, false, errors.Join(err, dropPlan(s.db.WithContext(ctx), plan.ID, s.now()))
		}
	}
	done, err := readRefund(s.db.WithContext(ctx), plan.ID)
	if err != nil {
		return nil, false, err
	}
	out.Body = done.view(s.now())
	return out, true, nil
}

// output is the answer about r, without its body.
func (r refundRow) output() *payment.RefundOutput {
	return &payment.RefundOutput{
		Status:   http.StatusCreated,
		Location: "/api/v1/payments/" + r.PaymentID.String() + "/refunds/" + r.ID.String(),
	}
}

// planRefund fixes everything that the refund's transaction will say, before it begins: a repetition of the request must
// say the same, though the payment may have moved on. What an earlier try left is taken up where that is.
func (s *Service) planRefund(ctx context.Context, id uuid.UUID, in *payment.RefundInput) (plan refundRow, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		p, err := lockPayment(tx, in.ID)
		if err != nil {
			return err
		}
		on := policy.Resource{Kind: policy.Refund, ID: id.String(), Owner: p.UserID}
		if err := policy.Check(ctx, identity.RequestRefund, on); policy.DeniedBy(err, "sod.own_refund") {
			return fault.New(fault.Forbidden, "not_for_yourself", "somebody else has to ask for a refund of your payment").Because(err)
		} else if err != nil {
			return err
		}
		plan, err = readRefund(tx, id)
		if err == nil && (plan.Status == payment.Pending || plan.Status == payment.Succeeded || plan.needsAnother()) {
			if !plan.answers(in) {
				return keyReused()
			}
			return nil
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		amount, err := refundAmount(p, in)
		if err != nil {
			return err
		}
		waiting, err := hasPendingRefund(tx, p.ID)
		if err != nil {
			return err
		}
		if waiting {
			return refundBusy()
		}
		actor, now := identity.From(ctx).UserID, s.now()
		plan = refundRow{
			ID: id, PaymentID: p.ID, UserID: p.UserID, OrderID: p.OrderID, Captured: p.Amount,
			Money:  money.Money{Amount: amount, Currency: p.Currency},
			Reason: in.Body.Reason, RefundedBefore: p.Refunded, Restock: in.Body.Restock, Status: refundPlanned,
			Actor: &actor, PlannedAt: now, CreatedAt: now,
		}
		if !policy.Allowed(identity.From(ctx), identity.SettleRefund, plan.resource(s.cfg.RefundLimit)) {
			plan.Status = payment.Requested
		}
		return putPlan(tx, plan)
	})
	return plan, err
}

// refundAmount is how much in asks to be given back of p, if it may be.
func refundAmount(p paymentRow, in *payment.RefundInput) (int64, error) {
	left := p.Amount - p.Refunded
	amount := left
	if a := in.Body.Amount; a != nil {
		if a.Currency != p.Currency {
			return 0, fault.New(fault.Invalid, "currency_mismatch", "a payment is refunded in its own currency").
				With(fault.Field{Pointer: "body.amount.currency", Detail: "must be " + string(p.Currency)})
		}
		if a.Amount < 1 {
			return 0, fault.New(fault.Invalid, "invalid_amount", "a refund gives something back").
				With(fault.Field{Pointer: "body.amount.amount", Detail: "must be at least 1"})
		}
		amount = a.Amount
	}
	return amount, mayRefund(p, amount, in.Body.Restock)
}

// mayRefund reports whether so much of p can be given back now.
func mayRefund(p paymentRow, amount int64, restock bool) error {
	left := p.Amount - p.Refunded
	switch {
	case p.Status == payment.Refunded || refundable(p.Status) && amount > left:
		return refundTooLarge(left)
	case !refundable(p.Status):
		return fault.New(fault.Conflict, "illegal_state", "a payment that is %s cannot be refunded", p.Status)
	case restock && amount != left:
		return fault.New(fault.Invalid, "restock_needs_full_refund", "goods go back to stock only with the refund that completes the payment").
			With(fault.Field{Pointer: "body.restock", Detail: "must be false for a part of the payment"})
	}
	return nil
}

func refundTooLarge(left int64) error {
	return fault.New(fault.Conflict, "refund_too_large", "only %d minor units of the payment are left to refund", left)
}

func refundBusy() error {
	return busy("another refund of this payment is being settled; try again")
}

// refundBranches is the transaction of a refund, made of its plan alone and of the order's lines, which never change.
func (s *Service) refundBranches(ctx context.Context, r refundRow) ([]twopc.Branch, error) {
	branches := []twopc.Branch{
		{
			Service: payment.Service, Action: payment.ActionRefund, Key: r.PaymentID.String(),
			Payload: payment.Refund{RefundID: r.ID, PaymentID: r.PaymentID, Amount: r.Money, Reason: r.Reason},
		},
		{
			Service: order.Service, Action: order.ActionRefund, Key: r.OrderID.String(),
			Payload: order.Refund{OrderID: r.OrderID, RefundID: r.ID, Amount: r.Money, Full: r.completes()},
		},
	}
	if r.Restock {
		o, err := order.LookupOrder.Call(ctx, s.mesh, &contract.ByID{ID: r.OrderID})
		if err != nil {
			return nil, err
		}
		branches = append(branches, twopc.Branch{
			Service: product.Service, Action: product.ActionRestock, Key: r.OrderID.String(),
			Payload: product.Lines{OrderID: r.OrderID, Lines: o.Body.Lines},
		})
	}
	if points := r.pointsBack(); points > 0 {
		branches = append(branches, twopc.Branch{
			Service: user.Service, Action: user.ActionTakeBack, Key: r.UserID.String(),
			Payload: user.Points{UserID: r.UserID, Points: points, Reference: r.ID.String()},
		})
	}
	return branches, nil
}

// GetRefund gives a refund of a payment. Returns NotFound for one of another person's payment.
func (s *Service) GetRefund(ctx context.Context, in *payment.RefundByID) (*contract.Body[payment.RefundView], error) {
	p, err := reach(ctx, s.db.WithContext(ctx), in.ID, identity.ReadPayment)
	if fault.Is(err, fault.NotFound) {
		err = notFound("refund")
	}
	if err != nil {
		return nil, err
	}
	r, err := readRefund(s.db.WithContext(ctx), in.RefundID)
	if err == nil && r.PaymentID != p.ID {
		err = notFound("refund")
	}
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.RefundView]{Body: r.view(s.now())}, nil
}

// completes reports whether with r the whole payment is refunded.
func (r refundRow) completes() bool { return r.RefundedBefore+r.Amount == r.Captured }

// pointsBack is how many reward points go back with r. Over all refunds of a payment they add up to what it has earned,
// however it is cut up.
func (r refundRow) pointsBack() int64 {
	points := func(amount int64) int64 { return user.PointsFor(money.Money{Amount: amount, Currency: r.Currency}) }
	return points(r.RefundedBefore+r.Amount) - points(r.RefundedBefore)
}

// answers reports whether in asks for what r is.
func (r refundRow) answers(in *payment.RefundInput) bool {
	return r.PaymentID == in.ID && r.Reason == in.Body.Reason && r.Restock == in.Body.Restock &&
		(in.Body.Amount == nil || *in.Body.Amount == r.Money)
}

func (r refundRow) view(now time.Time) payment.RefundView {
	status := r.Status
	if status == refundPlanned {
		status = payment.Pending
		if now.Sub(r.PlannedAt) > planLife {
			status = payment.Failed
		}
	}
	return payment.RefundView{
		ID: r.ID, PaymentID: r.PaymentID, Amount: r.Money, Reason: r.Reason, Restock: r.Restock, PointsBack: r.pointsBack(),
		Status: status, RequestedBy: r.Actor, DecidedBy: r.DecidedBy, TransactionID: r.GID, CreatedAt: r.CreatedAt, SettledAt: r.SettledAt,
	}
}
