package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ErrTold is returned by what closes with a line of its own: why it failed is in the log, above that line.
var ErrTold = errors.New("it failed; see above")

// idleAfter is how long after its last request a service is called idle: hashing a password takes 19 MiB for a moment,
// and the user service gives them back two seconds later.
const idleAfter = 5 * time.Second

// settlePatience bounds the wait for a payment whose outcome was not known at once: recovery takes a few seconds.
const settlePatience = 15 * time.Second

// Demo starts the shop, unless it is up already, and buys something in it as a new customer would: through the gateway,
// with nothing but HTTP. It closes with "demo: paid=… seconds=… rss_mib_max=… services=… gateway=…" and leaves the shop
// running. Returns ErrTold unless the order was paid.
func Demo(ctx context.Context, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	shop, err := upOrOpen(ctx, cfg)
	if err != nil {
		fmt.Fprintln(cfg.Log, err)
		fmt.Fprintln(cfg.Log, "demo: paid=0 seconds=0 rss_mib_max=0 services=0 gateway=")
		return ErrTold
	}
	fresh, err := shop.Memory()
	if err != nil {
		shop.say("%v", err)
	}
	w := walk{shop: shop}
	walkErr := w.buy(ctx)
	paid, seconds := 1, time.Since(shop.begin).Seconds()
	if walkErr != nil {
		paid = 0
		shop.say("%v", walkErr)
		shop.say("the shop is left running; its logs are in %s", shop.LogPath("*"))
	} else {
		shop.credentials(&w)
	}
	largest := shop.reportMemory(ctx, fresh)
	fmt.Fprintf(cfg.Log, "demo: paid=%d seconds=%.1f rss_mib_max=%.1f services=%d gateway=%s\n",
		paid, seconds, largest, len(shop.Instances("")), shop.Gateway)
	if walkErr != nil {
		return ErrTold
	}
	return nil
}

func upOrOpen(ctx context.Context, cfg Config) (*Shop, error) {
	shop, err := Up(ctx, cfg)
	var running *RunningError
	if !errors.As(err, &running) || running.Running < running.All {
		return shop, err
	}
	if shop, err = Open(cfg); err == nil {
		shop.say("%s (so the seconds below are of the purchase alone)", running)
	}
	return shop, err
}

// credentials prints who can sign in.
func (s *Shop) credentials(w *walk) {
	s.say("this customer  %s  password %s", w.email, w.password)
	if !s.cfg.NoSeed {
		s.say("customers      alice@souk.example, bob@souk.example  password %s", SeedPassword())
		s.say("admin          %s  password %s", Admin, SeedPassword())
	}
	if issuer := s.TestID(); issuer != "" {
		s.say("Souk Test ID   %s/sign-in with dora@id.example or alice@souk.example  password open-sesame-1001", s.Gateway)
	}
	s.say("address        %s, documentation at %s/docs", s.Gateway, s.Gateway)
}

// reportMemory prints what each service takes once it is idle again, beside what it took before the purchase, and gives
// the largest.
func (s *Shop) reportMemory(ctx context.Context, fresh map[string]float64) float64 {
	select {
	case <-ctx.Done():
	case <-time.After(idleAfter):
	}
	after, err := s.Memory()
	if err != nil {
		s.say("%v", err)
	}
	largest := 0.0
	for _, name := range slices.Sorted(maps.Keys(after)) {
		s.say("%-14s %.1f MiB in RAM (%.1f before the purchase)", name, after[name], fresh[name])
		largest = max(largest, after[name])
	}
	return largest
}

// walk is a customer on the way through the shop.
type walk struct {
	shop            *Shop
	email, password string
	token           string
}

// The parts of the shop's answers that a customer looks at.
type (
	price struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	}
	offer struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		Price     price  `json:"price"`
		Available int64  `json:"available"`
	}
	page struct {
		Items []offer `json:"items"`
	}
	topUp struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Amount price  `json:"amount"`
	}
	order struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Total  price  `json:"total"`
		Lines  []struct {
			Name     string `json:"name"`
			Quantity int64  `json:"quantity"`
		} `json:"lines"`
	}
	tokens struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
)

func (p price) String() string {
	return fmt.Sprintf("%d.%02d %s", p.Amount/100, p.Amount%100, p.Currency)
}

// buy walks from the door to a paid order.
func (w *walk) buy(ctx context.Context) error {
	w.email = "demo-" + strings.ToLower(rand.Text()[:8]) + "@souk.example"
	w.password = strings.ToLower(rand.Text()[:16])

	var account struct {
		ID string `json:"id"`
	}
	err := w.step(ctx, "register", http.MethodPost, "/auth/register", map[string]any{
		"email": w.email, "password": w.password, "display_name": "Demo Customer",
	}, &account, func() string { return w.email })
	if err != nil {
		return err
	}
	var session tokens
	err = w.step(ctx, "sign in", http.MethodPost, "/auth/login", map[string]any{
		"email": w.email, "password": w.password,
	}, &session, func() string { return fmt.Sprintf("a token for %d s", session.ExpiresIn) })
	if err != nil {
		return err
	}
	w.token = session.AccessToken

	goods, err := w.browse(ctx)
	if err != nil {
		return err
	}
	return w.checkout(ctx, goods)
}

