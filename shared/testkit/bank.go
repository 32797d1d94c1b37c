package testkit

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"
	"time"

	"souk/shared/fault"
	"souk/shared/postgres"
	"souk/shared/twopc"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Bank is the smallest real participant of a two-phase commit: accounts with an available and a held amount, in a
// database of its own. Its actions are "debit" and "credit", with a Transfer as payload.
type Bank struct {
	*Service
	DB          *gorm.DB
	Participant *twopc.Participant
}

// Transfer moves an amount out of or into an account.
type Transfer struct {
	Account string `json:"account"`
	Amount  int64  `json:"amount"`
}

// LockOrder is part of twopc.Locking.
func (t Transfer) LockOrder() string { return t.Account }

// NewBank makes a bank of that name that asks coordinators through client.
func NewBank(t testing.TB, name string, client *http.Client) *Bank {
	t.Helper()
	db := Postgres(t, Migrations(t, "participant"), BankSchema())
	b := &Bank{Service: NewService(t, name), DB: db}
	b.Participant = twopc.NewParticipant(twopc.Deps{
		DB: db, Mesh: client, Log: b.Log, Metrics: prometheus.NewRegistry(), Now: time.Now,
	}, BankActions())
	b.Participant.Routes(b.Server, name)
	return b
}

// BankSchema is what a bank's database has besides what every participant's has.
func BankSchema() postgres.MigrationSet {
	return postgres.MigrationSet{Name: "bank", FS: fstest.MapFS{
		"00001_account.sql": {Data: []byte(`-- +goose Up
CREATE TABLE account (id text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0), held bigint NOT NULL DEFAULT 0 CHECK (held >= 0)) WITH (fillfactor = 50);
-- +goose Down
DROP TABLE account;`)},
	}}
}

// BankActions are what a bank can do. A debit holds what it takes; a credit takes nothing, so its prepare only looks
// whether the account is there.
func BankActions() map[string]twopc.Action {
	return map[string]twopc.Action{
		"debit": twopc.NewAction(
			change("available = available - $2, held = held + $2", "available >= $2"),
			change("held = held - $2", "true"),
			change("available = available + $2, held = held - $2", "true")),
		"credit": twopc.NewAction(exists, change("available = available + $2", "true"),
			func(twopc.Tx, Transfer) error { return nil }),
	}
}

func exists(tx twopc.Tx, p Transfer) error {
	return tx.Change(fault.New(fault.Conflict, "no_account", "there is no account %s", p.Account), "SELECT FROM account WHERE id = $1", p.Account)
}

func change(set, when string) func(twopc.Tx, Transfer) error {
	return func(tx twopc.Tx, p Transfer) error {
		return tx.Change(fault.New(fault.Conflict, "insufficient_funds", "account %s has not that much", p.Account),
			"UPDATE account SET "+set+" WHERE id = $1 AND "+when, p.Account, p.Amount)
	}
}

// Open gives the bank accounts with that much in each.
func (b *Bank) Open(t testing.TB, amount int64, accounts ...string) {
	t.Helper()
	for _, id := range accounts {
		if err := b.DB.Exec("INSERT INTO account (id, available) VALUES (?, ?)", id, amount).Error; err != nil {
			t.Fatal(err)
		}
	}
}

// Total is all the bank has, and Held the part of it that is promised to transactions.
func (b *Bank) Total(t testing.TB) (total, held int64) {
	t.Helper()
	var row struct{ Total, Held int64 }
	if err := b.DB.Raw("SELECT COALESCE(sum(available + held), 0) AS total, COALESCE(sum(held), 0) AS held FROM account").Scan(&row).Error; err != nil {
		t.Fatal(err)
	}
	return row.Total, row.Held
}

// Balance is what is available and held in one account, for comparison: "70+30".
func (b *Bank) Balance(t testing.TB, account string) string {
	t.Helper()
	var row struct{ Available, Held int64 }
	if err := b.DB.Raw("SELECT available, held FROM account WHERE id = ?", account).Scan(&row).Error; err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d+%d", row.Available, row.Held)
}

// Migrations is one of the repository's migration sets, for tests of this module, which does not import migrations.
func Migrations(t testing.TB, name string) postgres.MigrationSet {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "migrations", name)
	if _, err := os.Stat(dir); !ok || err != nil {
		t.Fatalf("find the migrations of %s: %v", name, err)
	}
	return postgres.MigrationSet{Name: name, FS: os.DirFS(dir)}
}
