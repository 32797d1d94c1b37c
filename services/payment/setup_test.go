package payment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"souk/migrations"
	payments "souk/services/payment"
	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/seal"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gorm.io/gorm"
)

// The sandbox's test cards, and one that it does not know.
const (
	good     = "4242424242424242"
	declined = "4000000000000002"
	late     = "4000000000000341"
	silent   = "4000000000000259"
	stranger = "5555555555554444"
)

var secret = []byte("a secret between the provider and us")

// shop is the payment service on a database of its own, with hand-written siblings around it.
type shop struct {
	*testkit.Service
	payment *payments.Service
	sandbox *payments.Sandbox
	db      *gorm.DB
	kek     tink.AEAD
	clock   *clock
	log     *buffer
	mesh    testkit.Hosts

	coordinator          *register
	user, order, product *sibling
	lines                []product.Line // of every order
	admin                string
}

// setup makes a shop whose top-ups go to provider, or to the sandbox where that is nil.
func setup(t *testing.T, provider payments.Provider) *shop {
	t.Helper()
	f := &shop{
		Service: testkit.NewService(t, "payment"), clock: &clock{}, log: new(buffer),
		db:   testkit.Postgres(t, migrations.Payment(), migrations.Participant(), migrations.Idempotency(), migrations.Seal()),
		user: new(sibling), order: new(sibling), product: new(sibling),
		lines: []product.Line{{ProductID: uuid.New(), Quantity: 2}},
	}
	f.mesh = testkit.Hosts{
		payment.Service: f.Handler(),
		user.Service:    f.user.handler(t, user.Service).Handler(),
		product.Service: f.product.handler(t, product.Service).Handler(),
	}
	orders := f.order.handler(t, order.Service)
	httpapi.Handle(orders.Server, order.LookupOrder, func(_ context.Context, in *contract.ByID) (*contract.Body[order.Summary], error) {
		return &contract.Body[order.Summary]{Body: order.Summary{ID: in.ID, Lines: f.lines}}, nil
	})
	f.mesh[order.Service] = orders.Handler()
	f.coordinator = newRegister(t, f.mesh)

	logger := slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.sandbox = payments.NewSandbox(payments.SandboxConfig{Secret: secret},
		payments.SandboxDeps{DB: f.db, Mesh: f.mesh.Client(), Now: f.clock.now, Log: logger})
	if provider == nil {
		provider = f.sandbox
	}
	f.kek = testkit.KEK(t)
	f.payment = payments.New(payments.Config{WebhookSecret: secret},
		payments.Deps{DB: f.db, Sealed: f.sealed(t), Mesh: f.mesh.Client(), Provider: provider, Now: f.clock.now, Log: logger, Metrics: prometheus.NewRegistry()})
	f.payment.Routes(f.Server)
	f.admin = f.Token(t, uuid.New(), identity.Admin)
	return f
}

// sealed is what another instance has sealed.
func (f *shop) sealed(t *testing.T) *payments.Sealed {
	t.Helper()
	s, err := payments.OpenSealed(t.Context(), f.db, seal.New("payment", f.db, f.kek))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *shop) customer(t *testing.T) (uuid.UUID, string) {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	return id, f.Token(t, id, identity.Customer)
}

func (f *shop) get(t *testing.T, token, path string) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "GET", Path: path, Token: token})
}

func (f *shop) post(t *testing.T, token, path string, body any) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "POST", Path: path, Token: token, Key: uuid.NewString(), Body: body})
}

func usd(amount int64) money.Money { return money.Money{Amount: amount, Currency: "USD"} }

func topUpBody(amount money.Money, card string) map[string]any {
	return map[string]any{"amount": amount, "card": map[string]any{"number": card, "exp_month": 12, "exp_year": 2090, "cvc": "987"}}
}

// fund puts amount into the wallet of the customer with token.
func (f *shop) fund(t *testing.T, token string, amount int64) {
	t.Helper()
	var made payment.TopUp
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(amount), good)).Into(t, 201, &made)
	if made.Status != payment.Succeeded {
		t.Fatalf("got %+v, want it to succeed", made)
	}
}

