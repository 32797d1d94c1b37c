package order

import (
	"context"
	"fmt"
	"slices"
	"time"

	"souk/shared/contract/order"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// anyone sees every order: for other services, and inside a transaction of several.
func anyone() identity.Scope { return identity.Scope{Everybody: true} }

// reach reads the order id for its caller to do perm to it; NotFound where they cannot reach it, in the words for one that
// is not there, and Forbidden where they may look at it and no more. suffix follows the query, to lock the row.
func (s *Service) reach(ctx context.Context, tx *gorm.DB, id uuid.UUID, perm identity.Permission, suffix string) (row, error) {
	var o struct {
		Row  row  `gorm:"embedded"`
		Loan loan `gorm:"embedded"`
	}
	scope := policy.Scope(ctx, perm, policy.Order)
	err := postgres.Found(tx.Raw("SELECT "+rowColumns+", share.may AS share_may, share.expires_at AS share_until FROM orders"+lent("order", "orders")+
		" WHERE id = ? AND (? OR user_id = ? OR share.object IS NOT NULL)"+suffix, scope.User, s.now(), id, scope.Everybody, scope.User).Scan(&o), errMissing)
	if err != nil {
		return row{}, err
	}
	on := policy.Resource{Kind: policy.Order, ID: id.String(), Owner: o.Row.UserID, Share: o.Loan.share(scope.User)}
	return o.Row, denied(ctx, perm, identity.ReadOrder, on, errMissing)
}

// denied is nil where the caller may do perm to on. Where they may not even read it, it is missing to them.
func denied(ctx context.Context, perm, read identity.Permission, on policy.Resource, missing error) error {
	err := policy.Check(ctx, perm, on)
	if err != nil && !policy.Allowed(identity.From(ctx), read, on) {
		return missing
	}
	return err
}

// errMissing is the answer for an order that is not there and for one that is another's: nobody can tell them apart.
var errMissing = fault.New(fault.NotFound, "", "there is no such order")

const rowColumns = `id, user_id, status, currency, total_minor, refunded_minor, refunding_minor, sealed_note, payout_letter, carrier, tracking,
	payment_id, pay_gid, created_at, updated_at, paid_at`

// find reads an order of those in s; NotFound where there is none.
func find(tx *gorm.DB, id uuid.UUID, s identity.Scope) (row, error) {
	return one(tx, id, s, "")
}

// lock is find, and keeps everybody else from changing the order until tx ends.
func lock(tx *gorm.DB, id uuid.UUID, s identity.Scope) (row, error) {
	return one(tx, id, s, forChange)
}

// forChange locks what a query reads.
const forChange = " FOR NO KEY UPDATE OF orders"

func one(tx *gorm.DB, id uuid.UUID, s identity.Scope, suffix string) (o row, err error) {
	err = postgres.Found(tx.Raw("SELECT "+rowColumns+" FROM orders WHERE id = ? AND (? OR user_id = ?)"+suffix, id, s.Everybody, s.User).Scan(&o), errMissing)
	return o, err
}

// findWhole is find with the order's lines.
func findWhole(tx *gorm.DB, id uuid.UUID, s identity.Scope) (whole, error) {
	o, err := find(tx, id, s)
	if err != nil {
		return whole{}, err
	}
	return withLines(tx, o)
}

func withLines(tx *gorm.DB, o row) (whole, error) {
	w := whole{row: o}
	err := tx.Raw(`SELECT order_id, position, product_id, sku, name, unit_minor, quantity, total_minor
		FROM order_line WHERE order_id = ? ORDER BY position`, o.ID).Scan(&w.lines).Error
	return w, err
}

// insert writes a new order.
func insert(tx *gorm.DB, w whole, c change) error {
	err := tx.Exec(`INSERT INTO orders (id, user_id, status, currency, total_minor, sealed_note, payout_letter, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, w.ID, w.UserID, w.Status, w.Currency, w.TotalMinor,
		postgres.Bytea(w.SealedNote), postgres.Bytea(w.PayoutLetter), w.CreatedAt, w.UpdatedAt).Error
	if err != nil {
		return err
	}
	if err := tx.Table("order_line").Create(&w.lines).Error; err != nil {
		return err
	}
	return remember(tx, w.ID, c)
}

// write writes a locked order and the change that made it what it is now.
func write(tx *gorm.DB, o row, c change) error {
	if err := update(tx, o, c.FromStatus); err != nil {
		return err
	}
	return remember(tx, o.ID, c)
}

// update writes all of a locked order that can change. It was in status was.
func update(tx *gorm.DB, o row, was order.Status) error {
	res := tx.Exec(`UPDATE orders SET status = ?, refunded_minor = ?, refunding_minor = ?, carrier = ?, tracking = ?,
		payment_id = ?, pay_gid = ?, updated_at = ?, paid_at = ? WHERE id = ? AND status = ?`,
		o.Status, o.RefundedMinor, o.RefundingMinor, o.Carrier, o.Tracking,
		o.PaymentID, o.PayGID, o.UpdatedAt, o.PaidAt, o.ID, was)
	if res.Error == nil && res.RowsAffected != 1 {
		return fmt.Errorf("update order %s: it is no longer %s although it was locked", o.ID, was)
	}
	return res.Error
}

func remember(tx *gorm.DB, id uuid.UUID, c change) error {
	return tx.Exec(`INSERT INTO order_history (order_id, from_status, to_status, actor, gid, request_id, note, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, id, c.FromStatus, c.ToStatus, c.Actor, c.GID, c.RequestID, c.Note, c.At).Error
}

// historyLimit bounds what is shown of an order that was, say, tried to be paid again and again.
const historyLimit = 200

// history reads the newest changes of an order, the oldest of them first.
func history(tx *gorm.DB, id uuid.UUID) ([]change, error) {
	var changes []change
	err := tx.Raw(`SELECT from_status, to_status, actor, gid, request_id, note, at
		FROM order_history WHERE order_id = ? ORDER BY id DESC LIMIT ?`, id, historyLimit).Scan(&changes).Error
	slices.Reverse(changes)
	return changes, err
}

// cursor is where a page of the list ended.
type cursor struct {
	At time.Time `json:"at"`
	ID uuid.UUID `json:"id"`
}

// list reads the newest orders that in asks for of those in s, after the cursor if there is one, limit at most.
func list(tx *gorm.DB, s identity.Scope, in *order.ListInput, after *cursor, limit int, now time.Time) (rows []row, err error) {
	q := tx.Table("orders").Select(rowColumns)
	if in.Shared {
		q = q.Where("id IN (SELECT object FROM share WHERE kind = 'order' AND grantee = ? AND expires_at > ?)", s.User, now)
	} else if !s.Everybody {
		q = q.Where("user_id = ?", s.User)
	}
	if in.UserID != uuid.Nil {
		q = q.Where("user_id = ?", in.UserID)
	}
	if in.Status != "" {
		q = q.Where("status = ?", in.Status)
	}
	if !in.CreatedFrom.IsZero() {
		q = q.Where("created_at >= ?", in.CreatedFrom)
	}
	if !in.CreatedBefore.IsZero() {
		q = q.Where("created_at < ?", in.CreatedBefore)
	}
	if after != nil {
		q = q.Where("(created_at, id) < (?, ?)", after.At, after.ID)
	}
	err = q.Order("created_at DESC, id DESC").Limit(limit).Scan(&rows).Error
	return rows, err
}
