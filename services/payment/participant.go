package payment

import (
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/money"
	"souk/shared/twopc"
)

// maxAmount bounds what one branch may move, in minor units, as money.Money does on the wire: no sum of such comes near
// the end of int64.
const maxAmount = 1_000_000_000_000

// actions is what the service can do as its branch of a transaction.
func (s *Service) actions() map[string]twopc.Action {
	return map[string]twopc.Action{
		payment.ActionCharge: twopc.NewAction(s.authorize, s.capture, s.release),
		payment.ActionRefund: twopc.NewAction(s.holdRefund, s.payRefund, s.dropRefund),
		payment.ActionCredit: twopc.NewAction(s.promiseCredit, s.payCredit, s.dropCredit),
	}
}

// movable refuses, as Invalid, an amount that no branch moves.
func movable(m money.Money) error {
	if _, err := money.ParseCurrency(string(m.Currency)); err != nil {
		return err
	}
	if m.Amount < 1 || m.Amount > maxAmount {
		return fault.New(fault.Invalid, "invalid_amount", "the amount must be 1 to %d minor units", int64(maxAmount))
	}
	return nil
}

// authorize prepares a charge: the payment is made, and its amount held in the wallet.
func (s *Service) authorize(tx twopc.Tx, c payment.Charge) error {
	if err := movable(c.Amount); err != nil {
		return err
	}
	p := paymentRow{
		ID: c.PaymentID, GID: tx.GID, OrderID: c.OrderID, UserID: c.UserID, Money: c.Amount,
		Status: payment.Authorized, PayoutLetter: c.PayoutLetter, CreatedAt: s.now(), UpdatedAt: s.now(),
	}
	fresh, err := insertPayment(tx.DB, p)
	if err != nil {
		return err
	}
	from := ""
	if !fresh {
		if err := s.authorizeAgain(tx, p); err != nil {
			return err
		}
		from = payment.Voided
	}
	if err := s.move(tx.DB, move{payment: p.ID, from: from, to: payment.Authorized, gid: tx.GID, actor: &c.UserID}); err != nil {
		return err
	}
	held, err := holdAvailable(tx.DB, walletOf(c.UserID, c.Amount.Currency), c.Amount.Amount)
	if err == nil && !held {
		err = fault.New(fault.Conflict, "insufficient_funds", "the wallet does not have %s", c.Amount)
	}
	return err
}

// authorizeAgain lets a voided payment be tried again for the same thing, and refuses whatever else stands in the way of
// a new payment.
func (s *Service) authorizeAgain(tx twopc.Tx, p paymentRow) error {
	rivals, err := lockRivals(tx.DB, p.ID, p.OrderID)
	if err != nil {
		return err
	}
	again := false
	for _, known := range rivals {
		switch {
		case known.Status == payment.Authorized:
			return busy("an earlier payment of this order is still being settled; try again")
		case known.Status != payment.Voided:
			return fault.New(fault.Conflict, "order_not_payable", "the order is paid already")
		case known.ID == p.ID && (known.OrderID != p.OrderID || known.UserID != p.UserID || known.Money != p.Money):
			return fault.New(fault.Conflict, "payment_reused", "this payment id was used for another payment")
		case known.ID == p.ID:
			again = true
		}
	}
	if !again {
		// What stood in the way has been voided since.
		return busy("an earlier payment of this order has just been settled; try again")
	}
	return adoptPayment(tx.DB, p.ID, tx.GID)
}

// capture commits a charge: the merchant gets what was held.
func (s *Service) capture(tx twopc.Tx, c payment.Charge) error {
	if err := s.move(tx.DB, move{
		payment: c.PaymentID, from: payment.Authorized, to: payment.Captured, gid: tx.GID, actor: &c.UserID,
	}); err != nil {
		return err
	}
	tx.AfterCommit(func() { s.captured.WithLabelValues(string(c.Amount.Currency)).Add(float64(c.Amount.Amount)) })
	return s.post(tx.DB, movement{kind: movedByCapture, reference: c.PaymentID, gid: tx.GID},
		leg{account: walletOf(c.UserID, c.Amount.Currency), amount: -c.Amount.Amount, held: true},
		leg{account: shopAccount(payment.KindMerchant, c.Amount.Currency), amount: c.Amount.Amount})
}

// release aborts a charge: the wallet has back what was held.
func (s *Service) release(tx twopc.Tx, c payment.Charge) error {
	p, err := lockPayment(tx.DB, c.PaymentID)
	if err != nil {
		return err
	}
	if err := s.move(tx.DB, move{
		payment: p.ID, from: payment.Authorized, to: payment.Voided, gid: tx.GID, actor: p.VoidAskedBy,
	}); err != nil {
		return err
	}
	return releaseHeld(tx.DB, walletOf(c.UserID, c.Amount.Currency), c.Amount.Amount)
}

