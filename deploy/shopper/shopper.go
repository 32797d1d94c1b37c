// Package shopper is the people who use a running shop through its gateway, for the checks and measurements that need
// customers, and what must be true of the shop once they have gone.
package shopper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"souk/deploy/local"
	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

// patience bounds one request. The gateway gives up after 10 s.
const patience = 15 * time.Second

// Password is that of everybody who was registered here.
const Password = "correct horse battery staple"

// Person calls the shop through its gateway, with the token of whoever has signed in. It may be used concurrently, but
// not while it signs in.
type Person struct {
	Email  string
	Token  string
	Client *http.Client // takes calls by service name through the public door

	gateway *url.URL
	next    http.RoundTripper
}

// Somebody is a visitor of the shop at gateway ("http://127.0.0.1:8080") who has not signed in. It panics if that is no
// URL.
func Somebody(gateway string) *Person {
	u, err := url.Parse(gateway)
	if err != nil {
		panic(err)
	}
	p := &Person{gateway: u, next: &http.Transport{MaxIdleConnsPerHost: 8}}
	p.Client = &http.Client{Transport: p, Timeout: patience}
	return p
}

// Over has p's calls made by next from now on, and returns what turns them into calls of the public door.
func (p *Person) Over(next http.RoundTripper) http.RoundTripper {
	p.next = next
	return p
}

// RoundTrip is part of http.RoundTripper: http://order/v1/… is …/api/v1/… at the gateway.
func (p *Person) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		r.URL.Path = "/api" + r.URL.Path
	}
	r.URL.Host, r.Host = p.gateway.Host, p.gateway.Host
	if p.Token != "" {
		r.Header.Set("Authorization", "Bearer "+p.Token)
	}
	return p.next.RoundTrip(r)
}

// Customer registers a new one and signs in, with that many minor units of the currency in the wallet.
func Customer(ctx context.Context, gateway string, wallet money.Money) (*Person, error) {
	p := Somebody(gateway)
	in := new(user.RegisterInput)
	in.Body.Email, in.Body.Password, in.Body.DisplayName = "shopper-"+uuid.NewString()+"@souk.example", Password, "A Shopper"
	if _, err := user.Register.Call(ctx, p.Client, in); err != nil {
		return nil, err
	}
	if err := p.SignIn(ctx, in.Body.Email, Password); err != nil {
		return nil, err
	}
	if wallet.Amount == 0 {
		return p, nil
	}
	return p, p.TopUp(ctx, wallet)
}

// Admin is the admin of the seed.
func Admin(ctx context.Context, gateway string) (*Person, error) {
	p := Somebody(gateway)
	return p, p.SignIn(ctx, local.Admin, local.SeedPassword())
}

// SignIn makes p that person.
func (p *Person) SignIn(ctx context.Context, email, password string) error {
	in := new(user.LoginInput)
	in.Body.Email, in.Body.Password = email, password
	out, err := user.Login.Call(ctx, p.Client, in)
	if err == nil {
		p.Email, p.Token = email, out.Body.AccessToken
	}
	return err
}

// TopUp puts money from a test card into the wallet.
func (p *Person) TopUp(ctx context.Context, amount money.Money) error {
	in := new(payment.TopUpInput)
	in.Currency, in.Body.Amount = string(amount.Currency), amount
	in.Body.Card = payment.Card{Number: "4242424242424242", ExpMonth: 12, ExpYear: 2040, CVC: "123"}
	out, err := payment.CreateTopUp.Call(ctx, p.Client, in)
	if err == nil && out.Body.Status != payment.Succeeded {
		err = fmt.Errorf("the top-up is %s", out.Body.Status)
	}
	return err
}

// Browse looks at a page of the catalogue, found by words or, with none, the cheapest first.
func (p *Person) Browse(ctx context.Context, words string) ([]product.Product, error) {
	in := &product.ListInput{Q: words, MaxPrice: product.MaxAmount, Paging: contract.Paging{Size: 20}}
	if words == "" {
		in.Sort = product.SortPrice
	}
	out, err := product.ListProducts.Call(ctx, p.Client, in)
	if err != nil {
		return nil, err
	}
	return out.Body.Items, nil
}

