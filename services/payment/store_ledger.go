package payment

import (
	"strings"
	"time"

	"souk/shared/contract/payment"
	"souk/shared/money"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// insertMovement writes a movement and its entries down; that they sum to zero is checked at commit.
func insertMovement(tx *gorm.DB, m movement, requestID string, now time.Time, legs []leg) error {
	id := uuid.Must(uuid.NewV7())
	var gid *uuid.UUID
	if m.gid != uuid.Nil {
		gid = &m.gid
	}
	args := []any{id, m.kind, m.reference, gid, requestID, now}
	for _, l := range legs {
		args = append(args, id, l.account.kind, l.account.owner, l.account.currency, l.amount)
	}
	return tx.Exec(`WITH m AS (INSERT INTO movement (movement_id, kind, reference, gid, request_id, created_at) VALUES (?, ?, ?, ?, ?, ?))
		INSERT INTO entry (movement_id, kind, owner, currency, amount) VALUES `+
		strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?), ", len(legs)), ", "), args...).Error
}

// addAvailable adds to what is available in an account, which is opened by it.
func addAvailable(tx *gorm.DB, a account, amount int64) error {
	return tx.Exec(`INSERT INTO account AS known (kind, owner, currency, available) VALUES (?, ?, ?, ?)
		ON CONFLICT (kind, owner, currency) DO UPDATE SET available = known.available + excluded.available`,
		a.kind, a.owner, a.currency, amount).Error
}

// addHeld adds to what is held in an account that has something held.
func addHeld(tx *gorm.DB, a account, amount int64) error {
	return one(tx.Exec("UPDATE account SET held = held + ? WHERE kind = ? AND owner = ? AND currency = ?",
		amount, a.kind, a.owner, a.currency), "account of", a.owner)
}

// holdAvailable sets amount aside, and reports whether the account had it.
func holdAvailable(tx *gorm.DB, a account, amount int64) (bool, error) {
	res := tx.Exec(`UPDATE account SET available = available - ?, held = held + ?
		WHERE kind = ? AND owner = ? AND currency = ? AND available >= ?`, amount, amount, a.kind, a.owner, a.currency, amount)
	return res.RowsAffected == 1, res.Error
}

// releaseHeld makes available again what was set aside.
func releaseHeld(tx *gorm.DB, a account, amount int64) error {
	return one(tx.Exec("UPDATE account SET available = available + ?, held = held - ? WHERE kind = ? AND owner = ? AND currency = ?",
		amount, amount, a.kind, a.owner, a.currency), "account of", a.owner)
}

// accountRow is a row of account.
type accountRow struct {
	Kind      string
	Owner     uuid.UUID
	Currency  money.Currency
	Available int64
	Held      int64
}

// findAccount gives an account; an empty one where there is none.
func findAccount(tx *gorm.DB, a account) (accountRow, error) {
	r := accountRow{Kind: a.kind, Owner: a.owner, Currency: a.currency}
	err := tx.Raw("SELECT kind, owner, currency, available, held FROM account WHERE kind = ? AND owner = ? AND currency = ?",
		a.kind, a.owner, a.currency).Scan(&r).Error
	return r, err
}

func selectWallets(tx *gorm.DB, user uuid.UUID) (rows []accountRow, err error) {
	err = tx.Raw("SELECT kind, owner, currency, available, held FROM account WHERE kind = ? AND owner = ? ORDER BY currency",
		payment.KindWallet, user).Scan(&rows).Error
	return rows, err
}

// accountCursor is the last account of a page.
type accountCursor struct {
	Kind     string         `json:"kind"`
	Owner    uuid.UUID      `json:"owner"`
	Currency money.Currency `json:"currency"`
}

// selectAccounts gives accounts in the order of their key; empty kind and currency are all.
func selectAccounts(tx *gorm.DB, kind, currency string, after *accountCursor, limit int) (rows []accountRow, err error) {
	q := tx.Table("account").Select("kind, owner, currency, available, held")
	if kind != "" {
		q = q.Where("kind = ?", kind)
	}
	if currency != "" {
		q = q.Where("currency = ?", currency)
	}
	if after != nil {
		q = q.Where("(kind, owner, currency) > (?, ?, ?)", after.Kind, after.Owner, after.Currency)
	}
	err = q.Order("kind, owner, currency").Limit(limit).Scan(&rows).Error
	return rows, err
}

// entryRow is an entry with its movement.
type entryRow struct {
	ID         int64
	MovementID uuid.UUID
	Why        string // the movement's kind
	Reference  uuid.UUID
	Amount     int64
	Currency   money.Currency
	CreatedAt  time.Time
}

// entryCursor is the last entry of a page.
type entryCursor struct {
	ID int64 `json:"id"`
}

func selectEntries(tx *gorm.DB, a account, before *entryCursor, limit int) (rows []entryRow, err error) {
	q := tx.Table("entry e").Joins("JOIN movement m USING (movement_id)").
		Select("e.id, e.movement_id, m.kind AS why, m.reference, e.amount, e.currency, m.created_at").
		Where("e.kind = ? AND e.owner = ? AND e.currency = ?", a.kind, a.owner, a.currency)
	if before != nil {
		q = q.Where("e.id < ?", before.ID)
	}
	err = q.Order("e.id DESC").Limit(limit).Scan(&rows).Error
	return rows, err
}

// sumLedger adds every currency up. The sums of a right ledger are zero, and its accounts what their entries say; an
// entry without an account cannot be (foreign key).
func sumLedger(tx *gorm.DB) ([]payment.CurrencyCheck, error) {
	sums := []payment.CurrencyCheck{}
	err := tx.Raw(`
		SELECT currency, coalesce(sum(total), 0)::bigint AS entries_sum, sum(available + held)::bigint AS accounts_sum,
			count(*) FILTER (WHERE available + held <> coalesce(total, 0)) AS mismatched_accounts
		FROM account LEFT JOIN (SELECT kind, owner, currency, sum(amount) AS total FROM entry GROUP BY kind, owner, currency) e
			USING (kind, owner, currency)
		GROUP BY currency ORDER BY currency`).Scan(&sums).Error
	return sums, err
}
