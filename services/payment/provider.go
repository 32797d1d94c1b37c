package payment

import (
	"context"
	"strings"
	"time"

	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

// Outcome is what became of a charge at the provider.
type Outcome string

// The outcomes. All but Processing are for ever.
const (
	Succeeded  Outcome = "succeeded"
	Declined   Outcome = "declined"
	Cancelled  Outcome = "cancelled"  // it was recalled before it came, and never will be made
	Processing Outcome = "processing" // a webhook will tell
)

// Provider takes money from cards. It is safe for concurrent use.
type Provider interface {
	// Charge takes amount from card. Reference names the charge: repeating it charges nothing more and gives what became
	// of the first. An error means that it is not known whether the charge was made.
	Charge(ctx context.Context, reference uuid.UUID, amount money.Money, card payment.Card) (Outcome, error)

	// Recall asks what became of a charge, and cancels one that has not come: from then on it never will be made.
	Recall(ctx context.Context, reference uuid.UUID) (Outcome, error)
}

// checkCard refuses, as Invalid with code invalid_card, a card that no provider need be asked about.
func checkCard(c payment.Card, now time.Time) error {
	invalid := fault.New(fault.Invalid, "invalid_card", "this is not a valid card")
	if !luhn(c.Number) {
		return invalid.With(fault.Field{Pointer: "body.card.number", Detail: "is mistyped: its check digit is wrong"})
	}
	// A card is good to the end of its month, wherever on earth that is.
	if end := time.Date(c.ExpYear, time.Month(c.ExpMonth)+1, 2, 0, 0, 0, 0, time.UTC); now.After(end) {
		return invalid.With(fault.Field{Pointer: "body.card.exp_year", Detail: "the card has expired"})
	}
	return nil
}

// luhn reports whether the last digit of number is the check digit of the others (ISO/IEC 7812-1).
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// brand is whose card it is, by its first digits.
func brand(number string) string {
	two := number[:2]
	switch {
	case number[0] == '4':
		return "visa"
	case two >= "51" && two <= "55", two >= "22" && two <= "27":
		return "mastercard"
	case two == "34" || two == "37":
		return "amex"
	case strings.HasPrefix(number, "6011") || two == "65":
		return "discover"
	default:
		return "unknown"
	}
}

func last4(number string) string { return number[len(number)-4:] }
