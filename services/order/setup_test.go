package order_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"souk/migrations"
	service "souk/services/order"
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

// shop is the order service under test, and the shop around it.
type shop struct {
	*testkit.Service
	order       *service.Service
	db          *gorm.DB
	kek         tink.AEAD
	hosts       testkit.Hosts
	catalogue   *catalogue
	coordinator *settler
	siblings    map[string]*sibling // product, payment and user, as participants

	buyer, admin uuid.UUID
}

func setup(t *testing.T) *shop {
	t.Helper()
	s := &shop{
		Service:   testkit.NewService(t, order.Service),
		db:        testkit.Postgres(t, migrations.Order(), migrations.Participant(), migrations.Idempotency(), migrations.Seal()),
		hosts:     testkit.Hosts{},
		catalogue: &catalogue{offers: map[uuid.UUID]product.Offer{}},
		siblings:  map[string]*sibling{},
		kek:       testkit.KEK(t),
		buyer:     uuid.New(), admin: uuid.New(),
	}
	var err error
	s.order, err = service.New(t.Context(), service.Deps{
		DB: s.db, Keys: seal.New(order.Service, s.db, s.kek), Mesh: s.hosts.Client(), Log: s.Log, Metrics: prometheus.NewRegistry(),
		Now: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.order.Routes(s.Server)
	s.hosts[order.Service] = s.Handler()

	for _, name := range []string{product.Service, payment.Service, user.Service} {
		h := testkit.NewService(t, name)
		p := &sibling{server: h.Server}
		httpapi.Handle(h.Server, twopc.PrepareRoute(name), p.prepare)
		httpapi.Handle(h.Server, twopc.FinishRoute(name), p.finish)
		if name == product.Service {
			httpapi.Handle(h.Server, product.LookupProducts, s.catalogue.lookup)
		}
		s.hosts[name], s.siblings[name] = h.Handler(), p
	}

	h := testkit.NewService(t, coordinator.Service)
	s.coordinator = &settler{mesh: s.hosts.Client(), flights: map[uuid.UUID]*flight{}}
	httpapi.Handle(h.Server, coordinator.BeginTransaction, s.coordinator.begin)
	httpapi.Handle(h.Server, coordinator.ResolveTransactions, s.coordinator.resolve)
	s.hosts[coordinator.Service] = h.Handler()
	return s
}

// catalogue is the product service as far as it answers for prices.
type catalogue struct {
	mu     sync.Mutex
	offers map[uuid.UUID]product.Offer
	asked  int
	away   bool
}

// sells puts a product into the catalogue.
func (s *shop) sells(name string, price int64, c money.Currency) product.Offer {
	o := product.Offer{ID: uuid.New(), SKU: "SKU-" + name, Name: name, Price: money.Money{Amount: price, Currency: c}}
	s.catalogue.set(o)
	return o
}

func (c *catalogue) set(o product.Offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offers[o.ID] = o
}

func (c *catalogue) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = true
}

func (c *catalogue) lookup(_ context.Context, in *product.LookupInput) (*contract.Body[[]product.Offer], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.away {
		panic(http.ErrAbortHandler)
	}
	out := &contract.Body[[]product.Offer]{Body: []product.Offer{}}
	for _, id := range in.IDs {
		if o, ok := c.offers[id]; ok {
			out.Body = append(out.Body, o)
		}
	}
	return out, nil
}

// sibling is another participant: it says yes unless it was told otherwise, and remembers what it heard.
type sibling struct {
	server   *httpapi.Server
	mu       sync.Mutex
	no       *fault.Error // the vote, if it is not yes; a kind other than Conflict is no vote
	prepared []twopc.Prepare
	finished []twopc.Decision
}

func (p *sibling) says(no *fault.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.no = no
}

func (p *sibling) prepare(_ context.Context, in *twopc.PrepareInput) (*contract.Body[twopc.Vote], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prepared = append(p.prepared, in.Body)
	if p.no != nil {
		return nil, p.no
	}
	return &contract.Body[twopc.Vote]{Body: twopc.Vote{State: twopc.Prepared}}, nil
}

func (p *sibling) finish(_ context.Context, in *twopc.FinishInput) (*twopc.FinishOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := new(twopc.FinishOutput)
	for _, d := range in.Body.Decisions {
		p.finished = append(p.finished, d)
		out.Body.Branches = append(out.Body.Branches, twopc.Finished{GID: d.GID, Branch: d.Branch, State: twopc.BranchState(d.State)})
	}
	return out, nil
}

// settler is the coordinator in small: it asks every branch for its vote and decides, once per transaction. It has no
// disk, deadlines or recovery.
type settler struct {
	mesh *http.Client

	mu      sync.Mutex
	flights map[uuid.UUID]*flight
	begun   []coordinator.Begin // each transaction once, in the order they came
	away    bool                // answers nothing at all
	mute    bool                // settles, but its answer is lost
	undone  bool                // nobody is told what was decided
	between func()              // called after the votes, before the decision
}

type flight struct {
	once     sync.Once
	outcome  coordinator.Outcome
	finished bool
}

// is changes how the coordinator behaves from now on.
func (s *settler) is(change func(*settler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *settler) transactions() []coordinator.Begin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.begun)
}

