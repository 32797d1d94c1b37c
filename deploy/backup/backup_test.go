package backup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/money"
	"souk/shared/testkit"

	"github.com/jackc/pgx/v5"
)

// A backup is made while customers buy. Then the server and its data are lost. What was paid before the backup was begun is
// there again after the restore, nothing is half done, and the shop, which nobody has restarted, sells on.
func TestBackup_restoresAShopThatSoldMeanwhile(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	if err := os.Chmod(run, 0o755); err != nil { //nolint:gosec // PostgreSQL's own user goes through it
		t.Fatal(err)
	}
	shop, err := local.Up(t.Context(), local.Config{RunDir: run, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	rush := startRush(t, shop)
	before := paid(t, shop)

	copied := filepath.Join(t.TempDir(), "backup")
	script(t, shop, "backup.sh", copied)
	if err := rush.Await(t.Context(), 10); err != nil { // these come too late
		t.Fatal(err)
	}
	if err := rush.Stop(); err != nil {
		t.Fatal(err)
	}
	last := paid(t, shop)

	if err := shop.Kill(t.Context(), "postgres"); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(testkit.ServerDir(filepath.Join(run, "postgres")), "data")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	script(t, shop, "restore.sh", copied, data)
	if err := shop.Start(t.Context(), "postgres"); err != nil {
		t.Fatal(err)
	}

	violations, err := shopper.AtRest(t.Context(), shop, 30*time.Second)
	if err := errors.Join(append(violations, err)...); err != nil {
		t.Error(err)
	}
	restored := paid(t, shop)
	for id := range before {
		if !restored[id] {
			t.Errorf("order %s was paid before the backup, and is not any more", id)
		}
	}
	t.Logf("%d orders were paid before the backup, %d at last, %d after the restore", len(before), len(last), len(restored))
	if len(restored) < len(before) || len(restored) >= len(last) {
		t.Errorf("%d orders are paid: want at least the %d from before the backup, and fewer than the %d at last", len(restored), len(before), len(last))
	}
	for _, in := range shop.Instances("") {
		if err := shop.WaitReady(t.Context(), in.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := startRush(t, shop).Stop(); err != nil {
		t.Errorf("the shop does not sell any more: %v", err)
	}
}

// startRush lets customers in and waits until they have bought something.
func startRush(t *testing.T, shop *local.Shop) *shopper.Rush {
	t.Helper()
	boss, err := shopper.Admin(t.Context(), shop.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	bowl, err := boss.Goods(t.Context(), "Bowl", money.Money{Amount: 1_00, Currency: "USD"}, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	rush, err := shopper.StartRush(t.Context(), shop.Gateway, 2, money.Money{Amount: 10_000_00, Currency: "USD"}, bowl)
	if err != nil {
		t.Fatal(err)
	}
	if err := rush.Await(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	return rush
}

// paid gives the orders that are paid.
func paid(t *testing.T, shop *local.Shop) map[string]bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), shop.Postgres.URL("order"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT id::text FROM orders WHERE status = 'paid'")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// script runs one of ours against the shop's server, whose programs it finds first.
func script(t *testing.T, shop *local.Shop, name string, args ...string) {
	t.Helper()
	bin, err := testkit.PostgresBin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgx.ParseConfig(shop.Postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "./"+name, args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"PGHOST="+server.Host, "PGPORT="+strconv.Itoa(int(server.Port)), "PGUSER="+server.User, "PGPASSWORD="+server.Password)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	t.Logf("%s: %s", name, out)
}
