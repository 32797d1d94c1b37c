// Package money is an amount of one currency in integer minor units. There is no floating point anywhere in it, and no
// arithmetic that can overflow silently or mix two currencies.
package money

import (
	"fmt"
	"math"
	"strings"

	"souk/shared/fault"
)

// Currency is an ISO 4217 code, such as "USD". The zero value is no currency and never valid.
type Currency string

// exponents gives, for each currency the shop trades in, how many digits its minor unit has (ISO 4217).
var exponents = map[Currency]int{"USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "JPY": 0, "KWD": 3} //nolint:gochecknoglobals // never changes

// Valid reports whether the shop trades in c.
func (c Currency) Valid() bool { _, ok := exponents[c]; return ok }

// ParseCurrency accepts exactly the currencies the shop trades in. Any other text is Invalid, code unknown_currency.
func ParseCurrency(s string) (Currency, error) {
	if c := Currency(s); c.Valid() {
		return c, nil
	}
	return "", fault.New(fault.Invalid, "unknown_currency", "the shop does not trade in that currency")
}

// Money is an amount in minor units of a currency: {1999, "USD"} is 19.99 dollars. The zero value is no money in no
// currency.
type Money struct {
	Amount   int64    `json:"amount" doc:"Integer minor units, e.g. cents" minimum:"0" maximum:"1000000000000" example:"1999"`
	Currency Currency `json:"currency" doc:"ISO 4217 code" minLength:"3" maxLength:"3" example:"USD"`
}

// String is for people: "19.99 USD".
func (m Money) String() string {
	digits := exponents[m.Currency]
	if digits == 0 {
		return fmt.Sprintf("%d %s", m.Amount, m.Currency)
	}
	unit := int64(math.Pow10(digits))
	sign, amount := "", m.Amount
	if amount < 0 {
		sign, amount = "-", -amount
	}
	return strings.TrimSpace(fmt.Sprintf("%s%d.%0*d %s", sign, amount/unit, digits, amount%unit, m.Currency))
}

// Add is m + n. Two currencies are Invalid, code currency_mismatch; a sum outside int64 is Invalid, code amount_too_large.
func (m Money) Add(n Money) (Money, error) {
	if m.Currency != n.Currency {
		return Money{}, fault.New(fault.Invalid, "currency_mismatch", "cannot add %s to %s", n.Currency, m.Currency)
	}
	sum := m.Amount + n.Amount
	if (sum > m.Amount) != (n.Amount > 0) && n.Amount != 0 {
		return Money{}, tooLarge()
	}
	return Money{sum, m.Currency}, nil
}

// Times is m taken n times. A product outside int64 is Invalid, code amount_too_large.
func (m Money) Times(n int64) (Money, error) {
	product := m.Amount * n
	if m.Amount != 0 && (product/m.Amount != n || (m.Amount == -1 && n == math.MinInt64)) {
		return Money{}, tooLarge()
	}
	return Money{product, m.Currency}, nil
}

func tooLarge() error { return fault.New(fault.Invalid, "amount_too_large", "the amount is too large") }
