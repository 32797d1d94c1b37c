package payment

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/money"
)

// dayRow is what was taken on a day in a currency.
type dayRow struct {
	Day      time.Time
	Currency money.Currency
	Payments int64
	Captured int64
	Refunded int64
}

// dayCursor is where a page of the report ended.
type dayCursor struct {
	Day      time.Time      `json:"day"`
	Currency money.Currency `json:"currency"`
}

// ReportDays tells what was taken on each day, by currency, to those whom the policies let see its class. Returns Malformed,
// code invalid_page_token.
func (s *Service) ReportDays(ctx context.Context, in *payment.ReportInput) (*contract.Body[contract.Page[payment.DayReport]], error) {
	before, err := contract.After[dayCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	having, args := "", []any{}
	if before != nil {
		having, args = "WHERE (day, currency) < (?, ?)", append(args, before.Day, before.Currency)
	}
	var rows []dayRow
	err = s.db.WithContext(ctx).Raw(`SELECT day, currency, payments, captured, refunded FROM (
			SELECT date_trunc('day', created_at, 'UTC') AS day, currency, count(*) AS payments, sum(amount) AS captured, sum(refunded) AS refunded
			FROM payment WHERE status NOT IN ('authorized', 'voided') GROUP BY 1, 2) days `+having+` ORDER BY day DESC, currency DESC LIMIT ?`,
		append(args, in.Limit()+1)...).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r dayRow) payment.DayReport {
		return payment.DayReport{
			Day: r.Day, Payments: r.Payments,
			Captured: money.Money{Amount: r.Captured, Currency: r.Currency},
			Refunded: money.Money{Amount: r.Refunded, Currency: r.Currency},
		}
	}, func(r dayRow) any { return dayCursor{r.Day, r.Currency} })
}
