package chaos

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/money"

	"github.com/google/uuid"
)

// deal is one thing that a customer wants, under one key, with every answer that they got.
type deal struct {
	kind  string // checkout, refund, transfer, top-up
	key   string
	who   *customer
	order *bought // of checkout and refund
	// amount of money that moves.
	amount money.Money
	// points that a transfer spends, or a refund takes back.
	points  int64
	restock bool
	ask     func(ctx context.Context, key string) answer

	mu      sync.Mutex // a customer may ask twice at once
	answers []answer
}

// asked asks, or asks again, and keeps the answer.
func (d *deal) asked(ctx context.Context) answer {
	a := d.ask(ctx, d.key)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = append(d.answers, a)
	return a
}

// verdict is what the customer has reason to believe. Done is for ever; a refusal is what the last answer says.
func (d *deal) verdict() verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := unknown
	for _, a := range d.answers {
		if a.verdict == done {
			return done
		}
		if a.verdict == refused {
			v = refused
		}
	}
	return v
}

// contradicted reports whether an answer takes back an earlier one: what was done is refused later.
func (d *deal) contradicted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	isDone := slices.IndexFunc(d.answers, func(a answer) bool { return a.verdict == done })
	return isDone >= 0 && slices.ContainsFunc(d.answers[isDone:], func(a answer) bool { return a.verdict == refused })
}

func (d *deal) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var said []string
	for i := 0; i < len(d.answers); { // the same answer many times in a row is told once
		a, n := d.answers[i], 1
		for i+n < len(d.answers) && d.answers[i+n].text == a.text {
			n++
		}
		i += n
		said = append(said, fmt.Sprintf("%s %s (%s)", a.at.UTC().Format("15:04:05.000"), a.verdict, a.text))
		if n > 1 {
			said[len(said)-1] += fmt.Sprintf(" %d times", n)
		}
	}
	of := ""
	if d.order != nil {
		of = " of order " + d.order.id.String()
	}
	return fmt.Sprintf("%s%s by %s of %s under key %s: %s", d.kind, of, d.who.id, d.amount, d.key, strings.Join(said, ", "))
}

// bought is an order that a customer has placed.
type bought struct {
	id    uuid.UUID
	total money.Money
	lines map[uuid.UUID]int64 // pieces by product
	// The deals to pay it: at most one may be done.
	checkouts []*deal
	payment   uuid.UUID // once it is known to be paid
	refunds   []*deal
}

func (b *bought) paid() bool {
	return slices.ContainsFunc(b.checkouts, func(d *deal) bool { return d.verdict() == done })
}

// refunded is what the customer knows to have been given back; sure is false while one refund's outcome is not known.
func (b *bought) refunded() (minor int64, sure bool) {
	sure = true
	for _, d := range b.refunds {
		switch d.verdict() {
		case done:
			minor += d.amount.Amount
		case unknown:
			sure = false
		}
	}
	return minor, sure
}

// checkout is a deal to pay b.
func (c *customer) checkout(b *bought) *deal {
	d := &deal{kind: "checkout", key: c.key(), who: c, order: b, amount: b.total}
	d.ask = func(ctx context.Context, key string) answer {
		out, err := order.PayFor.Call(withKey(ctx, key), c.door.client, &contract.ByID{ID: b.id})
		if err != nil {
			return answered(0, err)
		}
		a := answered(out.Status, nil)
		if a.verdict == done && out.Body.Status == order.Created {
			a.text += " but the order is " + string(out.Body.Status)
		}
		return a
	}
	b.checkouts = append(b.checkouts, d)
	return d
}

// refund is a deal of which amount of b's payment is given back, by the admin's hand.
func (c *customer) refund(b *bought, amount int64, restock bool) *deal {
	before, _ := b.refunded()
	d := &deal{
		kind: "refund", key: c.key(), who: c, order: b, amount: money.Money{Amount: amount, Currency: b.total.Currency}, restock: restock,
		points: pointsFor(b, before+amount) - pointsFor(b, before),
	}
	d.ask = func(ctx context.Context, key string) answer {
		in := &payment.RefundInput{ByID: contract.ByID{ID: b.payment}}
		in.Body.Amount, in.Body.Reason, in.Body.Restock = &d.amount, "chaos", restock
		out, err := payment.RefundPayment.Call(withKey(ctx, key), c.admin.client, in)
		if err != nil {
			return answered(0, err)
		}
		return answered(out.Status, nil)
	}
	b.refunds = append(b.refunds, d)
	return d
}

func pointsFor(b *bought, minor int64) int64 {
	return user.PointsFor(money.Money{Amount: minor, Currency: b.total.Currency})
}

// transfer is a deal of points for money.
func (c *customer) transfer(points int64) *deal {
	d := &deal{kind: "transfer", key: c.key(), who: c, amount: user.PointValue(points, c.currency), points: points}
	d.ask = func(ctx context.Context, key string) answer {
		in := new(payment.TransferInput)
		in.Body.Points, in.Body.Currency = points, string(c.currency)
		out, err := payment.CreateTransfer.Call(withKey(ctx, key), c.door.client, in)
		if err != nil {
			return answered(0, err)
		}
		return answered(out.Status, nil)
	}
	return d
}

// topUp is a deal of money from a card. It is no transaction across services; it only must not be lost or doubled.
func (c *customer) topUp(minor int64) *deal {
	d := &deal{kind: "top-up", key: c.key(), who: c, amount: money.Money{Amount: minor, Currency: c.currency}}
	d.ask = func(ctx context.Context, key string) answer {
		in := new(payment.TopUpInput)
		in.Currency = string(c.currency)
		in.Body.Amount = d.amount
		in.Body.Card = payment.Card{Number: "4242424242424242", ExpMonth: 12, ExpYear: 2040, CVC: "123"}
		out, err := payment.CreateTopUp.Call(withKey(ctx, key), c.door.client, in)
		if err != nil {
			return answered(0, err)
		}
		if out.Body.Status == payment.Pending { // the answer to this key stays so; what becomes of it is told elsewhere
			if out, err := payment.GetTopUp.Call(ctx, c.door.client, &contract.ByID{ID: out.Body.ID}); err == nil {
				return answer{time.Now(), map[string]verdict{payment.Succeeded: done, payment.Failed: refused}[out.Body.Status], out.Body.Status}
			}
			return answer{time.Now(), unknown, payment.Pending}
		}
		return answered(http.StatusCreated, nil)
	}
	return d
}
