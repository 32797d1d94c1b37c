package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/migrations"
	"souk/shared/app"
	"souk/shared/testkit"
	"souk/shared/twopc"
)

// serveBank is a bank's process: this program again, with BENCH_BANK set.
func serveBank(ctx context.Context, a *app.App) error {
	schema := testkit.BankSchema()
	db, err := a.Database(ctx, migrations.Participant(), migrations.Set{Name: schema.Name, FS: schema.FS})
	if err != nil {
		return err
	}
	p := twopc.NewParticipant(twopc.Deps{DB: db, Mesh: a.Mesh, Log: a.Log, Metrics: a.Metrics, Now: a.Now}, testkit.BankActions())
	p.Routes(a.HTTP, a.Name)
	a.Go("inquiry", p.Run)
	return a.Serve(ctx)
}

// bank is one of the two, with the database that it borrows from a service that does not run here.
type bank struct {
	name, database string
	process        *exec.Cmd
}

func startBank(ctx context.Context, shop *local.Shop, name, database string) (*bank, error) {
	port, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(),
		"BENCH_BANK="+name, "INSTANCE="+name+"-1", "SERVICE_ADDR=127.0.0.1:"+strconv.Itoa(port), "ADMIN_ADDR=127.0.0.1:"+strconv.Itoa(admin),
		"ADVERTISE_HOST=127.0.0.1", "CONSUL_HTTP_ADDR="+shop.Consul, "DATABASE_URL="+shop.Postgres.URL(database))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start bank %s: %w", name, err)
	}
	return &bank{name: name, database: database, process: cmd}, nil
}

func (b *bank) stop() error {
	err := errors.Join(b.process.Process.Signal(syscall.SIGTERM), b.process.Wait())
	if err != nil {
		return fmt.Errorf("stop bank %s: %w", b.name, err)
	}
	return nil
}