// wantWallet checks what is in the caller's dollar wallet.
func (f *shop) wantWallet(t *testing.T, token string, available, held int64) {
	t.Helper()
	var w payment.Wallet
	f.get(t, token, "/v1/wallets/USD").Into(t, 200, &w)
	if w.Available != usd(available) || w.Held != usd(held) {
		t.Errorf("got wallet %+v, want %d available and %d held", w, available, held)
	}
}

// wantMerchant checks what the shop has in dollars.
func (f *shop) wantMerchant(t *testing.T, available, held int64) {
	t.Helper()
	var p contract.Page[payment.Account]
	f.get(t, f.admin, "/v1/ledger/accounts?kind=merchant&currency=USD").Into(t, 200, &p)
	var got payment.Account
	if len(p.Items) > 0 {
		got = p.Items[0]
	}
	if len(p.Items) > 1 || got.Available != available || got.Held != held {
		t.Errorf("got merchant accounts %+v, want %d available and %d held", p.Items, available, held)
	}
}

// wantLedgerRight adds the ledger up.
func (f *shop) wantLedgerRight(t *testing.T) {
	t.Helper()
	var c payment.LedgerCheck
	f.get(t, f.admin, "/v1/ledger/check").Into(t, 200, &c)
	for _, sums := range c.Currencies {
		if sums != (payment.CurrencyCheck{Currency: sums.Currency}) {
			t.Errorf("the ledger is wrong: %+v", sums)
		}
	}
}

// count counts rows.
func (f *shop) count(t *testing.T, query string) int {
	t.Helper()
	var n int
	if err := f.db.Raw(query).Row().Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// prepare gives the payment service the first message of a branch.
func (f *shop) prepare(t *testing.T, gid uuid.UUID, action string, payload any) error {
	t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	state, err := f.payment.Participant.Prepare(t.Context(), twopc.Prepare{
		GID: gid, Action: action, Payload: b, Deadline: f.clock.now().Add(5 * time.Second),
	})
	if err == nil && state == twopc.Aborted {
		t.Fatalf("aborted without a reason")
	}
	return err
}

// finish tells the payment service the outcome of gid.
func (f *shop) finish(t *testing.T, gid uuid.UUID, state coordinator.State) twopc.BranchState {
	t.Helper()
	got, err := f.payment.Participant.Finish(t.Context(), twopc.Decision{GID: gid, State: state})
	if err != nil {
		t.Errorf("finish %s: %v", gid, err)
	}
	return got
}

func chargeOf(user uuid.UUID, amount int64) payment.Charge {
	return payment.Charge{PaymentID: uuid.New(), OrderID: uuid.New(), UserID: user, Amount: usd(amount)}
}

// paid is a captured payment of amount by a new customer, whose wallet is empty after it.
func (f *shop) paid(t *testing.T, amount int64) (c payment.Charge, token string) {
	t.Helper()
	id, token := f.customer(t)
	f.fund(t, token, amount)
	c = chargeOf(id, amount)
	gid := uuid.New()
	if err := f.prepare(t, gid, payment.ActionCharge, c); err != nil {
		t.Fatal(err)
	}
	f.finish(t, gid, coordinator.Committed)
	f.coordinator.decide(gid, coordinator.Committed)
	return c, token
}

func (f *shop) detail(t *testing.T, id uuid.UUID) payment.Detail {
	t.Helper()
	var d payment.Detail
	f.get(t, f.admin, "/v1/payments/"+id.String()).Into(t, 200, &d)
	return d
}

// states is the way a payment has gone.
func states(d payment.Detail) (way string) {
	for _, m := range d.History {
		way += m.From + ">" + m.To + " "
	}
	return way
}

// clock is the time of a test: the real one, and what was added to it.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead).UTC().Truncate(time.Microsecond)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// buffer is a log that is read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// sibling is another participant: it votes yes unless told to refuse, and remembers what it was asked.
type sibling struct {
	mu       sync.Mutex
	refusal  *fault.Error
	prepared []twopc.Prepare
}

func (b *sibling) handler(t *testing.T, name string) *testkit.Service {
	t.Helper()
	s := testkit.NewService(t, name)
	httpapi.Handle(s.Server, twopc.PrepareRoute(name), func(_ context.Context, in *twopc.PrepareInput) (*contract.Body[twopc.Vote], error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.refusal != nil {
			return nil, b.refusal
		}
		b.prepared = append(b.prepared, in.Body)
		return &contract.Body[twopc.Vote]{Body: twopc.Vote{State: twopc.Prepared}}, nil
	})
	httpapi.Handle(s.Server, twopc.FinishRoute(name), func(_ context.Context, in *twopc.FinishInput) (*twopc.FinishOutput, error) {
		out := new(twopc.FinishOutput)
		for _, d := range in.Body.Decisions {
			out.Body.Branches = append(out.Body.Branches, twopc.Finished{GID: d.GID, Branch: d.Branch, State: twopc.BranchState(d.State)})
		}
		return out, nil
	})
	return s
}

func (b *sibling) refuse(f *fault.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal = f
}

// asked gives the action and the payload of every yes, in order.
func asked[P any](t *testing.T, b *sibling) (actions []string, payloads []P) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.prepared {
		var p P
		if err := json.Unmarshal(m.Payload, &p); err != nil {
			t.Fatal(err)
		}
		actions, payloads = append(actions, m.Action), append(payloads, p)
	}
	return actions, payloads
}

