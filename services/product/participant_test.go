package product_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/shared/contract/coordinator"
	contract "souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/twopc"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

const (
	committed = coordinator.Committed
	aborted   = coordinator.Aborted
)

func message(gid uuid.UUID, action string, payload any) twopc.Prepare {
	raw, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	return twopc.Prepare{GID: gid, Action: action, Payload: raw, Deadline: time.Now().Add(time.Minute)}
}

func (b *bundle) prepare(t testing.TB, gid uuid.UUID, action string, order uuid.UUID, lines ...contract.Line) (twopc.BranchState, error) {
	t.Helper()
	return b.part.Prepare(t.Context(), message(gid, action, contract.Lines{OrderID: order, Lines: lines}))
}

// prepared is a transaction whose branch here has voted yes.
func (b *bundle) prepared(t testing.TB, action string, order uuid.UUID, lines ...contract.Line) uuid.UUID {
	t.Helper()
	gid := uuid.Must(uuid.NewV7())
	if state, err := b.prepare(t, gid, action, order, lines...); err != nil || state != twopc.Prepared {
		t.Fatalf("prepare %s: got %s, %v", action, state, err)
	}
	return gid
}

func (b *bundle) finish(t testing.TB, gid uuid.UUID, outcome coordinator.State) {
	t.Helper()
	state, err := b.part.Finish(t.Context(), twopc.Decision{GID: gid, State: outcome})
	if err != nil || string(state) != string(outcome) {
		t.Fatalf("finish %s: got %s, %v", outcome, state, err)
	}
}

func (b *bundle) wantStock(t *testing.T, id uuid.UUID, available, held, sold int64) {
	t.Helper()
	if d := cmp.Diff(contract.Counts{Available: available, Held: held, Sold: sold}, b.stock(t, id)); d != "" {
		t.Error(d)
	}
}

func TestSell(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.stocked(t, "LAM-1", 5), b.stocked(t, "LAM-2", 5)
	lines := []contract.Line{{ProductID: two, Quantity: 5}, {ProductID: one, Quantity: 2}}

	gid := b.prepared(t, contract.ActionSell, uuid.New(), lines...)
	b.wantStock(t, one, 3, 2, 0)
	b.wantStock(t, two, 0, 5, 0)
	b.finish(t, gid, aborted)
	b.wantStock(t, one, 5, 0, 0)
	b.wantStock(t, two, 5, 0, 0)

	order := uuid.New()
	gid = b.prepared(t, contract.ActionSell, order, lines...)
	// A repeated message changes nothing and gets the same answer, before the decision and after it.
	if state, err := b.prepare(t, gid, contract.ActionSell, order, lines...); err != nil || state != twopc.Prepared {
		t.Errorf("got %s, %v; want prepared", state, err)
	}
	b.finish(t, gid, committed)
	b.finish(t, gid, committed)
	if state, err := b.prepare(t, gid, contract.ActionSell, order, lines...); err != nil || state != twopc.Committed {
		t.Errorf("got %s, %v; want committed", state, err)
	}
	b.wantStock(t, one, 3, 0, 2)
	b.wantStock(t, two, 0, 0, 5)
	// What is sold cannot be taken back by a late abort.
	if state, err := b.part.Finish(t.Context(), twopc.Decision{GID: gid, State: aborted}); err != nil || state != twopc.Refused {
		t.Errorf("got %s, %v; want refused", state, err)
	}
	b.wantStock(t, one, 3, 0, 2)
	b.checkBooks(t)
}

func TestSell_onePhase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 2)
	m := message(uuid.New(), contract.ActionSell, contract.Lines{OrderID: uuid.New(), Lines: []contract.Line{{ProductID: id, Quantity: 2}}})
	m.OnePhase = true
	if state, err := b.part.Prepare(t.Context(), m); err != nil || state != twopc.Committed {
		t.Errorf("got %s, %v; want committed", state, err)
	}
	b.wantStock(t, id, 0, 0, 2)
}

func TestSell_afterItsAbortIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 2)
	gid := uuid.New()
	b.finish(t, gid, aborted)
	if _, err := b.prepare(t, gid, contract.ActionSell, uuid.New(), contract.Line{ProductID: id, Quantity: 1}); code(err) != "aborted" {
		t.Errorf("got %v, want aborted", err)
	}
	b.wantStock(t, id, 2, 0, 0)
}

