package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/mesh"
	"souk/shared/money"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const restarts = 3

// rolling restarts every service of the shop three times while customers buy, and three nodes three times under writes that
// nobody may repeat.
func rolling(ctx context.Context, t *trial) error {
	var (
		both   errgroup.Group
		bought samples
		broken []error
	)
	both.Go(func() (err error) {
		bought, broken, err = rollShop(ctx, filepath.Join(t.dir, "shop"))
		return err
	})
	err := t.rollNodes(ctx)
	if err = errors.Join(err, both.Wait()); err != nil {
		return err
	}
	t.atMost("POSTs without a key that failed, of "+number(float64(len(t.during))), float64(len(t.during.failed())), 0, "")
	t.atMost("POSTs of customers that failed, of "+number(float64(len(bought))), float64(len(bought.failed())), 0, "")
	for result, n := range bought.failed().results() {
		t.atMost("a customer was told: "+result, float64(n), 0, "")
	}
	t.atLeast("POSTs of customers", float64(len(bought)), 200, "")
	for _, err := range broken {
		t.fail(fmt.Errorf("the shop at rest: %w", err))
	}
	t.during = append(t.during, bought...)
	return t.leaks(ctx)
}

func (t *trial) rollNodes(ctx context.Context) error {
	up, caller, err := t.cast(ctx, 3)
	if err != nil {
		return err
	}
	if err := t.warm(ctx, caller); err != nil {
		return err
	}
	end, err := caller.begin(ctx, load{Callee: t.name + "-up", PerSecond: 150, Method: http.MethodPost})
	if err != nil {
		return err
	}
	_ = rest(ctx, 2*time.Second)
	begun := time.Now()
	for range restarts {
		for _, p := range up {
			if err := p.end(ctx, syscall.SIGTERM); err != nil {
				return err
			}
			if err := p.start(); err != nil {
				return err
			}
			started := time.Now()
			if err := caller.knows(ctx, t.name+"-up", len(up)); err != nil {
				return err
			}
			t.recovery = max(t.recovery, time.Since(started))
		}
	}
	calls, err := end()
	if err != nil {
		return err
	}
	t.healthy, t.during = calls.between(time.Time{}, begun), calls.between(begun, time.Now())
	_, twice, err := t.made(up)
	if err != nil {
		return err
	}
	t.atMost("things made twice", float64(twice), 0, "")
	return nil
}

// rollShop restarts one of two instances of every service at a time, those of all services together.
func rollShop(ctx context.Context, dir string) (bought samples, broken []error, err error) {
	two := map[string]int{}
	for _, service := range []string{"gateway", "order", "user", "product", "payment", "coordinator"} {
		two[service] = 2
	}
	shop, err := local.Up(ctx, local.Config{RunDir: dir, Instances: two, Env: func(string) []string {
		return []string{"RATE_CLIENT=0", "RATE_USER=0", "LOG_LEVEL=WARN"} // customers in a hurry
	}})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, shop.Down(context.WithoutCancel(ctx))) }()
	reg, err := shop.Registry("management")
	if err != nil {
		return nil, nil, err
	}
	defer reg.Close()
	m := mesh.New(mesh.Config{Caller: "customer"}, mesh.Deps{Resolver: reg, Log: slog.New(slog.DiscardHandler)})
	defer m.Close()
	customers, goods, err := people(ctx, shop.Gateway, m)
	if err != nil {
		return nil, nil, err
	}

	buying, stop := context.WithCancel(ctx)
	defer stop()
	var (
		mu  sync.Mutex
		all sync.WaitGroup
	)
	for _, c := range customers {
		all.Go(func() {
			for buying.Err() == nil {
				calls := c.buy(ctx, goods)
				mu.Lock()
				bought = append(bought, calls...)
				mu.Unlock()
				_ = rest(ctx, 50*time.Millisecond)
			}
		})
	}
	err = restartAll(ctx, shop)
	stop()
	all.Wait()
	if err != nil {
		return nil, nil, err
	}
	broken, err = shopper.AtRest(ctx, shop, 15*time.Second)
	return bought, broken, err
}

func restartAll(ctx context.Context, shop *local.Shop) error {
	for range restarts {
		for _, number := range []string{"-1", "-2"} {
			var all errgroup.Group
			for _, in := range shop.Instances("") {
				if !strings.HasSuffix(in.Name, number) {
					continue
				}
				all.Go(func() error {
					if err := shop.Stop(ctx, in.Name); err != nil {
						return err
					}
					if err := shop.Start(ctx, in.Name); err != nil {
						return err
					}
					return shop.WaitReady(ctx, in.Name)
				})
			}
			if err := all.Wait(); err != nil {
				return err
			}
			// Somebody who rolls through a shop looks whether it serves before going on: callers hear of the new ones meanwhile.
			if err := rest(ctx, time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// customer buys through whichever gateway there is. Nothing is repeated on the way to it: that the gateways come and go must
// not need it.
type customer struct {
	token  string
	mesh   http.RoundTripper
	client *http.Client
}

// people are some customers, and what they can buy.
func people(ctx context.Context, gateway string, m *mesh.Mesh) (list []*customer, goods uuid.UUID, err error) {
	admin, err := shopper.Admin(ctx, gateway)
	if err != nil {
		return nil, goods, err
	}
	usd := func(amount int64) money.Money { return money.Money{Amount: amount, Currency: "USD"} }
	if goods, err = admin.Goods(ctx, "Something to buy in a storm", usd(100), 1_000_000); err != nil {
		return nil, goods, err
	}
	for range 4 {
		p, err := shopper.Customer(ctx, gateway, usd(500_000))
		if err != nil {
			return nil, goods, err
		}
		c := &customer{token: p.Token, mesh: m}
		c.client = &http.Client{Transport: c, Timeout: 15 * time.Second}
		list = append(list, c)
	}
	return list, goods, nil
}

// RoundTrip is part of http.RoundTripper: http://order/v1/… is …/api/v1/… at a gateway.
func (c *customer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(mesh.WithoutRetry(mesh.WithTryTimeout(r.Context(), 10*time.Second)))
	r.URL.Host, r.Host, r.URL.Path = "gateway", "gateway", "/api"+r.URL.Path
	r.Header.Set("Authorization", "Bearer "+c.token)
	return c.mesh.RoundTrip(r)
}

// buy places an order and pays it, and gives the two POSTs. An outcome that is not known yet is asked for again, as a client
// should.
func (c *customer) buy(ctx context.Context, goods uuid.UUID) (calls samples) {
	timed := func(do func() error) error {
		s := sample{ID: uuid.NewString(), Began: time.Now().UnixMicro(), Result: ok, Instance: "shop"}
		begin := time.Now()
		err := do()
		if s.Took = time.Since(begin); err != nil {
			s.Result = err.Error()
		}
		calls = append(calls, s)
		return err
	}
	in := new(order.PlaceInput)
	in.Body.Lines = []order.PlaceLine{{ProductID: goods, Quantity: 1}}
	var placed uuid.UUID
	if timed(func() error {
		out, err := order.Place.Call(ctx, c.client, in)
		if err == nil {
			placed = out.Body.ID
		}
		return err
	}) != nil {
		return calls
	}
	ctx = contract.WithKey(ctx, uuid.NewString())
	for known := false; !known; {
		if timed(func() error {
			out, err := order.PayFor.Call(ctx, c.client, &contract.ByID{ID: placed})
			known = err != nil || out.Status == http.StatusOK
			return err
		}) != nil {
			break
		}
		if !known && rest(ctx, 200*time.Millisecond) != nil {
			break
		}
	}
	return calls
}
