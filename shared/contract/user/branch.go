package user

import (
	"souk/shared/money"

	"github.com/google/uuid"
)

// Service is the name the user service is registered under.
const Service = "user"

// The actions the user service can do on a reward points account as its branch of a transaction; all take a Points
// payload.
const (
	ActionEarn     = "earn"      // credited by commit
	ActionSpend    = "spend"     // available → held → gone; a no has code insufficient_points
	ActionTakeBack = "take_back" // as spend, but it may leave the account below zero: the points may be spent already
)

// Points is a movement on a reward points account.
type Points struct {
	UserID    uuid.UUID `json:"user_id"`
	Points    int64     `json:"points"` // at least 1; a branch of zero points is left out
	Reference string    `json:"reference" example:"order 0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
}

// LockOrder is part of twopc.Locking.
func (p Points) LockOrder() string { return p.UserID.String() }

// minorUnitsPerPoint is how much must be spent for a point: 1.00 of a currency with two decimals.
const minorUnitsPerPoint = 100

// PointsFor is what a purchase of m earns, rounded down.
func PointsFor(m money.Money) int64 { return m.Amount / minorUnitsPerPoint }

// PointValue is what n points are worth when redeemed: one minor unit of c each.
func PointValue(n int64, c money.Currency) money.Money { return money.Money{Amount: n, Currency: c} }
