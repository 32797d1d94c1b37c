package payment

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// resource is the refund as the policies know it. Its amount is what the payment's refunds come to with it, so that the
// limit is not got round by many small ones.
func (r refundRow) resource(limit int64) policy.Resource {
	on := policy.Resource{Kind: policy.Refund, ID: r.ID.String(), Owner: r.UserID, Amount: r.RefundedBefore + r.Amount, Limit: limit}
	if r.Actor != nil {
		on.RequestedBy = *r.Actor
	}
	if r.DecidedBy != nil && r.Status != payment.Rejected {
		on.ApprovedBy = *r.DecidedBy
	}
	return on
}

// needsAnother reports whether who asked for r cannot have it made: somebody else has to say yes, or has said something.
func (r refundRow) needsAnother() bool { return r.Status == payment.Requested || r.DecidedBy != nil }

// ListRefundRequests gives the refunds that wait to be approved, oldest first. Returns Malformed for a foreign page token.
func (s *Service) ListRefundRequests(ctx context.Context, in *payment.ListRefundRequestsInput) (*contract.Body[contract.Page[payment.RefundView]], error) {
	after, err := contract.After[requestCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := selectRequests(s.db.WithContext(ctx), after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r refundRow) payment.RefundView { return r.view(s.now()) },
		func(r refundRow) any { return requestCursor{timeCursor{r.CreatedAt, r.ID}} })
}

// requestCursor is where a page of requests ended.
type requestCursor struct{ timeCursor }

// ApproveRefund makes a refund that somebody else has asked for. One that failed after it was approved is approved again. It
// returns what Refund does; Forbidden, code not_your_own, for who asked for it and whose payment it is; and Conflict, code
// illegal_state, for a refund that waits for nobody.
func (s *Service) ApproveRefund(ctx context.Context, in *payment.RefundByID) (*payment.RefundOutput, error) {
	return idempotency.Steps(ctx, s.db, func(r idempotency.Request) (*payment.RefundOutput, bool, error) {
		var plan refundRow
		err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
			plan, err = s.approve(ctx, tx, in)
			return err
		})
		if err != nil {
			return nil, false, err
		}
		return s.settleRefund(ctx, r, plan)
	})
}

func (s *Service) approve(ctx context.Context, tx *gorm.DB, in *payment.RefundByID) (refundRow, error) {
	p, plan, err := s.toDecide(ctx, tx, in)
	if err != nil {
		return plan, err
	}
	switch plan.Status {
	case payment.Succeeded, payment.Pending: // by an earlier try of this
		return plan, nil
	}
	if err := mayRefund(p, plan.Amount, plan.Restock); err != nil {
		return plan, err
	}
	waiting, err := hasPendingRefund(tx, p.ID)
	if err != nil {
		return plan, err
	}
	if waiting {
		return plan, refundBusy()
	}
	me := identity.From(ctx).UserID
	plan.Status, plan.DecidedBy, plan.RefundedBefore, plan.PlannedAt = refundPlanned, &me, p.Refunded, s.now()
	return plan, approveRefund(tx, plan)
}

// RejectRefund ends a request for a refund. It returns what ApproveRefund does of those who may not decide.
func (s *Service) RejectRefund(ctx context.Context, in *payment.RefundByID) (*contract.Body[payment.RefundView], error) {
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Body[payment.RefundView], error) {
		_, r, err := s.toDecide(ctx, tx, in)
		if err != nil {
			return nil, err
		}
		if r.Status != payment.Requested {
			return nil, notWaiting(r)
		}
		me, now := identity.From(ctx).UserID, s.now()
		r.Status, r.DecidedBy, r.SettledAt = payment.Rejected, &me, &now
		return &contract.Body[payment.RefundView]{Body: r.view(now)}, rejectRefund(tx, r.ID, me, now)
	})
}

// toDecide locks the payment and gives it with its refund, if that waits for somebody's word and the caller may give it.
func (s *Service) toDecide(ctx context.Context, tx *gorm.DB, in *payment.RefundByID) (p paymentRow, r refundRow, err error) {
	if p, err = lockPayment(tx, in.ID); err != nil {
		return p, r, err
	}
	r, err = readRefund(tx, in.RefundID)
	if err == nil && r.PaymentID != p.ID {
		err = notFound("refund")
	}
	if err != nil {
		return p, r, err
	}
	err = policy.Check(ctx, identity.ApproveRefund, r.resource(s.cfg.RefundLimit))
	switch {
	case policy.DeniedBy(err, "sod.refund"):
		err = fault.New(fault.Forbidden, "not_your_own", "somebody else has to decide on what you asked for, and on your payment").Because(err)
	case err == nil && (!r.needsAnother() || r.Status == payment.Rejected):
		err = notWaiting(r)
	}
	return p, r, err
}

func notWaiting(r refundRow) error {
	return fault.New(fault.Conflict, "illegal_state", "a refund that is %s does not wait to be approved", r.Status)
}

func selectRequests(tx *gorm.DB, after *requestCursor, limit int) (rows []refundRow, err error) {
	where, args := "", []any{}
	if after != nil {
		where, args = " AND (r.created_at, r.id) > (?, ?)", append(args, after.At, after.ID)
	}
	err = tx.Raw(selectRefund+"WHERE r.status = 'requested'"+where+" ORDER BY r.created_at, r.id LIMIT ?", append(args, limit)...).Scan(&rows).Error
	return rows, err
}

// approveRefund makes a plan of a request, or of what has become of an earlier approval.
func approveRefund(tx *gorm.DB, r refundRow) error {
	return one(tx.Exec(`UPDATE refund SET status = 'planned', gid = NULL, settled_at = NULL, decided_by = ?, decided_at = ?, refunded_before = ?,
		planned_at = ? WHERE id = ? AND (status = 'requested' OR status IN ('planned', 'failed') AND decided_by IS NOT NULL)`,
		r.DecidedBy, r.PlannedAt, r.RefundedBefore, r.PlannedAt, r.ID), "refund", r.ID)
}

func rejectRefund(tx *gorm.DB, id, by uuid.UUID, now time.Time) error {
	return one(tx.Exec("UPDATE refund SET status = 'rejected', decided_by = ?, decided_at = ?, settled_at = ? WHERE id = ? AND status = 'requested'",
		by, now, now, id), "refund", id)
}
