// Command browser looks at the page that shows how the shop is doing, in a real browser: it brings up a shop, lets customers
// buy in it, and runs the checks in ops.spec.js with Playwright, which have a process killed on the way. It needs Chromium
// and Node.js. With -hold it runs no checks, but leaves all that running to be looked at by hand, until interrupted.
//
// What follows the flags is for Playwright, such as -g breaker.
//
// It closes with "ops-check: checks=… failed=…". Pictures of the page are in .souk/ops-check.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/npm"
	"souk/deploy/shopper"
	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	hold := flag.Bool("hold", false, "run no checks, leave the shop running")
	flag.Parse()
	checks, failed, err := run(ctx, *hold)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ops-check:", err)
		failed = max(failed, 1)
	}
	if !*hold {
		fmt.Fprintf(os.Stdout, "ops-check: checks=%d failed=%d\n", checks, failed)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, hold bool) (checks, failed int, err error) {
	root, err := local.Root()
	if err != nil {
		return 0, 0, err
	}
	// Before the shop, which takes longer.
	chromium, err := browser()
	if err != nil {
		return 0, 0, err
	}
	bin, err := npm.Install(ctx, root, filepath.Join(root, "deploy", "e2e", "browser"), os.Stdout)
	if err != nil {
		return 0, 0, err
	}
	dir := filepath.Join(root, ".souk", "ops-check")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, 0, err
	}
	shop, err := local.Up(ctx, local.Config{
		RunDir: filepath.Join(dir, "shop"), Log: os.Stdout,
		Env: func(string) []string {
			return []string{"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0"} // everybody here has one address
		},
	})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, shop.Down(context.WithoutCancel(ctx))) }()
	leave, err := customers(ctx, shop.Gateway)
	if err != nil {
		return 0, 0, err
	}
	defer leave()
	if hold {
		fmt.Fprintf(os.Stdout, "look at %s/ops as admin@souk.example; interrupt to end\n", shop.Gateway)
		<-ctx.Done()
		return 0, 0, nil
	}
	control, close, err := serveControl(ctx, shop)
	if err != nil {
		return 0, 0, err
	}
	defer close()
	return look(ctx, root, dir, bin, []string{"SHOP=" + shop.Gateway, "CONTROL=" + control, "CHROMIUM=" + chromium})
}

// browser is Chromium, by one of the names that it has.
func browser() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no chromium on PATH: install it (Debian: apt-get install chromium)")
}

// purse is what a customer has to spend.
var purse = money.Money{Amount: 50_000_00, Currency: "USD"} //nolint:gochecknoglobals // never changes

// customers buy, a little at a time, until leave is called.
func customers(ctx context.Context, gateway string) (leave func(), err error) {
	admin, err := shopper.Admin(ctx, gateway)
	if err != nil {
		return nil, err
	}
	bowl, err := admin.Goods(ctx, "Tea bowl to be looked at", money.Money{Amount: 12_50, Currency: "USD"}, 1_000_000)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	leave = func() { cancel(); group.Wait() }
	for range 4 {
		ann, err := shopper.Customer(ctx, gateway, purse)
		if err != nil {
			leave()
			return nil, err
		}
		group.Go(func() { shopping(ctx, gateway, ann, bowl) })
	}
	return leave, nil
}

// shopping goes on whatever the shop answers: to see it in trouble is what we are here for. Whose token has expired sends
// somebody else.
func shopping(ctx context.Context, gateway string, ann *shopper.Person, bowl uuid.UUID) {
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		_, _ = ann.Browse(ctx, "tea")
		if i%3 == 0 {
			if _, err := ann.Buy(ctx, bowl, 1); fault.Is(err, fault.Unauthenticated) {
				if next, err := shopper.Customer(ctx, gateway, purse); err == nil {
					ann = next
				}
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// serveControl lets the checks do things to the shop's processes: POST /kill/product-2, POST /start/product-2.
func serveControl(ctx context.Context, shop *local.Shop) (url string, end func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	for what, do := range map[string]func(context.Context, string) error{
		"kill": shop.Kill,
		"start": func(ctx context.Context, name string) error {
			return errors.Join(shop.Start(ctx, name), shop.WaitReady(ctx, name))
		},
	} {
		mux.HandleFunc("POST /"+what+"/{name}", func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }() // until it is closed
	return "http://" + l.Addr().String(), func() { _ = server.Close() }, nil
}

// look runs the checks.
func look(ctx context.Context, root, dir, bin string, env []string) (checks, failed int, err error) {
	// Node looks for packages beside the files that import them.
	home := filepath.Dir(filepath.Dir(bin))
	for _, name := range []string{"ops.spec.js", "playwright.config.js"} {
		b, err := os.ReadFile(filepath.Join(root, "deploy", "e2e", "browser", name))
		if err != nil {
			return 0, 0, err
		}
		if err := os.WriteFile(filepath.Join(home, name), b, 0o600); err != nil {
			return 0, 0, err
		}
	}
	report := filepath.Join(dir, "report.json")
	_ = os.Remove(report) // of an earlier run, if any
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "playwright"), append([]string{"test"}, flag.Args()...)...)
	cmd.Dir = home
	cmd.Env = append(append(os.Environ(), env...), "REPORT="+report, "PICTURES="+dir, "PASSWORD="+local.SeedPassword())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	ran := cmd.Run()
	b, err := os.ReadFile(report)
	if err != nil {
		return 0, 0, errors.Join(ran, err)
	}
	var r struct {
		Stats struct{ Expected, Unexpected, Flaky, Skipped int }
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, 0, err
	}
	s := r.Stats
	checks, failed = s.Expected+s.Unexpected+s.Flaky+s.Skipped, s.Unexpected+s.Flaky+s.Skipped
	if checks == 0 {
		return 0, 1, errors.New("no check ran")
	}
	if failed == 0 {
		err = ran
	}
	return checks, failed, err
}