// A no has a code and changes nothing, and it stays a no.
func TestPrepare_no(t *testing.T) {
	t.Parallel()
	b := setup(t)
	full, few, gone := b.stocked(t, "LAM-1", 100), b.stocked(t, "LAM-2", 1), b.stocked(t, "LAM-3", 5)
	none := b.stocked(t, "LAM-4", 0)
	b.post(t, "/v1/products/"+gone.String()+"/archive", nil).Into(t, 200, nil)
	order := uuid.New()
	b.finish(t, b.prepared(t, contract.ActionSell, order, contract.Line{ProductID: full, Quantity: 3}), committed)
	before := b.count(t, "stock_movement")

	line := func(id uuid.UUID, n int64) contract.Line { return contract.Line{ProductID: id, Quantity: n} }
	many := make([]contract.Line, 101)
	for i := range many {
		many[i] = line(uuid.New(), 1)
	}
	for name, c := range map[string]struct {
		action string
		order  uuid.UUID
		lines  []contract.Line
		code   string
		says   string
	}{
		"none is left":                      {contract.ActionSell, order, []contract.Line{line(none, 1)}, "out_of_stock", `"Lamp LAM-4" is out of stock`},
		"too few are left":                  {contract.ActionSell, order, []contract.Line{line(full, 1), line(few, 2)}, "out_of_stock", `"Lamp LAM-2" is out of stock: 2 were asked for, 1 are left`},
		"an archived product":               {contract.ActionSell, order, []contract.Line{line(full, 1), line(gone, 1)}, "product_unavailable", `"Lamp LAM-3"`},
		"an unknown product":                {contract.ActionSell, order, []contract.Line{line(full, 1), line(uuid.New(), 1)}, "product_unavailable", "no product"},
		"a product in two lines":            {contract.ActionSell, order, []contract.Line{line(full, 1), line(full, 1)}, "invalid_lines", "more than one line"},
		"no lines":                          {contract.ActionSell, order, nil, "invalid_lines", "1 to 100"},
		"too many lines":                    {contract.ActionSell, order, many, "invalid_lines", "1 to 100"},
		"a quantity of zero":                {contract.ActionSell, order, []contract.Line{line(full, 0)}, "invalid_lines", "quantity"},
		"a negative quantity":               {contract.ActionSell, order, []contract.Line{line(full, -1)}, "invalid_lines", "quantity"},
		"a quantity beyond all":             {contract.ActionSell, order, []contract.Line{line(full, 1_000_001)}, "invalid_lines", "quantity"},
		"no order":                          {contract.ActionSell, uuid.Nil, []contract.Line{line(full, 1)}, "invalid_lines", "no order"},
		"restock: more than the order took": {contract.ActionRestock, order, []contract.Line{line(full, 4)}, "not_sold", full.String()},
		"restock: another order took it":    {contract.ActionRestock, uuid.New(), []contract.Line{line(full, 1)}, "not_sold", full.String()},
		"restock: never sold":               {contract.ActionRestock, order, []contract.Line{line(few, 1)}, "not_sold", few.String()},
		"restock: an unknown product":       {contract.ActionRestock, order, []contract.Line{line(uuid.New(), 1)}, "product_unavailable", "no product"},
		"restock: a product in two lines":   {contract.ActionRestock, order, []contract.Line{line(full, 1), line(full, 1)}, "invalid_lines", "more than one line"},
		"an unknown action":                 {"give_away", order, []contract.Line{line(full, 1)}, "unknown_action", "give_away"},
	} {
		t.Run(name, func(t *testing.T) {
			gid := uuid.New()
			for range 2 {
				state, err := b.prepare(t, gid, c.action, c.order, c.lines...)
				if state != twopc.Aborted || code(err) != c.code || !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Of(err).Message, c.says) {
					t.Errorf("got %s, %v; want aborted, %s: … %s …", state, err, c.code, c.says)
				}
			}
		})
	}
	t.Run("a payload with an unknown field", func(t *testing.T) {
		m := message(uuid.New(), contract.ActionSell, map[string]any{"order_id": order, "lines": []any{}, "price": 1})
		if _, err := b.part.Prepare(t.Context(), m); code(err) != "invalid_payload" {
			t.Errorf("got %v, want invalid_payload", err)
		}
	})
	if n := b.count(t, "stock_movement"); n != before {
		t.Errorf("a no left %d movements", n-before)
	}
	b.checkBooks(t)
}

