package payment

import (
	"fmt"
	"time"

	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// one is the error of a statement that commit or abort makes on something that prepare must have left. Where it is not
// there, that is a bug, or a hand in the database.
func one(res *gorm.DB, what string, id uuid.UUID) error {
	return postgres.Found(res, fmt.Errorf("%s %s is not as prepare left it", what, id))
}

// found is the error of a query that is to give a row; NotFound where there is none.
func found(res *gorm.DB, what string) error { return postgres.Found(res, notFound(what)) }

func notFound(what string) error { return fault.New(fault.NotFound, "", "there is no such %s", what) }

// timeCursor is the last item of a page that goes by time, newest first.
type timeCursor struct {
	At time.Time `json:"at"`
	ID uuid.UUID `json:"id"`
}

// newestFirst makes q a page of at most limit rows that were created before the cursor, if there is one.
func newestFirst(q *gorm.DB, before *timeCursor, limit int) *gorm.DB {
	if before != nil {
		q = q.Where("(created_at, id) < (?, ?)", before.At, before.ID)
	}
	return q.Order("created_at DESC, id DESC").Limit(limit)
}

// topUpRow is a row of top_up.
type topUpRow struct {
	ID     uuid.UUID
	UserID uuid.UUID
	money.Money
	CardBrand   string
	CardLast4   string `gorm:"column:card_last4"`
	Status      string
	FailureCode string
	CreatedAt   time.Time
	SettledAt   *time.Time
	NextCheckAt time.Time
}

const topUpColumns = "id, user_id, amount, currency, card_brand, card_last4, status, failure_code, created_at, settled_at, next_check_at"

func insertTopUp(tx *gorm.DB, t topUpRow) error {
	return tx.Exec(`INSERT INTO top_up (id, user_id, amount, currency, card_brand, card_last4, status, created_at, next_check_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		t.ID, t.UserID, t.Amount, t.Currency, t.CardBrand, t.CardLast4, t.Status, t.CreatedAt, t.NextCheckAt).Error
}

func findTopUp(tx *gorm.DB, id uuid.UUID) (t topUpRow, err error) {
	err = found(tx.Raw("SELECT "+topUpColumns+" FROM top_up WHERE id = ?", id).Scan(&t), "top-up")
	return t, err
}

// findTopUpOf is findTopUp for who is to see only their own.
func findTopUpOf(tx *gorm.DB, id, owner uuid.UUID) (t topUpRow, err error) {
	err = found(tx.Raw("SELECT "+topUpColumns+" FROM top_up WHERE id = ? AND user_id = ?", id, owner).Scan(&t), "top-up")
	return t, err
}

// finishTopUp reports whether it was this call that ended the top-up.
func finishTopUp(tx *gorm.DB, id uuid.UUID, status, code string, now time.Time) (t topUpRow, first bool, err error) {
	res := tx.Raw(`UPDATE top_up SET status = ?, failure_code = ?, settled_at = ? WHERE id = ? AND status = 'pending'
		RETURNING `+topUpColumns, status, code, now, id).Scan(&t)
	return t, res.RowsAffected == 1, res.Error
}

func selectTopUps(tx *gorm.DB, user uuid.UUID, before *timeCursor, limit int) (rows []topUpRow, err error) {
	q := tx.Table("top_up").Select(topUpColumns).Where("user_id = ?", user)
	err = newestFirst(q, before, limit).Scan(&rows).Error
	return rows, err
}

// claimTopUps gives the pending top-ups that are due, and makes each due again after pause.
func claimTopUps(tx *gorm.DB, now time.Time, pause time.Duration, limit int) (ids []uuid.UUID, err error) {
	err = tx.Raw(`UPDATE top_up SET next_check_at = ? WHERE id IN (
			SELECT id FROM top_up WHERE status = 'pending' AND next_check_at <= ? ORDER BY next_check_at LIMIT ? FOR UPDATE SKIP LOCKED)
		RETURNING id`, now.Add(pause), now, limit).Scan(&ids).Error
	return ids, err
}

// insertEvent reports whether the event is new.
func insertEvent(tx *gorm.DB, id uuid.UUID, now time.Time) (bool, error) {
	res := tx.Exec("INSERT INTO provider_event (id, received_at) VALUES (?, ?) ON CONFLICT DO NOTHING", id, now)
	return res.RowsAffected == 1, res.Error
}

// sandboxCharge is a row of sandbox_charge.
type sandboxCharge struct {
	Reference uuid.UUID
	money.Money
	Status    Outcome
	EventID   *uuid.UUID
	DueAt     *time.Time
	Attempts  int
	CreatedAt time.Time
}

func insertSandboxCharge(tx *gorm.DB, c sandboxCharge) error {
	return tx.Exec(`INSERT INTO sandbox_charge (reference, amount, currency, status, event_id, due_at, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.Reference, c.Amount, c.Currency, c.Status, c.EventID, c.DueAt, c.CreatedAt).Error
}

func sandboxOutcome(tx *gorm.DB, reference uuid.UUID) (status Outcome, err error) {
	err = tx.Raw("SELECT status FROM sandbox_charge WHERE reference = ?", reference).Row().Scan(&status)
	return status, err
}

// claimWebhooks gives the charges whose webhooks are due; each has succeeded by now. It is due again after a pause that
// doubles with every attempt, from a second up to maxPause.
func claimWebhooks(tx *gorm.DB, now time.Time, maxPause time.Duration, limit int) (due []sandboxCharge, err error) {
	err = tx.Raw(`UPDATE sandbox_charge SET status = 'succeeded', attempts = attempts + 1,
			due_at = ?::timestamptz + make_interval(secs => least(2 ^ least(attempts, 20), ?))
		WHERE reference IN (SELECT reference FROM sandbox_charge WHERE due_at <= ? ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED)
		RETURNING reference, amount, currency, status, event_id, due_at, attempts, created_at`,
		now, maxPause.Seconds(), now, limit).Scan(&due).Error
	return due, err
}

func acknowledgeWebhook(tx *gorm.DB, reference uuid.UUID) error {
	return tx.Exec("UPDATE sandbox_charge SET due_at = NULL WHERE reference = ?", reference).Error
}

// transferRow is a row of transfer.
type transferRow struct {
	ID     uuid.UUID
	GID    uuid.UUID
	UserID uuid.UUID
	Points int64
	money.Money
	Status    string
	CreatedAt time.Time
	SettledAt *time.Time
}

// startTransfer reports whether t is pending now: it is new, or an earlier try of the very same has failed.
func startTransfer(tx *gorm.DB, t transferRow) (bool, error) {
	res := tx.Exec(`INSERT INTO transfer AS known (id, gid, user_id, points, amount, currency, status, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET gid = excluded.gid, status = excluded.status, settled_at = NULL
			WHERE known.status = 'failed' AND known.user_id = excluded.user_id AND known.points = excluded.points
				AND known.amount = excluded.amount AND known.currency = excluded.currency`,
		t.ID, t.GID, t.UserID, t.Points, t.Amount, t.Currency, t.Status, t.CreatedAt)
	return res.RowsAffected == 1, res.Error
}

func finishTransfer(tx *gorm.DB, id, gid uuid.UUID, status string, now time.Time) error {
	return one(tx.Exec("UPDATE transfer SET status = ?, settled_at = ? WHERE id = ? AND gid = ? AND status = 'pending'", status, now, id, gid), "transfer", id)
}

const transferColumns = "id, gid, user_id, points, amount, currency, status, created_at, settled_at"

func findTransfer(tx *gorm.DB, id uuid.UUID) (t transferRow, err error) {
	err = found(tx.Raw("SELECT "+transferColumns+" FROM transfer WHERE id = ?", id).Scan(&t), "transfer")
	return t, err
}

// findTransferOf is findTransfer for who is to see only their own.
func findTransferOf(tx *gorm.DB, id, owner uuid.UUID) (t transferRow, err error) {
	err = found(tx.Raw("SELECT "+transferColumns+" FROM transfer WHERE id = ? AND user_id = ?", id, owner).Scan(&t), "transfer")
	return t, err
}

// paymentRow is a row of payment.
type paymentRow struct {
	ID      uuid.UUID
	GID     uuid.UUID
	OrderID uuid.UUID
	UserID  uuid.UUID
	money.Money
	Status       string
	Refunded     int64
	VoidAskedBy  *uuid.UUID
	PayoutLetter []byte
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

const paymentColumns = "id, gid, order_id, user_id, amount, currency, status, refunded, void_asked_by, payout_letter, created_at, updated_at"

// insertPayment reports whether there was no payment with that id, and none alive for that order.
func insertPayment(tx *gorm.DB, p paymentRow) (bool, error) {
	res := tx.Exec(`INSERT INTO payment (id, gid, order_id, user_id, amount, currency, status, payout_letter, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		p.ID, p.GID, p.OrderID, p.UserID, p.Amount, p.Currency, p.Status, postgres.Bytea(p.PayoutLetter), p.CreatedAt, p.UpdatedAt)
	return res.RowsAffected == 1, res.Error
}

// lockRivals gives the payments that keep a new one from being made: the one with its id, and the one alive for its
// order.
func lockRivals(tx *gorm.DB, id, order uuid.UUID) (rows []paymentRow, err error) {
	err = tx.Raw("SELECT "+paymentColumns+` FROM payment WHERE id = ? OR (order_id = ? AND status <> 'voided')
		ORDER BY id FOR UPDATE`, id, order).Scan(&rows).Error
	return rows, err
}

// adoptPayment makes a voided payment one of the transaction gid.
func adoptPayment(tx *gorm.DB, id, gid uuid.UUID) error {
	return one(tx.Exec("UPDATE payment SET gid = ?, void_asked_by = NULL WHERE id = ? AND status = 'voided'", gid, id), "payment", id)
}

func lockPayment(tx *gorm.DB, id uuid.UUID) (p paymentRow, err error) {
	err = found(tx.Raw("SELECT "+paymentColumns+" FROM payment WHERE id = ? FOR UPDATE", id).Scan(&p), "payment")
	return p, err
}

func readPayment(tx *gorm.DB, id uuid.UUID, who identity.Scope) (p paymentRow, err error) {
	err = found(tx.Raw("SELECT "+paymentColumns+" FROM payment WHERE id = ? AND (? OR user_id = ?)", id, who.Everybody, who.User).Scan(&p), "payment")
	return p, err
}

func selectPayments(tx *gorm.DB, who identity.Scope, order uuid.UUID, before *timeCursor, limit int) (rows []paymentRow, err error) {
	q := tx.Table("payment").Select(paymentColumns)
	if !who.Everybody {
		q = q.Where("user_id = ?", who.User)
	}
	if order != uuid.Nil {
		q = q.Where("order_id = ?", order)
	}
	err = newestFirst(q, before, limit).Scan(&rows).Error
	return rows, err
}

// updatePaymentStatus reports whether the payment was in the state that m goes from. Its first moves, out of authorized,
// are those of the transaction that made it.
func updatePaymentStatus(tx *gorm.DB, m move, now time.Time) (bool, error) {
	res := tx.Exec(`UPDATE payment SET status = ?, refunded = refunded + ?, updated_at = ?
		WHERE id = ? AND status = ? AND (gid = ? OR status <> 'authorized')`, m.to, m.refunded, now, m.payment, m.from, m.gid)
	return res.RowsAffected == 1, res.Error
}

// askVoid writes down who had the payment of transaction gid voided, if that is yet to be.
func askVoid(tx *gorm.DB, id, gid, actor uuid.UUID) error {
	return tx.Exec("UPDATE payment SET void_asked_by = ? WHERE id = ? AND gid = ? AND status = 'authorized' AND void_asked_by IS NULL",
		actor, id, gid).Error
}

func insertMove(tx *gorm.DB, m move, requestID string, now time.Time) error {
	return tx.Exec(`INSERT INTO payment_move (payment_id, from_status, to_status, actor, gid, request_id, at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, m.payment, m.from, m.to, m.actor, m.gid, requestID, now).Error
}

// shownOfEach is how many refunds and moves of a payment are shown, the latest.
const shownOfEach = 100

func selectMoves(tx *gorm.DB, id uuid.UUID) ([]payment.Move, error) {
	var rows []struct {
		FromStatus, ToStatus string
		Actor                *uuid.UUID
		GID                  uuid.UUID
		RequestID            string
		At                   time.Time
	}
	err := tx.Raw(`SELECT from_status, to_status, actor, gid, request_id, at FROM (
			SELECT * FROM payment_move WHERE payment_id = ? ORDER BY id DESC LIMIT ?) latest ORDER BY id`, id, shownOfEach).Scan(&rows).Error
	moves := make([]payment.Move, len(rows))
	for i, r := range rows {
		moves[i] = payment.Move{From: r.FromStatus, To: r.ToStatus, Actor: r.Actor, TransactionID: r.GID, RequestID: r.RequestID, At: r.At}
	}
	return moves, err
}

// refundRow is a row of refund, with what it needs to know of its payment.
type refundRow struct {
	ID        uuid.UUID
	PaymentID uuid.UUID
	UserID    uuid.UUID // of the payment
	OrderID   uuid.UUID // of the payment
	Captured  int64     // of the payment
	GID       *uuid.UUID
	money.Money
	Reason         string
	RefundedBefore int64
	Restock        bool
	Status         string
	Actor          *uuid.UUID // who asked for it
	DecidedBy      *uuid.UUID // who approved or rejected it
	PlannedAt      time.Time
	CreatedAt      time.Time
	SettledAt      *time.Time
}

const selectRefund = `SELECT r.id, r.payment_id, p.user_id, p.order_id, p.amount AS captured, r.gid, r.amount, r.currency, r.reason,
	r.refunded_before, r.restock, r.status, r.actor, r.decided_by, r.planned_at, r.created_at, r.settled_at
	FROM refund r JOIN payment p ON p.id = r.payment_id `

func readRefund(tx *gorm.DB, id uuid.UUID) (r refundRow, err error) {
	err = found(tx.Raw(selectRefund+"WHERE r.id = ?", id).Scan(&r), "refund")
	return r, err
}

// selectRefunds gives the refunds of a payment that were begun, oldest first.
func selectRefunds(tx *gorm.DB, id uuid.UUID) (rows []refundRow, err error) {
	err = tx.Raw(selectRefund+`WHERE r.id IN (SELECT id FROM refund WHERE payment_id = ? AND status <> 'planned'
		ORDER BY created_at DESC, id DESC LIMIT ?) ORDER BY r.created_at, r.id`, id, shownOfEach).Scan(&rows).Error
	return rows, err
}

func hasPendingRefund(tx *gorm.DB, id uuid.UUID) (has bool, err error) {
	err = tx.Raw("SELECT EXISTS (SELECT FROM refund WHERE payment_id = ? AND status = 'pending')", id).Row().Scan(&has)
	return has, err
}

// putPlan writes a planned or requested refund down, over one that an earlier try left and that has come to nothing.
func putPlan(tx *gorm.DB, r refundRow) error {
	return one(tx.Exec(`INSERT INTO refund AS known (id, payment_id, amount, currency, reason, refunded_before, restock, status, actor, planned_at, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET payment_id = excluded.payment_id, gid = NULL, amount = excluded.amount, currency = excluded.currency,
			reason = excluded.reason, refunded_before = excluded.refunded_before, restock = excluded.restock, status = excluded.status,
			actor = excluded.actor, planned_at = excluded.planned_at, settled_at = NULL
			WHERE known.status IN ('planned', 'failed') AND known.decided_by IS NULL`,
		r.ID, r.PaymentID, r.Amount, r.Currency, r.Reason, r.RefundedBefore, r.Restock, r.Status, r.Actor, r.PlannedAt, r.CreatedAt), "refund", r.ID)
}

// dropPlan ends a refund whose transaction was refused before it came to this service.
func dropPlan(tx *gorm.DB, id uuid.UUID, now time.Time) error {
	return tx.Exec("UPDATE refund SET status = 'failed', settled_at = ? WHERE id = ? AND status = 'planned'", now, id).Error
}

// startRefund reports whether plan is pending now: it is still the plan that it was when it was read.
func startRefund(tx *gorm.DB, plan refundRow, gid uuid.UUID) (bool, error) {
	res := tx.Exec(`UPDATE refund SET status = 'pending', gid = ?, settled_at = NULL WHERE id = ? AND payment_id = ? AND amount = ?
		AND currency = ? AND status IN ('planned', 'failed')`, gid, plan.ID, plan.PaymentID, plan.Amount, plan.Currency)
	return res.RowsAffected == 1, res.Error
}

// finishRefund ends a pending refund and gives who asked for it.
func finishRefund(tx *gorm.DB, id, gid uuid.UUID, status string, now time.Time) (*uuid.UUID, error) {
	var r refundRow
	res := tx.Raw("UPDATE refund SET status = ?, settled_at = ? WHERE id = ? AND gid = ? AND status = 'pending' RETURNING id, actor",
		status, now, id, gid).Scan(&r)
	return r.Actor, one(res, "refund", id)
}