// Buy places an order for quantity of a product and pays it. While the outcome is not known it asks again, as a client
// should; any other trouble but an earlier try that is being undone ends it at once.
func (p *Person) Buy(ctx context.Context, productID uuid.UUID, quantity int64) (*order.Order, error) {
	return p.buy(ctx, productID, quantity, busy)
}

func busy(err error) bool { return fault.HasCode(err, "busy") }

// buy is Buy for who asks again after every error that passes.
func (p *Person) buy(ctx context.Context, productID uuid.UUID, quantity int64, passes func(error) bool) (*order.Order, error) {
	in := new(order.PlaceInput)
	in.Body.Lines = []order.PlaceLine{{ProductID: productID, Quantity: quantity}}
	var placed *contract.Created[order.Order]
	err := untilKnown(ctx, passes, func(ctx context.Context) (known bool, err error) {
		placed, err = order.Place.Call(ctx, p.Client, in)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("place an order: %w", err)
	}
	var bought *order.Order
	err = untilKnown(ctx, passes, func(ctx context.Context) (known bool, err error) {
		paid, err := order.PayFor.Call(ctx, p.Client, &contract.ByID{ID: placed.Body.ID})
		if err != nil {
			return false, err
		}
		bought = &paid.Body
		return paid.Status == http.StatusOK, nil
	})
	if err != nil {
		return nil, fmt.Errorf("pay order %s: %w", placed.Body.ID, err)
	}
	return bought, nil
}

// Refund gives all that is left of a payment back, and the goods too; p must be an admin. While a
// service has not heard yet that what is paid is paid, which takes a moment under load, it is asked again: under
// another key each time, because what was refused has not happened, and a key may not be refused too often.
func (p *Person) Refund(ctx context.Context, paymentID uuid.UUID) error {
	in := &payment.RefundInput{ByID: contract.ByID{ID: paymentID}}
	in.Body.Reason, in.Body.Restock = "changed their mind", true
	deadline := time.Now().Add(patience)
	return repeat(ctx, func() (again bool, err error) {
		_, err = payment.RefundPayment.Call(ctx, p.Client, in)
		return fault.Is(err, fault.Conflict) && time.Now().Before(deadline), err
	})
}

// untilKnown repeats a request under one key while the shop says that it cannot tell, or gives an error that passes.
func untilKnown(ctx context.Context, passes func(error) bool, request func(context.Context) (known bool, err error)) error {
	ctx = contract.WithKey(ctx, uuid.NewString())
	return repeat(ctx, func() (again bool, err error) {
		known, err := request(ctx)
		if err != nil {
			return passes(err), err
		}
		return !known, nil
	})
}

// repeat makes a request, and makes it again a moment later while it says so.
func repeat(ctx context.Context, request func() (again bool, err error)) error {
	for {
		again, err := request()
		if !again {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Goods puts a new product on sale; p must be an admin.
func (p *Person) Goods(ctx context.Context, name string, price money.Money, quantity int64) (uuid.UUID, error) {
	shelf, err := p.Browse(ctx, "")
	if err != nil {
		return uuid.Nil, err
	}
	if len(shelf) == 0 {
		return uuid.Nil, fmt.Errorf("put %s on sale: the shop has no category", name)
	}
	in := new(product.CreateInput)
	in.Body.SKU = strings.ToUpper("SHOPPER-" + uuid.NewString()[:8])
	in.Body.Name, in.Body.Description, in.Body.Category, in.Body.Price = name, "Put on sale for a check", shelf[0].Category, price
	made, err := product.CreateProduct.Call(ctx, p.Client, in)
	if err != nil {
		return uuid.Nil, err
	}
	adjust := &product.AdjustInput{ID: made.Body.ID}
	adjust.Body.Delta, adjust.Body.Reason = quantity, in.Body.Description
	_, err = product.AdjustStock.Call(ctx, p.Client, adjust)
	return made.Body.ID, err
}
