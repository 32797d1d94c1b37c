package product

import (
	"context"
	"strconv"
	"strings"

	"souk/shared/contract"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/money"

	"gorm.io/gorm"
)

// order is a way to sort the catalogue. Its columns end in the id, so every product has a place of its own, and all
// run the same way, so "after this place" is one comparison of rows that an index can answer.
type order struct {
	columns []string
	desc    bool
	values  func(cursor) []any // of the columns
}

func orderOf(sort string) order {
	price := order{
		columns: []string{"p.price_currency", "p.price_amount", "p.id"},
		values:  func(c cursor) []any { return []any{c.Currency, c.Amount, c.ID} },
	}
	switch sort {
	case product.SortPrice:
		return price
	case product.SortPriceDesc:
		price.desc = true
		return price
	case product.SortName:
		return order{
			columns: []string{"lower(p.name)", "p.id"},
			values:  func(c cursor) []any { return []any{c.Name, c.ID} },
		}
	case product.SortRelevance:
		return order{
			columns: []string{rank, "p.id"}, desc: true,
			values: func(c cursor) []any { return []any{c.Rank, c.ID} },
		}
	default:
		return order{
			columns: []string{"p.created_at", "p.id"}, desc: true,
			values: func(c cursor) []any { return []any{c.At, c.ID} },
		}
	}
}

// rank says how well a product matches. It is a float8, which JSON carries exactly, and not PostgreSQL's own float4.
const rank = "ts_rank_cd(p.search, query)::float8"

// selection is which products are asked for, in which order.
type selection struct {
	q, category, sort string
	min, max          int64
	currency          money.Currency // empty is any
}

// selectionOf fills in what was left out, and refuses what cannot be meant.
func (s *Service) selectionOf(in *product.ListInput) (selection, error) {
	sel := selection{
		q: strings.TrimSpace(in.Q), category: in.Category, sort: in.Sort,
		min: in.MinPrice, max: in.MaxPrice, currency: in.Currency,
	}
	if sel.sort == "" {
		sel.sort = product.SortNewest
		if sel.q != "" {
			sel.sort = product.SortRelevance
		}
	}
	if sel.currency == "" && (sel.min > 0 || sel.max < product.MaxAmount) {
		sel.currency = s.currency
	}
	switch {
	case sel.sort == product.SortRelevance && sel.q == "":
		return sel, fault.New(fault.Invalid, "nothing_to_match", "sort=relevance needs q, the words to match").
			With(fault.Field{Pointer: "query.sort", Detail: "relevance needs q"})
	case sel.min > sel.max:
		return sel, fault.New(fault.Invalid, "empty_price_range", "min_price is above max_price").
			With(fault.Field{Pointer: "query.min_price", Detail: "is above max_price"})
	case sel.currency != "":
		if _, err := money.ParseCurrency(string(sel.currency)); err != nil {
			return sel, err
		}
	}
	return sel, nil
}

func (s selection) name() string {
	return listName("products", s.q, s.category, s.sort, strconv.FormatInt(s.min, 10), strconv.FormatInt(s.max, 10), string(s.currency))
}

// ListProducts gives a page of the products that are not archived. A sort or filter that cannot be meant is Invalid.
func (s *Service) ListProducts(ctx context.Context, in *product.ListInput) (*contract.Body[contract.Page[product.Product]], error) {
	sel, err := s.selectionOf(in)
	if err != nil {
		return nil, err
	}
	from, err := after(in.Paging, sel.name())
	if err != nil {
		return nil, err
	}
	rows, err := listProducts(s.db.WithContext(ctx), sel, from, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), productRow.show, func(r productRow) any {
		c := cursor{List: sel.name(), ID: r.ID}
		switch sel.sort {
		case product.SortNewest:
			c.At = r.CreatedAt
		case product.SortName:
			c.Name = r.NameKey
		case product.SortRelevance:
			c.Rank = r.Rank
		default:
			c.Currency, c.Amount = r.PriceCurrency, r.PriceAmount
		}
		return c
	})
}

func listProducts(tx *gorm.DB, sel selection, from *cursor, limit int) (rows []productRow, err error) {
	columns, source := productColumns, productSource
	where, args := []string{"NOT p.archived"}, []any(nil)
	also := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if sel.q != "" {
		columns += ", " + rank + " AS rank"
		source += " CROSS JOIN websearch_to_tsquery('english', ?) AS query"
		also("p.search @@ query", sel.q)
	}
	if sel.category != "" {
		also("p.category = ?", sel.category)
	}
	if sel.currency != "" {
		also("p.price_currency = ? AND p.price_amount BETWEEN ? AND ?", sel.currency, sel.min, sel.max)
	}
	o := orderOf(sel.sort)
	direction, beyond := "", " > "
	if o.desc {
		direction, beyond = " DESC", " < "
	}
	if from != nil {
		places := strings.Repeat(", ?", len(o.columns))[2:]
		also("("+strings.Join(o.columns, ", ")+")"+beyond+"("+places+")", o.values(*from)...)
	}
	err = tx.Raw("SELECT "+columns+" FROM "+source+" WHERE "+strings.Join(where, " AND ")+
		" ORDER BY "+strings.Join(o.columns, direction+", ")+direction+" LIMIT ?", append(args, limit)...).Scan(&rows).Error
	return rows, err
}
