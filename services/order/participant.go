package order

import (
	"errors"
	"fmt"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// preparePay is the order's vote on being paid. A no has code order_not_payable, or busy.
func (s *Service) preparePay(tx twopc.Tx, p order.Pay) error {
	o, err := lock(tx.DB, p.OrderID, anyone())
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Conflict, "order_not_payable", "there is no such order")
	}
	if err != nil {
		return err
	}
	// Only the owner of an order can have begun to pay it.
	c, err := o.startPaying(tx.GID, p.PaymentID, s.part(tx, o.UserID.String()))
	if err != nil {
		return err
	}
	if err = write(tx.DB, o, c); errors.Is(err, gorm.ErrDuplicatedKey) {
		return fault.New(fault.Conflict, "order_not_payable", "the same payment pays another order").Because(err)
	}
	return err
}

func (s *Service) commitPay(tx twopc.Tx, p order.Pay) error {
	return s.endPaying(tx, p.OrderID, (*row).finishPaying)
}

func (s *Service) abortPay(tx twopc.Tx, p order.Pay) error {
	return s.endPaying(tx, p.OrderID, (*row).stopPaying)
}

func (s *Service) endPaying(tx twopc.Tx, id uuid.UUID, end func(*row, by) (change, error)) error {
	o, err := lock(tx.DB, id, anyone())
	if err != nil {
		return err
	}
	if !o.paying(tx.GID) {
		return fmt.Errorf("end payment of order %s: it is %s, not being paid by transaction %s", id, o.Status, tx.GID)
	}
	c, err := end(&o, s.part(tx, coordinator.Service))
	if err != nil {
		return err
	}
	if c.ToStatus == order.Paid {
		tx.AfterCommit(s.moved.WithLabelValues(string(order.Paid)).Inc)
	}
	return write(tx.DB, o, c)
}

// prepareRefund is the order's vote on giving money back. A no has code order_not_refundable, refund_too_large,
// refund_too_small, refund_not_full, currency_mismatch, or refund_in_progress.
func (s *Service) prepareRefund(tx twopc.Tx, p order.Refund) error {
	o, err := lock(tx.DB, p.OrderID, anyone())
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Conflict, "order_not_refundable", "there is no such order")
	}
	if err != nil {
		return err
	}
	if err := o.holdRefund(p.Amount, p.Full); err != nil {
		return err
	}
	return update(tx.DB, o, o.Status)
}

func (s *Service) commitRefund(tx twopc.Tx, p order.Refund) error {
	o, err := lock(tx.DB, p.OrderID, anyone())
	if err != nil {
		return err
	}
	c, err := o.refund(p.Amount, s.part(tx, payment.Service))
	if err != nil {
		return err
	}
	if c.ToStatus == order.Refunded {
		tx.AfterCommit(s.moved.WithLabelValues(string(order.Refunded)).Inc)
	}
	return write(tx.DB, o, c)
}

func (s *Service) abortRefund(tx twopc.Tx, p order.Refund) error {
	o, err := lock(tx.DB, p.OrderID, anyone())
	if err != nil {
		return err
	}
	o.releaseRefund(p.Amount)
	return update(tx.DB, o, o.Status)
}

// part is actor doing something as part of tx's transaction.
func (s *Service) part(tx twopc.Tx, actor string) by {
	gid := tx.GID
	return by{Actor: actor, GID: &gid, RequestID: contract.RequestIDFrom(tx.Statement.Context), At: s.now()}
}
