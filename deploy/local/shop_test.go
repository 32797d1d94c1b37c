package local

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// noServices is a shop of its servers only: what the launcher itself is made of.
func noServices(t *testing.T) Config {
	t.Helper()
	none := map[string]int{}
	for _, service := range services {
		none[service] = 0
	}
	return Config{RunDir: t.TempDir(), Instances: none, Log: t.Output()}
}

func TestUp_makesADatabasePerServiceThatOthersCannotEnter(t *testing.T) {
	t.Parallel()
	shop, err := Up(t.Context(), noServices(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})

	for _, service := range services {
		if service == "gateway" {
			continue
		}
		conn, err := pgx.Connect(t.Context(), shop.Postgres.URL(service))
		if err != nil {
			t.Fatalf("%s cannot enter its own database: %v", service, err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
			t.Errorf("%s does not own its database: %v", service, err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	own := shop.Postgres.URL("user")
	for _, other := range []string{"payment", "order", "postgres", "template1"} {
		_, err := pgx.Connect(t.Context(), strings.Replace(own, "/user?", "/"+other+"?", 1))
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("user enters %s: got %v, want permission denied", other, err)
		}
	}
}

func TestShop_survivesTheDeathOfItsServers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shop, err := Up(ctx, noServices(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	execute := func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, shop.Postgres.URL("order"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	execute("CREATE TABLE kept (id int)")
	for _, name := range []string{"postgres", "consul"} {
		if err := shop.Kill(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := shop.Start(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := shop.Start(ctx, name); err == nil {
			t.Errorf("%s was started twice", name)
		}
	}
	execute("INSERT INTO kept VALUES (1)")
}

func TestUp_onceOnly(t *testing.T) {
	t.Parallel()
	cfg := noServices(t)
	shop, err := Up(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var running *RunningError
	if _, err := Up(t.Context(), cfg); !errors.As(err, &running) || running.Running != 2 {
		t.Errorf("second Up: got %v, want a RunningError with both servers", err)
	}
	for range 2 { // the second has nothing to do
		if err := shop.Down(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(cfg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Down: got %v, want ErrNotRunning", err)
	}
	if _, err := os.Stat(shop.postgresDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
}

func TestUp_startsAfreshWhereAShopDied(t *testing.T) {
	t.Parallel()
	cfg := noServices(t)
	dead, err := Up(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "consul"} {
		if err := dead.Kill(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	shop, err := Up(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := shop.Down(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUp_takesEverythingDownWhenInterrupted(t *testing.T) {
	t.Parallel()
	cfg := noServices(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Log = cancelAt{"consul leads", cancel}
	shop, err := Up(ctx, cfg)
	if err == nil {
		err = shop.Down(t.Context())
		t.Fatalf("Up succeeded after an interrupt (%v)", err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
}

// cancelAt cancels when a line with text is written.
type cancelAt struct {
	text   string
	cancel context.CancelFunc
}

func (c cancelAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.text) {
		c.cancel()
	}
	return len(b), nil
}

func TestLoadState_afterAReboot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		boot  string
		alive bool
	}{{boot, true}, {"the boot before", false}} {
		s := &state{Boot: tt.boot, Postgres: serverState{Process: self}}
		if err := s.save(dir); err != nil {
			t.Fatal(err)
		}
		got, err := loadState(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got.Postgres.Alive() != tt.alive {
			t.Errorf("boot %q: got alive=%t, want %t", tt.boot, got.Postgres.Alive(), tt.alive)
		}
	}
}

func TestProcess_neverSignalsARecycledID(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	recycled := Process{PID: p.PID, Start: p.Start - 1} // the same number, of an earlier process
	if recycled.Alive() {
		t.Error("an earlier process with the same id is taken for alive")
	}
	if err := recycled.signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if !p.Alive() {
		t.Fatal("the wrong process was killed")
	}
	if killed, err := p.stop(t.Context(), syscall.SIGTERM, 5*time.Second); killed || err != nil {
		t.Errorf("stop: got killed=%t, %v", killed, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("sleep ended by itself")
	}
}

func TestParseInstances(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"": true, "product=2": true, " product=2, payment=0,": true,
		"product": false, "product=-1": false, "product=two": false, "shop=1": false, "product=21": false,
	} {
		if _, err := ParseInstances(in); (err == nil) != ok {
			t.Errorf("%q: got %v, want success %t", in, err, ok)
		}
	}
}
