package e2e

import (
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/coordinator"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/product"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestJourney_aCustomerBuysAndIsRefunded(t *testing.T) {
	boss, ann := admin(t), customer(t, 100_00)
	bowl := boss.goods(t, 12_50, 10)
	merchant := boss.merchant(t)

	found, err := product.ListProducts.Call(t.Context(), nobody().client, &product.ListInput{Q: "tea", MaxPrice: product.MaxAmount})
	if err != nil || len(found.Body.Items) == 0 {
		t.Fatalf("nobody sells tea: %v", err)
	}
	placed := ann.place(t, bowl, 2)
	if placed.Status != order.Created || placed.Total != usd(25_00) {
		t.Errorf("placed %+v", placed)
	}
	if got := boss.stock(t, bowl); got != (product.Counts{Available: 10}) {
		t.Errorf("an order alone moved stock: %+v", got)
	}
	paid, err := ann.pay(t.Context(), placed.ID, uuid.NewString())
	if err != nil || paid.Status != 200 || paid.Body.Status != order.Paid || paid.Body.PaymentID == nil {
		t.Fatalf("pay: %+v, %v", paid, err)
	}

	// The customer reads her own writes, at once.
	if got := boss.stock(t, bowl); got != (product.Counts{Available: 8, Sold: 2}) {
		t.Errorf("stock %+v", got)
	}
	if got := ann.wallet(t); got.Available != usd(75_00) || got.Held != usd(0) {
		t.Errorf("wallet %+v", got)
	}
	if got := boss.merchant(t) - merchant; got != 25_00 {
		t.Errorf("the merchant got %d", got)
	}
	if got := ann.points(t); got != 25 {
		t.Errorf("%d points, want 25", got)
	}
	var moves []order.Status
	for _, h := range ann.order(t, placed.ID).History {
		moves = append(moves, h.To)
	}
	if diff := cmp.Diff([]order.Status{order.Created, order.Paying, order.Paid}, moves); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	timeline(t, boss, ann.order(t, placed.ID))

	// Half of it back, then all of it, with the goods.
	refund := func(cents int64, restock bool) (*payment.RefundOutput, error) {
		in := &payment.RefundInput{ByID: contract.ByID{ID: *paid.Body.PaymentID}}
		if cents > 0 {
			m := usd(cents)
			in.Body.Amount = &m
		}
		in.Body.Reason, in.Body.Restock = "chipped", restock
		return payment.RefundPayment.Call(t.Context(), boss.client, in)
	}
	if _, err := refund(12_50, true); !fault.HasCode(err, "restock_needs_full_refund") {
		t.Errorf("restock with half the money: %v", err)
	}
	if out, err := refund(12_50, false); err != nil || out.Status != 201 || out.Body.Status != payment.Succeeded {
		t.Fatalf("refund: %+v, %v", out, err)
	}
	if got := ann.order(t, placed.ID); got.Status != order.Paid || got.Refunded != usd(12_50) {
		t.Errorf("half refunded: %+v", got.Brief)
	}
	if _, err := refund(12_51, false); !fault.HasCode(err, "refund_too_large") {
		t.Errorf("more than is left: %v", err)
	}
	if out, err := refund(0, true); err != nil || out.Body.Amount != usd(12_50) {
		t.Fatalf("refund the rest: %+v, %v", out, err)
	}
	if got := ann.order(t, placed.ID); got.Status != order.Refunded {
		t.Errorf("refunded: %+v", got.Brief)
	}
	if got := boss.stock(t, bowl); got != (product.Counts{Available: 10}) {
		t.Errorf("restocked: %+v", got)
	}
	if got := ann.wallet(t); got.Available != usd(100_00) {
		t.Errorf("wallet %+v", got)
	}
	if got := ann.points(t); got != 0 {
		t.Errorf("%d points are left", got)
	}
	if got := boss.merchant(t) - merchant; got != 0 {
		t.Errorf("the merchant kept %d", got)
	}
	atRest(t)
}

// timeline checks that an admin sees how the order's payment was settled, step by step.
func timeline(t *testing.T, boss *person, o order.Detail) {
	t.Helper()
	gid := o.History[len(o.History)-1].GID
	if gid == nil {
		t.Fatal("the history does not name the transaction")
	}
	out, err := coordinator.GetTransaction.Call(t.Context(), boss.client, &contract.ByID{ID: *gid})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range out.Body.Events {
		seen[e.Event]++
	}
	if out.Body.State != coordinator.Committed || seen["begun"] != 1 || seen["prepared"] != 4 || seen["decided"] != 1 {
		t.Errorf("the transaction is %s with %v", out.Body.State, seen)
	}
	list, err := coordinator.ListTransactions.Call(t.Context(), boss.client, &coordinator.ListInput{State: string(coordinator.Committed)})
	if err != nil || len(list.Body.Items) == 0 {
		t.Errorf("no transactions are listed: %v", err)
	}
}

func TestJourney_anOrderIsShippedAndDelivered(t *testing.T) {
	boss, ann := admin(t), customer(t, 50_00)
	placed := ann.place(t, boss.goods(t, 10_00, 1), 1)
	if _, err := order.Ship.Call(t.Context(), boss.client, &order.ShipInput{ByID: contract.ByID{ID: placed.ID}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("an unpaid order was shipped: %v", err)
	}
	if _, err := ann.pay(t.Context(), placed.ID, uuid.NewString()); err != nil {
		t.Fatal(err)
	}
	if _, err := order.Cancel.Call(t.Context(), ann.client, &contract.ByID{ID: placed.ID}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a paid order was cancelled: %v", err)
	}
	ship := &order.ShipInput{ByID: contract.ByID{ID: placed.ID}, Body: &order.Shipment{Carrier: "Swallow Post", Tracking: "SW1"}}
	if _, err := order.Ship.Call(t.Context(), boss.client, ship); err != nil {
		t.Fatal(err)
	}
	if _, err := order.Deliver.Call(t.Context(), boss.client, &contract.ByID{ID: placed.ID}); err != nil {
		t.Fatal(err)
	}
	if got := ann.order(t, placed.ID); got.Status != order.Delivered || got.Tracking != "SW1" {
		t.Errorf("got %+v", got.Brief)
	}
	atRest(t)
}

func TestJourney_pointsBecomeMoney(t *testing.T) {
	boss, ann := admin(t), customer(t, 100_00)
	if _, err := ann.pay(t.Context(), ann.place(t, boss.goods(t, 100_00, 1), 1).ID, uuid.NewString()); err != nil {
		t.Fatal(err)
	}
	redeem := func(points int64) (*payment.TransferOutput, error) {
		in := new(payment.TransferInput)
		in.Body.Points, in.Body.Currency = points, "USD"
		return payment.CreateTransfer.Call(t.Context(), ann.client, in)
	}
	if _, err := redeem(101); !fault.Is(err, fault.Conflict) || !fault.HasCode(err, "insufficient_points") {
		t.Errorf("more points than there are: %v", err)
	}
	if out, err := redeem(60); err != nil || out.Body.Status != payment.Succeeded {
		t.Fatalf("redeem: %+v, %v", out, err)
	}
	if points, wallet := ann.points(t), ann.wallet(t); points != 40 || wallet.Available != usd(60) {
		t.Errorf("%d points, wallet %+v", points, wallet)
	}
	atRest(t)
}

func TestJourney_cardsThatDoNotSimplySucceed(t *testing.T) {
	ann := customer(t, 0)
	charge := func(card string) (*contract.Created[payment.TopUp], error) {
		in := new(payment.TopUpInput)
		in.Currency = "USD"
		in.Body.Amount = usd(10_00)
		in.Body.Card = payment.Card{Number: card, ExpMonth: 12, ExpYear: 2040, CVC: "123"}
		return payment.CreateTopUp.Call(t.Context(), ann.client, in)
	}
	if _, err := charge("4000000000000002"); !fault.HasCode(err, "card_declined") {
		t.Errorf("declined: %v", err)
	}
	late, err := charge("4000000000000341")
	if err != nil || late.Body.Status != payment.Pending {
		t.Fatalf("late: %+v, %v", late, err)
	}
	if got := ann.wallet(t); got.Available != usd(0) {
		t.Errorf("credited before it succeeded: %+v", got)
	}
	testkit.Eventually(t, 15*time.Second, func() bool {
		out, err := payment.GetTopUp.Call(t.Context(), ann.client, &contract.ByID{ID: late.Body.ID})
		return err == nil && out.Body.Status == payment.Succeeded
	})
	if got := ann.wallet(t); got.Available != usd(10_00) {
		t.Errorf("wallet %+v", got)
	}
	atRest(t)
}

func TestJourney_aSessionIsRefreshedAndEnds(t *testing.T) {
	ann := register(t)
	in := new(user.LoginInput)
	in.Body.Email, in.Body.Password = ann.email, password
	first, err := user.Login.Call(t.Context(), ann.client, in)
	if err != nil {
		t.Fatal(err)
	}
	again := new(user.RefreshTokenInput)
	again.Body.RefreshToken = first.Body.RefreshToken
	second, err := user.Refresh.Call(t.Context(), nobody().client, again)
	if err != nil {
		t.Fatal(err)
	}
	again.Body.RefreshToken = second.Body.RefreshToken
	if _, err := user.Logout.Call(t.Context(), nobody().client, again); err != nil {
		t.Fatal(err)
	}
	if _, err := user.Refresh.Call(t.Context(), nobody().client, again); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("refreshed after logout: %v", err)
	}
	in.Body.Password = "wrong " + password
	if _, err := user.Login.Call(t.Context(), nobody().client, in); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a wrong password: %v", err)
	}
}
