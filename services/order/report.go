package order

import (
	"context"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/money"

	"github.com/google/uuid"
)

// customerRow is what a customer has bought in a currency.
type customerRow struct {
	UserID        uuid.UUID
	Currency      money.Currency
	Orders        int64
	PaidMinor     int64
	RefundedMinor int64
}

// customerCursor is where a page of the report ended.
type customerCursor struct {
	UserID   uuid.UUID      `json:"user_id"`
	Currency money.Currency `json:"currency"`
}

// ReportCustomers tells what each customer has bought, by currency, to those whom the policies let see its class. Returns
// Malformed, code invalid_page_token.
func (s *Service) ReportCustomers(ctx context.Context, in *order.ReportInput) (*contract.Body[contract.Page[order.CustomerReport]], error) {
	after, err := contract.After[customerCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = new(customerCursor)
	}
	var rows []customerRow
	err = s.db.WithContext(ctx).Raw(`SELECT user_id, currency, count(*) AS orders,
			coalesce(sum(total_minor) FILTER (WHERE paid_at IS NOT NULL), 0) AS paid_minor, sum(refunded_minor) AS refunded_minor
		FROM orders WHERE (user_id, currency) > (?, ?) GROUP BY user_id, currency ORDER BY user_id, currency LIMIT ?`,
		after.UserID, after.Currency, in.Limit()+1).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r customerRow) order.CustomerReport {
		return order.CustomerReport{
			UserID: r.UserID, Orders: r.Orders,
			Paid:     money.Money{Amount: r.PaidMinor, Currency: r.Currency},
			Refunded: money.Money{Amount: r.RefundedMinor, Currency: r.Currency},
		}
	}, func(r customerRow) any { return customerCursor{r.UserID, r.Currency} })
}