func TestRestock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 5)
	order := uuid.New()
	b.finish(t, b.prepared(t, contract.ActionSell, order, contract.Line{ProductID: id, Quantity: 4}), committed)
	// Goods come back even when they are no longer sold.
	b.post(t, "/v1/products/"+id.String()+"/archive", nil).Into(t, 200, nil)

	gid := b.prepared(t, contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 3})
	b.wantStock(t, id, 1, 3, 1)
	b.finish(t, gid, aborted)
	b.wantStock(t, id, 1, 0, 4)
	b.finish(t, b.prepared(t, contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 3}), committed)
	b.wantStock(t, id, 4, 0, 1)
	// One is left to give back, not two.
	if _, err := b.prepare(t, uuid.New(), contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 2}); code(err) != "not_sold" {
		t.Errorf("got %v, want not_sold", err)
	}
	b.finish(t, b.prepared(t, contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 1}), committed)
	b.wantStock(t, id, 5, 0, 0)
	b.checkBooks(t)
}

// What is held for a sale when the product is archived can still be sold.
func TestSell_archivedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 1)
	gid := b.prepared(t, contract.ActionSell, uuid.New(), contract.Line{ProductID: id, Quantity: 1})
	b.post(t, "/v1/products/"+id.String()+"/archive", nil).Into(t, 200, nil)
	b.finish(t, gid, committed)
	b.wantStock(t, id, 0, 0, 1)
}

// atOnce runs n functions at the same moment and gives their errors.
func atOnce(n int, do func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func tally(errs []error) map[string]int {
	codes := map[string]int{}
	for _, err := range errs {
		codes[code(err)]++
	}
	return codes
}

// Fifty buyers want the last one: one gets it. When that sale is aborted, it is there for one of the next fifty.
func TestSell_theLastUnit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 1)
	const buyers = 50
	for _, outcome := range []coordinator.State{aborted, committed} {
		gids := make([]uuid.UUID, buyers)
		errs := atOnce(buyers, func(i int) error {
			gids[i] = uuid.New()
			_, err := b.prepare(t, gids[i], contract.ActionSell, uuid.New(), contract.Line{ProductID: id, Quantity: 1})
			return err
		})
		if d := cmp.Diff(map[string]int{"": 1, "out_of_stock": buyers - 1}, tally(errs)); d != "" {
			t.Fatal(d)
		}
		b.wantStock(t, id, 0, 1, 0)
		b.finish(t, gids[slices.Index(errs, nil)], outcome)
		if outcome == aborted {
			b.wantStock(t, id, 1, 0, 0)
		}
	}
	b.wantStock(t, id, 0, 0, 1)
	b.checkBooks(t)
}

// Sales of the same products in opposite orders do not wait for each other in a circle: all succeed, none is retried.
func TestSell_crossedLines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var lines []contract.Line
	for i := range 6 {
		lines = append(lines, contract.Line{ProductID: b.stocked(t, fmt.Sprintf("LAM-%d", i), 1000), Quantity: 1})
	}
	backwards := slices.Clone(lines)
	slices.Reverse(backwards)
	errs := atOnce(40, func(i int) error {
		order, gid := uuid.New(), uuid.New()
		mine := lines
		if i%2 == 1 {
			mine = backwards
		}
		if _, err := b.prepare(t, gid, contract.ActionSell, order, mine...); err != nil {
			return err
		}
		_, err := b.part.Finish(t.Context(), twopc.Decision{GID: gid, State: committed})
		return err
	})
	if d := cmp.Diff(map[string]int{"": 40}, tally(errs)); d != "" {
		t.Error(d)
	}
	for _, l := range lines {
		b.wantStock(t, l.ProductID, 960, 0, 40)
	}
	var deadlocks int64
	if err := b.db.Raw("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks).Error; err != nil || deadlocks != 0 {
		t.Errorf("got %d deadlocks, %v; want none", deadlocks, err)
	}
	b.checkBooks(t)
}