// holdRefund prepares a refund: it is checked against the payment as it is now, and its amount held at the merchant.
func (s *Service) holdRefund(tx twopc.Tx, r payment.Refund) error {
	if err := movable(r.Amount); err != nil {
		return err
	}
	p, err := lockPayment(tx.DB, r.PaymentID)
	if err != nil {
		return err
	}
	plan, err := readRefund(tx.DB, r.RefundID)
	if fault.Is(err, fault.NotFound) { // the transaction is not one of Service.Refund's
		plan = refundRow{
			ID: r.RefundID, PaymentID: p.ID, Money: r.Amount, Reason: r.Reason,
			RefundedBefore: p.Refunded, Status: refundPlanned, PlannedAt: s.now(), CreatedAt: s.now(),
		}
		err = putPlan(tx.DB, plan)
	}
	if err != nil {
		return err
	}
	waiting, err := hasPendingRefund(tx.DB, p.ID)
	if err != nil {
		return err
	}
	left := p.Amount - p.Refunded
	switch {
	case plan.PaymentID != p.ID || plan.Money != r.Amount:
		return refundReused()
	case plan.Status == payment.Succeeded:
		return fault.New(fault.Conflict, "illegal_state", "the refund has been made already")
	case p.Currency != r.Amount.Currency:
		return fault.New(fault.Invalid, "currency_mismatch", "a payment is refunded in its own currency")
	case waiting:
		return refundBusy()
	case refundable(p.Status) && plan.Amount > left:
		return refundTooLarge(left)
	case !refundable(p.Status):
		return fault.New(fault.Conflict, "illegal_state", "a payment that is %s cannot be refunded", p.Status)
	case plan.RefundedBefore != p.Refunded:
		return busy("another refund of this payment came in between; try again")
	}
	started, err := startRefund(tx.DB, plan, tx.GID)
	if err != nil {
		return err
	}
	if !started {
		return refundReused()
	}
	held, err := holdAvailable(tx.DB, shopAccount(payment.KindMerchant, p.Currency), plan.Amount)
	if err == nil && !held {
		err = fault.New(fault.Conflict, "insufficient_funds", "the merchant's account does not have %s", r.Amount)
	}
	return err
}

func refundReused() error {
	return fault.New(fault.Conflict, "refund_reused", "this refund id was used for another refund")
}

// payRefund commits a refund: the wallet gets what was held at the merchant.
func (s *Service) payRefund(tx twopc.Tx, r payment.Refund) error {
	p, err := lockPayment(tx.DB, r.PaymentID)
	if err != nil {
		return err
	}
	actor, err := finishRefund(tx.DB, r.RefundID, tx.GID, payment.Succeeded, s.now())
	if err != nil {
		return err
	}
	to := payment.PartiallyRefunded
	if p.Refunded+r.Amount.Amount == p.Amount {
		to = payment.Refunded
	}
	if err := s.move(tx.DB, move{
		payment: p.ID, from: p.Status, to: to, gid: tx.GID, actor: actor, refunded: r.Amount.Amount,
	}); err != nil {
		return err
	}
	tx.AfterCommit(func() { s.refunded.WithLabelValues(string(r.Amount.Currency)).Add(float64(r.Amount.Amount)) })
	return s.post(tx.DB, movement{kind: movedByRefund, reference: r.RefundID, gid: tx.GID},
		leg{account: walletOf(p.UserID, p.Currency), amount: r.Amount.Amount},
		leg{account: shopAccount(payment.KindMerchant, p.Currency), amount: -r.Amount.Amount, held: true})
}

// dropRefund aborts a refund: the merchant has back what was held.
func (s *Service) dropRefund(tx twopc.Tx, r payment.Refund) error {
	if _, err := finishRefund(tx.DB, r.RefundID, tx.GID, payment.Failed, s.now()); err != nil {
		return err
	}
	return releaseHeld(tx.DB, shopAccount(payment.KindMerchant, r.Amount.Currency), r.Amount.Amount)
}

// promiseCredit prepares a credit. Nothing need be held: the rewards account may fall below zero, it is what redeemed
// points have cost.
func (s *Service) promiseCredit(tx twopc.Tx, c payment.Credit) error {
	if err := movable(c.Amount); err != nil {
		return err
	}
	if c.Amount != user.PointValue(c.Points, c.Amount.Currency) {
		return fault.New(fault.Invalid, "invalid_amount", "%d points are not worth %s", c.Points, c.Amount)
	}
	t := transferRow{
		ID: c.TransferID, GID: tx.GID, UserID: c.UserID, Points: c.Points, Money: c.Amount,
		Status: payment.Pending, CreatedAt: s.now(),
	}
	started, err := startTransfer(tx.DB, t)
	if err == nil && !started {
		err = s.transferTaken(tx, t)
	}
	return err
}

// transferTaken says why a transfer's id cannot be used.
func (s *Service) transferTaken(tx twopc.Tx, t transferRow) error {
	known, err := findTransfer(tx.DB, t.ID)
	switch {
	case err != nil:
		return err
	case known.Status == payment.Pending:
		return busy("an earlier try of this transfer is still being settled; try again")
	default:
		return fault.New(fault.Conflict, "transfer_reused", "this transfer id was used already")
	}
}

// payCredit commits a credit: the wallet gets what the points are worth, at the shop's expense.
func (s *Service) payCredit(tx twopc.Tx, c payment.Credit) error {
	if err := finishTransfer(tx.DB, c.TransferID, tx.GID, payment.Succeeded, s.now()); err != nil {
		return err
	}
	return s.post(tx.DB, movement{kind: movedByCredit, reference: c.TransferID, gid: tx.GID},
		leg{account: walletOf(c.UserID, c.Amount.Currency), amount: c.Amount.Amount},
		leg{account: shopAccount(payment.KindRewards, c.Amount.Currency), amount: -c.Amount.Amount})
}

// dropCredit aborts a credit: nothing was held.
func (s *Service) dropCredit(tx twopc.Tx, c payment.Credit) error {
	return finishTransfer(tx.DB, c.TransferID, tx.GID, payment.Failed, s.now())
}
