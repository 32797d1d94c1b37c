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
	"souk/deploy/proc"
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

// bank is a service with accounts, and a database.
type bank struct {
	name, admin, database string // admin is where it answers /metrics
	process               *exec.Cmd
	ended                 <-chan struct{}
}

func startBank(ctx context.Context, shop *local.Shop, name, database string) (*bank, error) {
	port, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	adminPort, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bank{name: name, admin: "127.0.0.1:" + strconv.Itoa(adminPort), database: database}
	b.process = exec.CommandContext(ctx, self)
	joined, err := shop.Join(ctx, name)
	if err != nil {
		return nil, err
	}
	b.process.Env = append(append(os.Environ(), joined...), alsoCalls(),
		"BENCH_BANK="+name, "INSTANCE="+name+"-1", "SERVICE_ADDR=127.0.0.1:"+strconv.Itoa(port), "ADMIN_ADDR="+b.admin,
		"ADVERTISE_HOST=127.0.0.1", "DATABASE_URL="+shop.Postgres.SuperuserURL(database))
	b.process.Stderr = os.Stderr
	b.process.Cancel = func() error { return b.process.Process.Signal(syscall.SIGTERM) }
	b.process.WaitDelay = 20 * time.Second
	if b.ended, err = proc.Attached(b.process); err != nil {
		return nil, fmt.Errorf("start bank %s: %w", name, err)
	}
	return b, nil
}

func (b *bank) stop() error {
	err := b.process.Process.Signal(syscall.SIGTERM)
	<-b.ended
	if state := b.process.ProcessState; !state.Success() {
		err = errors.Join(err, &exec.ExitError{ProcessState: state})
	}
	if err != nil {
		return fmt.Errorf("stop bank %s: %w", b.name, err)
	}
	return nil
}