// An order gives back what it took once, however many ask at the same time.
func TestRestock_manyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.stocked(t, "LAM-1", 10)
	order := uuid.New()
	// Another order has taken some too: it is not its pieces that come back.
	b.finish(t, b.prepared(t, contract.ActionSell, uuid.New(), contract.Line{ProductID: id, Quantity: 6}), committed)
	b.finish(t, b.prepared(t, contract.ActionSell, order, contract.Line{ProductID: id, Quantity: 2}), committed)
	errs := atOnce(20, func(int) error {
		_, err := b.prepare(t, uuid.New(), contract.ActionRestock, order, contract.Line{ProductID: id, Quantity: 1})
		return err
	})
	if d := cmp.Diff(map[string]int{"": 2, "not_sold": 18}, tally(errs)); d != "" {
		t.Error(d)
	}
	b.wantStock(t, id, 2, 2, 6)
	b.checkBooks(t)
}

// Whatever is prepared, committed, aborted and adjusted, in whatever order: the stock is what a sheet of paper says it
// is, nothing is below zero, and only adjustments change the sum.
func TestStock_anyInterleaving(t *testing.T) {
	t.Parallel()
	b := setup(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		ids := []uuid.UUID{b.stocked(t, fmt.Sprintf("A-%d", run), 0), b.stocked(t, fmt.Sprintf("B-%d", run), 0)}
		orders := []uuid.UUID{uuid.New(), uuid.New()}
		type open struct {
			gid    uuid.UUID
			action string
			order  int
			lines  []contract.Line
		}
		var (
			paper   [2]contract.Counts
			owes    [2][2]int64 // by order and product: sold, less what is given back or about to be
			waiting []open
		)
		product := func(id uuid.UUID) int { return slices.Index(ids, id) }
		for range rapid.IntRange(5, 15).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"adjust", "sell", "restock", "finish", "finish"}).Draw(rt, "step") {
			case "adjust":
				i, delta := rapid.IntRange(0, 1).Draw(rt, "product"), rapid.Int64Range(-3, 6).Draw(rt, "delta")
				if delta == 0 {
					continue
				}
				want := 409
				if paper[i].Available+delta >= 0 {
					want = 201
					paper[i].Available += delta
				}
				if got := b.adjust(t, ids[i], delta).Status; got != want {
					rt.Fatalf("adjust: got %d, want %d", got, want)
				}
			case "finish":
				if len(waiting) == 0 {
					continue
				}
				n := rapid.IntRange(0, len(waiting)-1).Draw(rt, "which")
				o := waiting[n]
				waiting = slices.Delete(waiting, n, n+1)
				outcome := rapid.SampledFrom([]coordinator.State{committed, aborted}).Draw(rt, "outcome")
				b.finish(t, o.gid, outcome)
				for _, l := range o.lines {
					i := product(l.ProductID)
					paper[i].Held -= l.Quantity
					if (o.action == contract.ActionSell) == (outcome == committed) {
						paper[i].Sold += l.Quantity
						owes[o.order][i] += l.Quantity
					} else {
						paper[i].Available += l.Quantity
					}
				}
			default:
				o := open{gid: uuid.New(), order: rapid.IntRange(0, 1).Draw(rt, "order")}
				o.action = rapid.SampledFrom([]string{contract.ActionSell, contract.ActionRestock}).Draw(rt, "action")
				for _, i := range rapid.SampledFrom([][]int{{0}, {1}, {0, 1}, {1, 0}}).Draw(rt, "lines") {
					o.lines = append(o.lines, contract.Line{ProductID: ids[i], Quantity: rapid.Int64Range(1, 4).Draw(rt, "quantity")})
				}
				want := ""
				for _, l := range o.lines {
					i := product(l.ProductID)
					if o.action == contract.ActionSell {
						if paper[i].Available < l.Quantity {
							want = "out_of_stock"
						}
					} else if owes[o.order][i] < l.Quantity {
						want = "not_sold"
					}
				}
				_, err := b.prepare(t, o.gid, o.action, orders[o.order], o.lines...)
				if code(err) != want {
					rt.Fatalf("%s %v: got %v, want %q", o.action, o.lines, err, want)
				}
				if want != "" {
					continue
				}
				waiting = append(waiting, o)
				for _, l := range o.lines {
					i := product(l.ProductID)
					paper[i].Held += l.Quantity
					if o.action == contract.ActionSell {
						paper[i].Available -= l.Quantity
					} else {
						paper[i].Sold -= l.Quantity
						owes[o.order][i] -= l.Quantity
					}
				}
			}
			for i := range ids {
				if got := b.stock(t, ids[i]); got != paper[i] {
					rt.Fatalf("product %d: got %+v, want %+v", i, got, paper[i])
				}
			}
		}
	})
	b.checkBooks(t)
}