// register is a coordinator that never dies: it asks the branches one after the other, decides, and carries out.
type register struct {
	client *http.Client
	mu     sync.Mutex
	known  map[uuid.UUID]coordinator.Outcome
	answer func(do func() *coordinator.BeginOutput) (*coordinator.BeginOutput, error) // what becomes of the answer to a begin; nil: it is given
	silent bool                                                                       // it decides, and leaves carrying it out for later
}

func newRegister(t *testing.T, mesh testkit.Hosts) *register {
	t.Helper()
	r := &register{client: mesh.Client(), known: map[uuid.UUID]coordinator.Outcome{}}
	s := testkit.NewService(t, coordinator.Service)
	httpapi.Handle(s.Server, coordinator.BeginTransaction, func(ctx context.Context, in *coordinator.BeginInput) (*coordinator.BeginOutput, error) {
		do := func() *coordinator.BeginOutput {
			return &coordinator.BeginOutput{Status: 200, Body: r.begin(ctx, in.Body)}
		}
		if r.answer != nil {
			return r.answer(do)
		}
		return do(), nil
	})
	httpapi.Handle(s.Server, coordinator.AbortTransaction, func(_ context.Context, in *contract.ByID) (*contract.Body[coordinator.Outcome], error) {
		return &contract.Body[coordinator.Outcome]{Body: r.decide(in.ID, coordinator.Aborted)}, nil
	})
	mesh[coordinator.Service] = s.Handler()
	return r
}

// decide writes an outcome unless there is one, and gives the one there is.
func (r *register) decide(gid uuid.UUID, state coordinator.State) coordinator.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.known[gid]; ok {
		o.Replayed = true
		return o
	}
	r.known[gid] = coordinator.Outcome{GID: gid, State: state}
	return r.known[gid]
}

func (r *register) begin(ctx context.Context, b coordinator.Begin) coordinator.Outcome {
	r.mu.Lock()
	o, ok := r.known[b.GID]
	r.mu.Unlock()
	if ok {
		o.Replayed = true
		return o
	}
	o = coordinator.Outcome{GID: b.GID, State: coordinator.Committed}
	for i, branch := range b.Branches {
		_, err := twopc.PrepareRoute(branch.Service).Call(ctx, r.client, &twopc.PrepareInput{Body: twopc.Prepare{
			GID: b.GID, Branch: i, Action: branch.Action, Payload: branch.Payload, Deadline: time.Now().Add(time.Hour),
		}})
		if err != nil {
			o.State, o.Reason = coordinator.Aborted, fault.Of(err).Problem()
			break
		}
	}
	r.mu.Lock()
	if first, ok := r.known[b.GID]; ok {
		o = first
		o.Replayed = true
	}
	r.known[b.GID] = o
	r.mu.Unlock()
	if !r.silent {
		r.carryOut(ctx, b, o.State)
	}
	return o
}

func (r *register) carryOut(ctx context.Context, b coordinator.Begin, state coordinator.State) {
	for i, branch := range b.Branches {
		in := new(twopc.FinishInput)
		in.Body.Decisions = []twopc.Decision{{GID: b.GID, Branch: i, State: state}}
		_, _ = twopc.FinishRoute(branch.Service).Call(ctx, r.client, in) // as in life, it may not be heard
	}
}

// parallel runs do n times at once and waits for all.
func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}
