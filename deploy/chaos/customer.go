package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/money"

	"github.com/google/uuid"
)

// customer is one client, who does one thing after the other, with dice of their own.
type customer struct {
	id       uuid.UUID
	name     string // the same for the same seed, unlike the id
	door     *door
	admin    *door // who gives money back
	currency money.Currency
	goods    []goods // that they can buy
	rand     *rand.Rand
	asked    int // things, to give each its key

	deals  []*deal
	orders []*bought
}

// goods is a product on sale.
type goods struct {
	id    uuid.UUID
	price money.Money
	stock int64 // at the beginning
}

// key names the next deal.
func (c *customer) key() string {
	c.asked++
	return fmt.Sprintf("%s-%d-%s", c.name, c.asked, c.id)
}

// live does one thing after the other until ctx ends.
func (c *customer) live(ctx context.Context) {
	for ctx.Err() == nil {
		switch n := c.rand.IntN(100); {
		case n < 62:
			c.buy(ctx)
		case n < 80:
			c.redeem(ctx)
		case n < 94:
			c.giveBack(ctx)
		default:
			c.insist(ctx, c.begin(c.topUp(1+c.rand.Int64N(500_00))))
		}
	}
}

func (c *customer) begin(d *deal) *deal {
	c.deals = append(c.deals, d)
	return d
}

// insist asks until the outcome is known, or the customer has had enough, or ctx ends.
func (c *customer) insist(ctx context.Context, d *deal) {
	const patience = 15 * time.Second
	hurried, hasty := c.rand.IntN(10) == 0, c.rand.IntN(20) == 0
	for end := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(end); {
		limit := clientTime
		if hasty { // who hangs up does not stop what has begun
			limit = time.Duration(c.rand.Int64N(int64(200 * time.Millisecond)))
		}
		try, cancel := context.WithTimeout(ctx, limit)
		a := d.asked(try)
		cancel()
		if a.verdict != unknown || hurried {
			return
		}
		hasty = false
		pause(ctx, 50*time.Millisecond+time.Duration(c.rand.Int64N(int64(800*time.Millisecond))))
	}
}

// buy places an order and pays it, now and then in a way that asks for trouble.
func (c *customer) buy(ctx context.Context) {
	b := c.place(ctx)
	if b == nil {
		return
	}
	first := c.begin(c.checkout(b))
	switch n := c.rand.IntN(100); {
	case n < 5: // twice at once under the same key
		both(func() { c.insist(ctx, first) }, func() { first.asked(ctx) })
	case n < 10: // and under another
		second := c.begin(c.checkout(b))
		both(func() { c.insist(ctx, first) }, func() { second.asked(ctx) })
	case n < 16: // while the shop calls the payment off
		both(func() { c.insist(ctx, first) }, func() { c.callOff(ctx, b) })
	default:
		c.insist(ctx, first)
	}
	if first.verdict() == refused && !b.paid() && c.rand.IntN(4) == 0 { // once more, under a new key
		c.insist(ctx, c.begin(c.checkout(b)))
	}
}

func both(first, second func()) {
	var other sync.WaitGroup
	other.Go(second)
	first()
	other.Wait()
}

// place places an order; nil when it is not known to be placed, which moves nothing.
func (c *customer) place(ctx context.Context) *bought {
	in := new(order.PlaceInput)
	b := &bought{lines: map[uuid.UUID]int64{}}
	for range 1 + c.rand.IntN(3) {
		g := pick(c.rand, c.goods)
		n := 1 + c.rand.Int64N(3)
		b.lines[g.id] += n
		b.total = money.Money{Amount: b.total.Amount + n*g.price.Amount, Currency: c.currency}
		in.Body.Lines = append(in.Body.Lines, order.PlaceLine{ProductID: g.id, Quantity: n})
	}
	key := c.key()
	for range 5 {
		out, err := order.Place.Call(withKey(ctx, key), c.door.client, in)
		if err == nil {
			b.id = out.Body.ID
			c.orders = append(c.orders, b)
			return b
		}
		if ctx.Err() != nil || answered(0, err).verdict == refused {
			return nil
		}
		pause(ctx, time.Duration(c.rand.Int64N(int64(300*time.Millisecond))))
	}
	return nil
}

