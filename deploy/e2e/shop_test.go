package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// shop is the one that all tests of this package share, and gateway its public address.
var (
	shop    *local.Shop
	gateway *url.URL
)

// restTime is what the shop has to come to rest in after a fault.
const restTime = 10 * time.Second

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "souk-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left lies in the folder for temporary files
	shop, err = local.Up(ctx, local.Config{
		RunDir: dir, BuildTags: []string{"crashpoints"}, TestID: true, Log: os.Stderr,
		Env: func(string) []string {
			return []string{"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0"} // all the customers here have one address
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if gateway, err = url.Parse(shop.Gateway); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		showLogs(dir)
	}
	if err := shop.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// showLogs prints what the services complained of: the shop is gone when somebody reads of the failure.
func showLogs(dir string) {
	logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"level":"ERROR"`) || !strings.HasPrefix(line, "{") {
				fmt.Fprint(os.Stderr, filepath.Base(path), ": ", line)
			}
		}
	}
}

// person calls the shop through the gateway. The zero token is nobody's.
type person struct {
	client  *http.Client
	token   string
	refresh string
	id      uuid.UUID
	email   string
}

// RoundTrip takes a call by service name through the public door: http://order/v1/… is …/api/v1/… at the gateway.
func (p *person) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		r.URL.Path = "/api" + r.URL.Path
	}
	r.URL.Host, r.Host = gateway.Host, gateway.Host
	if p.token != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func nobody() *person {
	p := new(person)
	p.client = &http.Client{Transport: p, Timeout: 30 * time.Second}
	return p
}

// password is everybody's here.
const password = "correct horse battery staple"

// register opens an account and signs in.
func register(t *testing.T) *person {
	t.Helper()
	p := nobody()
	p.email = "e2e-" + uuid.NewString() + "@souk.example"
	in := new(user.RegisterInput)
	in.Body.Email, in.Body.Password, in.Body.DisplayName = p.email, password, "Somebody"
	made, err := user.Register.Call(t.Context(), p.client, in)
	if err != nil {
		t.Fatal(err)
	}
	p.id = made.Body.ID
	p.signIn(t, p.email, password)
	return p
}

func (p *person) signIn(t *testing.T, email, password string) {
	t.Helper()
	in := new(user.LoginInput)
	in.Body.Email, in.Body.Password = email, password
	out, err := user.Login.Call(t.Context(), p.client, in)
	if err != nil {
		t.Fatal(err)
	}
	p.token, p.refresh, p.id = out.Body.AccessToken, out.Body.RefreshToken, out.Body.User.ID
}

func admin(t *testing.T) *person {
	t.Helper()
	p := nobody()
	p.signIn(t, "admin@souk.example", "open-sesame-1001")
	return p
}

func usd(amount int64) money.Money { return money.Money{Amount: amount, Currency: "USD"} }

// customer is a new one with that much money.
func customer(t *testing.T, cents int64) *person {
	t.Helper()
	p := register(t)
	if cents > 0 {
		p.topUp(t, cents)
	}
	return p
}

func (p *person) topUp(t *testing.T, cents int64) {
	t.Helper()
	in := new(payment.TopUpInput)
	in.Currency = "USD"
	in.Body.Amount = usd(cents)
	in.Body.Card = payment.Card{Number: "4242424242424242", ExpMonth: 12, ExpYear: 2040, CVC: "123"}
	out, err := payment.CreateTopUp.Call(t.Context(), p.client, in)
	if err != nil || out.Body.Status != payment.Succeeded {
		t.Fatalf("top up: %+v, %v", out, err)
	}
}

func (p *person) wallet(t *testing.T) payment.Wallet {
	t.Helper()
	out, err := payment.GetWallet.Call(t.Context(), p.client, &payment.ByCurrency{Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	return out.Body
}

func (p *person) points(t *testing.T) int64 {
	t.Helper()
	out, err := user.GetPoints.Call(t.Context(), p.client, &contract.None{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Body.Available
}

// place orders quantity of a product.
func (p *person) place(t *testing.T, productID uuid.UUID, quantity int64) order.Order {
	t.Helper()
	in := new(order.PlaceInput)
	in.Body.Lines = []order.PlaceLine{{ProductID: productID, Quantity: quantity}}
	out, err := order.Place.Call(t.Context(), p.client, in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Body
}

// pay pays an order under a key; a repetition of the key is a repetition of the request.
func (p *person) pay(ctx context.Context, orderID uuid.UUID, key string) (*order.PayOutput, error) {
	return order.PayFor.Call(contract.WithKey(ctx, key), p.client, &contract.ByID{ID: orderID})
}

// payUntilKnown repeats the request, as a client does that was told the outcome is not known.
func (p *person) payUntilKnown(t *testing.T, orderID uuid.UUID, key string) (paid *order.PayOutput, err error) {
	t.Helper()
	testkit.Eventually(t, 2*restTime, func() bool {
		paid, err = p.pay(t.Context(), orderID, key)
		if err != nil {
			f := fault.Of(err)
			return f.Kind != fault.Unavailable && f.Kind != fault.Deadline
		}
		return paid.Status == http.StatusOK
	})
	return paid, err
}

func (p *person) order(t *testing.T, id uuid.UUID) order.Detail {
	t.Helper()
	out, err := order.Get.Call(t.Context(), p.client, &contract.ByID{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return out.Body
}

// goods puts a new product on sale.
func (p *person) goods(t *testing.T, price, quantity int64) uuid.UUID {
	t.Helper()
	in := new(product.CreateInput)
	in.Body.SKU = "E2E-" + strings.ToUpper(uuid.NewString()[:8])
	in.Body.Name, in.Body.Description, in.Body.Category, in.Body.Price = "Test goods", "For a test", p.category(t), usd(price)
	made, err := product.CreateProduct.Call(t.Context(), p.client, in)
	if err != nil {
		t.Fatal(err)
	}
	adjust := &product.AdjustInput{ID: made.Body.ID}
	adjust.Body.Delta, adjust.Body.Reason = quantity, "test goods"
	if _, err := product.AdjustStock.Call(t.Context(), p.client, adjust); err != nil {
		t.Fatal(err)
	}
	return made.Body.ID
}

func (p *person) category(t *testing.T) string {
	t.Helper()
	out, err := product.ListProducts.Call(t.Context(), p.client, &product.ListInput{Paging: contract.Paging{Size: 1}, MaxPrice: product.MaxAmount})
	if err != nil || len(out.Body.Items) == 0 {
		t.Fatalf("the shop is empty: %v", err)
	}
	return out.Body.Items[0].Category
}

func (p *person) stock(t *testing.T, productID uuid.UUID) product.Counts {
	t.Helper()
	out, err := product.GetStock.Call(t.Context(), p.client, &contract.ByID{ID: productID})
	if err != nil {
		t.Fatal(err)
	}
	return out.Body.Counts
}

// merchant is what the shop has earned in dollars.
func (p *person) merchant(t *testing.T) int64 {
	t.Helper()
	out, err := payment.ListAccounts.Call(t.Context(), p.client, &payment.ListAccountsInput{Kind: payment.KindMerchant, Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Body.Items) == 0 {
		return 0
	}
	return out.Body.Items[0].Available
}

// databases by the service that owns them.
func databases(t *testing.T) map[string]*pgxpool.Pool {
	t.Helper()
	pools := map[string]*pgxpool.Pool{}
	for _, service := range []string{"user", "product", "order", "payment", "coordinator"} {
		pool, err := pgxpool.New(t.Context(), shop.Postgres.URL(service))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		pools[service] = pool
	}
	return pools
}

// atRest waits until nothing is in doubt and nothing held, and then checks what must be true of the whole shop: the
// ledger sums to zero, and says so to an admin, too, the stock is all there, and every transaction ended the same everywhere.
func atRest(t *testing.T) {
	t.Helper()
	violations, err := shopper.AtRest(t.Context(), shop, restTime)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
	check, err := payment.CheckLedger.Call(t.Context(), admin(t).client, &contract.None{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range check.Body.Currencies {
		if c.EntriesSum != 0 || c.AccountsSum != 0 || c.MismatchedAccounts != 0 {
			t.Errorf("the ledger is wrong: %+v", c)
		}
	}
}