// browse looks at the cheapest goods, searches for one by a word of its name, and picks two.
func (w *walk) browse(ctx context.Context) ([]offer, error) {
	var shelf page
	err := w.step(ctx, "browse", http.MethodGet, "/products?sort=price&currency=USD&page_size=20", nil, &shelf,
		func() string { return fmt.Sprintf("%d products", len(shelf.Items)) })
	if err != nil {
		return nil, err
	}
	var goods []offer
	for _, o := range shelf.Items {
		if o.Available >= 2 && o.Price.Currency == "USD" && len(goods) < 2 {
			goods = append(goods, o)
		}
	}
	if len(goods) < 2 {
		return nil, errors.New("browse: the shop has fewer than two products to sell")
	}
	word, _, _ := strings.Cut(goods[0].Name, " ")
	var found page
	err = w.step(ctx, "search", http.MethodGet, "/products?q="+url.QueryEscape(word), nil, &found,
		func() string { return fmt.Sprintf("%d products for %q", len(found.Items), word) })
	if err != nil {
		return nil, err
	}
	if len(found.Items) == 0 {
		return nil, fmt.Errorf("search: nothing is found for %q, a word of %q", word, goods[0].Name)
	}
	return goods, nil
}

// checkout tops the wallet up, orders two of the first and one of the second, and pays.
func (w *walk) checkout(ctx context.Context, goods []offer) error {
	sum := price{Amount: 2*goods[0].Price.Amount + goods[1].Price.Amount, Currency: "USD"}
	charge := price{Amount: sum.Amount + 5_00, Currency: "USD"}
	var top topUp
	err := w.step(ctx, "top up", http.MethodPost, "/wallets/USD/top-ups", map[string]any{
		"amount": charge,
		"card":   map[string]any{"number": "4242424242424242", "exp_month": 12, "exp_year": time.Now().Year() + 2, "cvc": "123"},
	}, &top, func() string { return fmt.Sprintf("%s, %s", top.Amount, top.Status) })
	if err != nil {
		return err
	}
	var placed order
	err = w.step(ctx, "order", http.MethodPost, "/orders", map[string]any{"lines": []map[string]any{
		{"product_id": goods[0].ID, "quantity": 2},
		{"product_id": goods[1].ID, "quantity": 1},
	}}, &placed, func() string { return fmt.Sprintf("%s, %s, %s", placed.ID, placed.Total, placed.Status) })
	if err != nil {
		return err
	}
	if placed.Total != sum {
		return fmt.Errorf("order: the total is %s, but the goods cost %s", placed.Total, sum)
	}
	if err := w.pay(ctx, placed.ID); err != nil {
		return err
	}
	var final order
	err = w.step(ctx, "look", http.MethodGet, "/orders/"+placed.ID, nil, &final, func() string {
		var goods []string
		for _, line := range final.Lines {
			goods = append(goods, fmt.Sprintf("%d × %s", line.Quantity, line.Name))
		}
		return final.Status + ": " + strings.Join(goods, ", ")
	})
	if err == nil && final.Status != "paid" {
		err = fmt.Errorf("look: the order is %s, not paid", final.Status)
	}
	return err
}

// pay repeats the request, with its one key, while the outcome is not known yet.
func (w *walk) pay(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	key, begin := newKey(), time.Now()
	var paid order
	var status int
	var err error
	poll(ctx, 200*time.Millisecond, func() bool {
		status, err = w.ask(ctx, http.MethodPost, "/orders/"+id+"/pay", key, struct{}{}, &paid)
		return err != nil || status != http.StatusAccepted
	})
	if err != nil {
		return fmt.Errorf("pay: %w", err)
	}
	if paid.Status != "paid" {
		return fmt.Errorf("pay: status %d, and the order is %s", status, paid.Status)
	}
	w.shop.say("%-14s %d in %-6s %s, %s", "pay", status, shortly(begin), paid.Total, paid.Status)
	return nil
}

// step does one request and prints how long it took and the essence of the answer.
func (w *walk) step(ctx context.Context, name, method, path string, body, answer any, essence func() string) error {
	begin := time.Now()
	status, err := w.ask(ctx, method, path, newKey(), body, answer)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.shop.say("%-14s %d in %-6s %s", name, status, shortly(begin), essence())
	return nil
}

// ask sends a request to the gateway and decodes the answer. An answer of 400 and above is an error.
func (w *walk) ask(ctx context.Context, method, path, key string, body, answer any) (status int, err error) {
	var content io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, w.shop.Gateway+"/api/v1"+path, content)
	if err != nil {
		return 0, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return resp.StatusCode, fmt.Errorf("%s %s answers %d: %s", method, path, resp.StatusCode, bytes.TrimSpace(b))
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return resp.StatusCode, fmt.Errorf("%s %s answers %d with what is not JSON: %w", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, nil
}

// newKey makes an Idempotency-Key: a random UUID (RFC 9562, version 4).
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func shortly(begin time.Time) time.Duration { return time.Since(begin).Round(time.Millisecond) }