// callOff has the admin void the payment of b, if it is seen while it is held.
func (c *customer) callOff(ctx context.Context, b *bought) {
	for range 5 {
		list, err := payment.ListPayments.Call(ctx, c.admin.client, &payment.ListPaymentsInput{OrderID: b.id})
		if err == nil {
			for _, p := range list.Body.Items {
				if p.Status == payment.Authorized {
					_, _ = payment.VoidPayment.Call(ctx, c.admin.client, &contract.ByID{ID: p.ID}) // the checkout's own answer tells what came of it
					return
				}
			}
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// redeem turns points into money: some of what they know to have, or, as often as not, more.
func (c *customer) redeem(ctx context.Context) {
	have := max(c.points(), 1)
	c.insist(ctx, c.begin(c.transfer(1+c.rand.Int64N(2*have))))
}

// points is what the customer believes to have.
func (c *customer) points() (n int64) {
	for _, d := range c.deals {
		switch {
		case d.verdict() != done:
		case d.kind == "checkout":
			n += user.PointsFor(d.amount)
		default:
			n -= d.points
		}
	}
	return n
}

// giveBack gives back some or all of an order that was paid.
func (c *customer) giveBack(ctx context.Context) {
	if len(c.orders) == 0 {
		return
	}
	b := pick(c.rand, c.orders)
	before, sure := b.refunded()
	left := b.total.Amount - before
	if !b.paid() || !sure || left == 0 {
		return
	}
	if b.payment == uuid.Nil {
		out, err := order.Get.Call(ctx, c.door.client, &contract.ByID{ID: b.id})
		if err != nil || out.Body.PaymentID == nil {
			return
		}
		b.payment = *out.Body.PaymentID
	}
	amount, whole := left, c.rand.IntN(2) == 0
	if !whole {
		amount = 1 + c.rand.Int64N(left)
	}
	c.insist(ctx, c.begin(c.refund(b, amount, amount == left && c.rand.IntN(2) == 0)))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// market opens the shop for a campaign: goods and customers. Nothing is broken yet.
func (c *campaign) market(ctx context.Context) error {
	var err error
	if c.admin, err = admin(ctx, c.gateway); err != nil {
		return err
	}
	r := c.schedule.rand("market")
	currencies := []money.Currency{"USD", "EUR"}
	all, err := product.ListProducts.Call(ctx, c.admin.client, &product.ListInput{Paging: contract.Paging{Size: 1}, MaxPrice: product.MaxAmount})
	if err != nil {
		return err
	}
	for i := range 2 * products {
		in := new(product.CreateInput)
		in.Body.SKU, in.Body.Name, in.Body.Description = fmt.Sprintf("CHAOS-%02d", i), "Test goods", "For the fault campaign"
		in.Body.Category = all.Body.Items[0].Category
		in.Body.Price = money.Money{Amount: 1 + r.Int64N(40_00), Currency: currencies[i%2]}
		made, err := product.CreateProduct.Call(ctx, c.admin.client, in)
		if err != nil {
			return fmt.Errorf("put goods on sale: %w", err)
		}
		g := goods{id: made.Body.ID, price: in.Body.Price, stock: plenty}
		if i < 4 { // these sell out
			g.stock = scarce
		}
		adjust := &product.AdjustInput{ID: g.id}
		adjust.Body.Delta, adjust.Body.Reason = g.stock, "for the campaign"
		if _, err := product.AdjustStock.Call(ctx, c.admin.client, adjust); err != nil {
			return fmt.Errorf("put goods in stock: %w", err)
		}
		c.goods = append(c.goods, g)
	}
	for i := range c.cfg.Clients {
		door, id, err := register(ctx, c.gateway)
		if err != nil {
			return fmt.Errorf("open an account: %w", err)
		}
		name := fmt.Sprintf("customer-%d", i)
		who := &customer{id: id, name: name, door: door, admin: c.admin, currency: currencies[i%2], rand: c.schedule.rand(name)}
		for _, g := range c.goods {
			if g.price.Currency == who.currency {
				who.goods = append(who.goods, g)
			}
		}
		c.customers = append(c.customers, who)
		if first := who.begin(who.topUp(500_00)); first.asked(ctx).verdict != done {
			return fmt.Errorf("the first top-up failed: %s", first)
		}
	}
	return nil
}

// The market: few products, so that customers meet, some of which sell out.
const (
	products = 8 // in each currency
	plenty   = 1_000_000
	scarce   = 150
)
