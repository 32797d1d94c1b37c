package order

import (
	"context"
	"fmt"
	"log/slog"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/telemetry"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	maxQuantity = 1000              // of one product in an order
	maxTotal    = 1_000_000_000_000 // minor units of an order: the most that an amount on the wire may be
)

// Place makes an order of the caller's lines at today's prices. It reserves nothing. Returns Invalid, code
// unknown_product or product_unavailable, for a product that is not sold (any more), currency_mismatch for products of
// two currencies, quantity_too_large or amount_too_large; and Unavailable while the product service is away.
func (s *Service) Place(ctx context.Context, in *order.PlaceInput) (*contract.Created[order.Order], error) {
	return idempotency.Steps(ctx, s.db, func(idempotency.Request) (*contract.Created[order.Order], bool, error) {
		wanted, err := sumUp(in.Body.Lines)
		if err != nil {
			return nil, false, err
		}
		offers, err := s.offers(ctx, wanted)
		if err != nil {
			return nil, false, err
		}
		lines, total, err := priced(wanted, offers)
		if err != nil {
			return nil, false, err
		}
		id := uuid.Must(uuid.NewV7())
		letter, err := s.write(ctx, id, in.Body.PayoutReference)
		if err != nil {
			return nil, false, err
		}
		fresh := false
		out, err := idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[order.Order], error) {
			fresh = true
			return s.place(ctx, tx, whole{lines: lines, row: row{
				ID: id, Currency: total.Currency, TotalMinor: total.Amount, PayoutLetter: letter,
			}}, in.Body.Note)
		})
		if err == nil && fresh {
			s.moved.WithLabelValues(string(order.Created)).Inc()
		}
		// Not final to Steps, which only spares a repetition the question to the product service: Once has stored the
		// answer already, in the transaction that made the order.
		return out, false, err
	})
}

func (s *Service) place(ctx context.Context, tx *gorm.DB, w whole, note string) (*contract.Created[order.Order], error) {
	who := s.caller(ctx)
	w.UserID, w.Status, w.CreatedAt, w.UpdatedAt = identity.From(ctx).UserID, order.Created, who.At, who.At
	if note != "" {
		var err error
		if w.SealedNote, err = s.sealed.note.Seal(w.ID.String(), note).Bytes(); err != nil {
			return nil, err
		}
	}
	for i := range w.lines {
		w.lines[i].OrderID = w.ID
	}
	if err := insert(tx, w, who.changed("", order.Created)); err != nil {
		return nil, fmt.Errorf("place order: %w", err)
	}
	telemetry.Note(ctx, slog.String("order", w.ID.String()))
	shown, err := s.sealed.show(ctx, w)
	return &contract.Created[order.Order]{Location: location(w.ID), Body: shown}, err
}

// location is where the public finds an order.
func location(id uuid.UUID) string { return "/api/v1/orders/" + id.String() }

// wanted is how much of a product the client wants.
type wanted struct {
	product  uuid.UUID
	quantity int64
	line     int // where the client first named it
}

// wrong is a fault of the line.
func (w wanted) wrong(code, format string, args ...any) error {
	f := fault.New(fault.Invalid, code, format, args...)
	return f.With(fault.Field{Pointer: fmt.Sprintf("body.lines[%d]", w.line), Detail: f.Message})
}

// sumUp makes one of the lines of the same product.
func sumUp(lines []order.PlaceLine) ([]wanted, error) {
	var sums []wanted
	at := make(map[uuid.UUID]int, len(lines))
	for i, l := range lines {
		j, seen := at[l.ProductID]
		if !seen {
			j = len(sums)
			at[l.ProductID] = j
			sums = append(sums, wanted{product: l.ProductID, line: i})
		}
		sums[j].quantity += l.Quantity
		if sums[j].quantity > maxQuantity {
			return nil, sums[j].wrong("quantity_too_large", "an order has at most %d of product %s", maxQuantity, l.ProductID)
		}
	}
	return sums, nil
}

// offers asks the product service what is wanted sells for.
func (s *Service) offers(ctx context.Context, sums []wanted) (map[uuid.UUID]product.Offer, error) {
	in := &product.LookupInput{IDs: make(product.IDs, len(sums))}
	for i, w := range sums {
		in.IDs[i] = w.product
	}
	out, err := product.LookupProducts.Call(ctx, s.mesh, in)
	if err != nil {
		return nil, err
	}
	offers := make(map[uuid.UUID]product.Offer, len(out.Body))
	for _, o := range out.Body {
		if o.Price.Amount < 0 || !o.Price.Currency.Valid() {
			return nil, fault.New(fault.Upstream, "", "product gave an answer that makes no sense").
				Because(fmt.Errorf("price of %s is %d %q", o.ID, o.Price.Amount, o.Price.Currency))
		}
		offers[o.ID] = o
	}
	return offers, nil
}

// priced makes the lines of an order, and their total.
func priced(sums []wanted, offers map[uuid.UUID]product.Offer) ([]line, money.Money, error) {
	var total money.Money
	lines := make([]line, len(sums))
	for i, w := range sums {
		offer, known := offers[w.product]
		switch {
		case !known:
			return nil, total, w.wrong("unknown_product", "there is no product %s", w.product)
		case offer.Archived:
			return nil, total, w.wrong("product_unavailable", "product %s is not sold any more", w.product)
		case i == 0:
			total.Currency = offer.Price.Currency
		case offer.Price.Currency != total.Currency:
			return nil, total, w.wrong("currency_mismatch", "product %s is priced in %s and others in %s; order them apart",
				w.product, offer.Price.Currency, total.Currency)
		}
		sum, err := offer.Price.Times(w.quantity)
		if err != nil {
			return nil, total, err
		}
		if total, err = total.Add(sum); err != nil {
			return nil, total, err
		}
		lines[i] = line{
			Position: i, ProductID: offer.ID, SKU: offer.SKU, Name: offer.Name,
			UnitMinor: offer.Price.Amount, Quantity: w.quantity, TotalMinor: sum.Amount,
		}
	}
	if total.Amount > maxTotal {
		return nil, total, fault.New(fault.Invalid, "amount_too_large", "an order is at most %s", money.Money{Amount: maxTotal, Currency: total.Currency})
	}
	return lines, total, nil
}

// caller is the person who makes the request of ctx, as the history names them.
func (s *Service) caller(ctx context.Context) by {
	return by{Actor: identity.From(ctx).UserID.String(), RequestID: contract.RequestIDFrom(ctx), At: s.now()}
}
