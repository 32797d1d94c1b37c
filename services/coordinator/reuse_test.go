package coordinator_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/coordinator"
	wire "souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// leg is a branch of a caller's transaction.
func leg(service, action, account string, amount int64) twopc.Branch {
	return twopc.Branch{Service: service, Action: action, Key: account, Payload: testkit.Transfer{Account: account, Amount: amount}}
}

// caller is a service that has transactions settled, and has no branches of its own.
func caller(t *testing.T, client *http.Client) *twopc.Participant {
	t.Helper()
	return twopc.NewParticipant(twopc.Deps{
		DB: testkit.Postgres(t, migrations.Participant()), Mesh: client, Log: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(), Now: time.Now,
	}, nil)
}

func request(content string) idempotency.Request {
	return idempotency.NewRequest("ann", "pay", "one key", []byte(content))
}

// farFromEast is a client of a second coordinator, whose messages to east arrive when arrived is closed.
func (s *shop) farFromEast(t *testing.T) (client *http.Client, arrived chan struct{}) {
	t.Helper()
	arrived = make(chan struct{})
	roads := testkit.Hosts{"west": s.west.Handler(), "east": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-arrived
		s.east.Handler().ServeHTTP(w, r)
	})}
	second := testkit.NewService(t, "coordinator")
	coordinator.New(coordinator.Deps{
		DB: s.db, Mesh: roads.Client(), Now: time.Now, Log: s.Log, Metrics: prometheus.NewRegistry(), Instance: "coordinator-2",
	}).Routes(second.Server)
	return testkit.Hosts{"coordinator": second.Handler()}.Client(), arrived
}

// Two requests under one key ask for different things, at the same time and at different coordinators. Each of the
// branches is in one transaction only, and what one of the two decides is no word about the other's branches: or one
// could buy something small, and have the points of something dear.
func TestSettle_keepsTwoRequestsUnderOneKeyApart(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.east.Open(t, 0, "eve")
	other, arrived := s.farFromEast(t)
	small, dear := caller(t, s.client), caller(t, other)

	settled := make(chan error, 1)
	go func() {
		_, err := dear.Settle(t.Context(), request("dear"), []twopc.Branch{
			leg("east", "debit", "ann", 55), leg("east", "credit", "eve", 5), leg("west", "credit", "bob", 50),
		})
		settled <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool {
		var n int
		return s.west.DB.Raw("SELECT count(*) FROM tx_branch WHERE branch = 2").Scan(&n).Error == nil && n == 1
	})
	if _, err := small.Settle(t.Context(), request("small"), []twopc.Branch{
		leg("east", "debit", "ann", 5), leg("west", "credit", "bob", 5),
	}); err != nil {
		t.Error(err)
	}
	close(arrived)
	if err := <-settled; err == nil && s.east.Balance(t, "eve") == "0+0" {
		t.Error("the second was told that it is settled, and is not")
	}
	s.settle(t)
	s.sound(t)
}

// A request that is repeated after a passing failure may by then have something else to say, as a refund has of which
// another part was given back meanwhile. Nothing was done under its key, so it can be done.
func TestSettle_maySayOtherThingsAfterNothingHappened(t *testing.T) {
	t.Parallel()
	s := setup(t)
	client, r := caller(t, s.client), request("refund what is left")
	delete(s.hosts, "west")
	if _, err := client.Settle(t.Context(), r, []twopc.Branch{
		leg("east", "debit", "ann", 30), leg("west", "credit", "bob", 30),
	}); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("got %v", err)
	}
	s.hosts["west"] = s.west.Handler()
	var last uuid.UUID
	for range 2 {
		gid, err := client.Settle(t.Context(), r, []twopc.Branch{
			leg("east", "debit", "ann", 20), leg("west", "credit", "bob", 20),
		})
		if err != nil || last != uuid.Nil && gid != last {
			t.Errorf("got %s, %v", gid, err)
		}
		last = gid
	}
	s.settle(t)
	s.sound(t)
	if got := s.west.Balance(t, "bob"); got != "120+0" {
		t.Errorf("bob %s", got)
	}
}

// Two transactions are begun under one gid at the same time at different coordinators, which no house-trained caller does.
// One of them is settled; of the other nothing is, and no branch of its own is taken for one of the first.
func TestBegin_settlesOneOfTwoTransactionsUnderOneID(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.east.Open(t, 0, "eve")
	other, arrived := s.farFromEast(t)
	gid := uuid.Must(uuid.NewV7())
	b := func(service, action, account string, amount int64) wire.Branch {
		p, _ := json.Marshal(testkit.Transfer{Account: account, Amount: amount})
		return wire.Branch{Service: service, Action: action, Key: account, Payload: p}
	}
	done := make(chan error, 1)
	go func() {
		_, err := wire.BeginTransaction.Call(t.Context(), other, &wire.BeginInput{Body: wire.Begin{GID: gid, Branches: []wire.Branch{
			b("east", "debit", "ann", 55), b("east", "credit", "eve", 5), b("west", "credit", "bob", 50),
		}}})
		done <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool {
		var n int
		return s.west.DB.Raw("SELECT count(*) FROM tx_branch WHERE branch = 2").Scan(&n).Error == nil && n == 1
	})
	first, err := wire.BeginTransaction.Call(t.Context(), s.client, &wire.BeginInput{Body: wire.Begin{GID: gid, Branches: []wire.Branch{
		b("east", "debit", "ann", 5), b("west", "credit", "bob", 5),
	}}})
	close(arrived)
	if err != nil || first.Body.State != wire.Committed {
		t.Errorf("got %+v, %v", first, err)
	}
	if err := <-done; !fault.HasCode(err, "transaction_reused") {
		t.Errorf("got %v, want transaction_reused", err)
	}
	s.settle(t)
	for want, got := range map[string]string{
		"ann 95+0": "ann " + s.east.Balance(t, "ann"), "eve 0+0": "eve " + s.east.Balance(t, "eve"), "bob 105+0": "bob " + s.west.Balance(t, "bob"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