func (s *settler) begin(ctx context.Context, in *coordinator.BeginInput) (*coordinator.BeginOutput, error) {
	s.mu.Lock()
	if s.away {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	f, known := s.flights[in.Body.GID]
	if !known {
		f = new(flight)
		s.flights[in.Body.GID] = f
		s.begun = append(s.begun, in.Body)
	}
	replayed := known && f.finished
	undone, between, mute := s.undone, s.between, s.mute
	s.mu.Unlock()

	f.once.Do(func() {
		out := s.settle(ctx, in.Body, between)
		if !undone {
			s.tell(ctx, in.Body, out)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		f.outcome, f.finished = out, true
	})
	if mute {
		panic(http.ErrAbortHandler)
	}
	out := f.outcome
	out.Replayed = replayed
	return &coordinator.BeginOutput{Status: http.StatusOK, Body: out}, nil
}

func (s *settler) settle(ctx context.Context, b coordinator.Begin, between func()) coordinator.Outcome {
	out := coordinator.Outcome{GID: b.GID, State: coordinator.Committed}
	for i, branch := range b.Branches {
		_, err := twopc.PrepareRoute(branch.Service).Call(ctx, s.mesh, &twopc.PrepareInput{Body: twopc.Prepare{
			GID: b.GID, Branch: i, Action: branch.Action, Payload: branch.Payload, Deadline: time.Now().Add(time.Minute),
		}})
		if err == nil {
			continue
		}
		out.State = coordinator.Aborted
		if out.Reason == nil || out.Reason.Status != http.StatusConflict {
			out.Reason = fault.Of(err).Problem()
		}
	}
	if between != nil {
		between()
	}
	return out
}

func (s *settler) tell(ctx context.Context, b coordinator.Begin, out coordinator.Outcome) {
	for i, branch := range b.Branches {
		in := new(twopc.FinishInput)
		in.Body.Decisions = []twopc.Decision{{GID: b.GID, Branch: i, State: out.State}}
		_, _ = twopc.FinishRoute(branch.Service).Call(ctx, s.mesh, in) // whoever is away asks later
	}
}

func (s *settler) resolve(_ context.Context, in *coordinator.ResolveInput) (*coordinator.ResolveOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := new(coordinator.ResolveOutput)
	for _, q := range in.Body.Questions {
		if f := s.flights[q.GID]; f != nil && f.finished {
			out.Body.Outcomes = append(out.Body.Outcomes, f.outcome)
		}
	}
	return out, nil
}

// as is a token of a customer.
func (s *shop) as(t *testing.T, customer uuid.UUID) string {
	t.Helper()
	return s.Token(t, customer, identity.Customer)
}

// asAdmin is a token of one who manages orders.
func (s *shop) asAdmin(t *testing.T) string {
	t.Helper()
	return s.Token(t, s.admin, identity.Admin)
}

// post sends a keyed POST; an empty key is a new one.
func (s *shop) post(t *testing.T, token, path, key string, body any) *testkit.Answer {
	t.Helper()
	if key == "" {
		key = uuid.NewString()
	}
	return s.Do(t, testkit.Request{Method: "POST", Path: path, Token: token, Key: key, Body: body})
}

func (s *shop) get(t *testing.T, token, path string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "GET", Path: path, Token: token})
}

// line is an order.PlaceLine, short to write.
type line struct {
	ProductID uuid.UUID `json:"product_id"`
	Quantity  int64     `json:"quantity"`
}

type lines []line

func (l lines) body() map[string]any { return map[string]any{"lines": l} }

// placed is an order of the buyer: two cups at 19.99, which earn 39 points.
func (s *shop) placed(t *testing.T) order.Order {
	t.Helper()
	cup := s.sells("cup", 1999, "USD")
	var o order.Order
	s.post(t, s.as(t, s.buyer), "/v1/orders", "", lines{{cup.ID, 2}}.body()).Into(t, http.StatusCreated, &o)
	return o
}

// in is an order of the buyer brought into a status.
func (s *shop) in(t *testing.T, status order.Status) order.Order {
	t.Helper()
	o := s.placed(t)
	path := "/v1/orders/" + o.ID.String()
	do := func(token, action string) {
		t.Helper()
		s.post(t, token, path+action, "", nil).Into(t, http.StatusOK, &o)
	}
	switch status {
	case order.Created:
	case order.Cancelled:
		do(s.as(t, s.buyer), "/cancel")
	case order.Paying:
		if _, err := s.order.Participant.Prepare(t.Context(), payPart(o.ID, uuid.New(), uuid.New())); err != nil {
			t.Fatal(err)
		}
	default:
		do(s.as(t, s.buyer), "/pay")
		if status == order.Shipped || status == order.Delivered {
			do(s.asAdmin(t), "/ship")
		}
		if status == order.Delivered {
			do(s.asAdmin(t), "/deliver")
		}
		if status == order.Refunded {
			m := refundPart(o.ID, uuid.New(), o.Total, true)
			if _, err := s.order.Participant.Prepare(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			s.finish(t, m.GID, coordinator.Committed)
		}
	}
	return s.now(t, o.ID).Order
}

// now is an order as who manages orders sees it.
func (s *shop) now(t *testing.T, id uuid.UUID) order.Detail {
	t.Helper()
	var d order.Detail
	s.get(t, s.asAdmin(t), "/v1/orders/"+id.String()).Into(t, http.StatusOK, &d)
	return d
}

// moves are the statuses that the history of an order goes through.
func (s *shop) moves(t *testing.T, id uuid.UUID) []order.Status {
	t.Helper()
	var moves []order.Status
	for _, c := range s.now(t, id).History {
		moves = append(moves, c.To)
	}
	return moves
}

func (s *shop) wantMoves(t *testing.T, id uuid.UUID, want ...order.Status) {
	t.Helper()
	if got := s.moves(t, id); !slices.Equal(got, want) {
		t.Errorf("the order went through %v, want %v", got, want)
	}
}

func (s *shop) count(t *testing.T, table string) (n int64) {
	t.Helper()
	if err := s.db.Table(table).Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}
