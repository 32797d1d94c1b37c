// Command load sees how a shop of its own stands customers: many for a while, then ten times more than it can serve, then
// as many as before. The first part is the k6 script beside it; of the second it is known what the shop can serve, because
// that is measured in turns with it, by the same customers.
//
//	steady    LOAD_RATE customers a second for LOAD_SECONDS: nobody is refused, memory and goroutines do not grow
//	peak      16 at a time for each of its processors, each followed by the next: what the shop can serve
//	overload  ten times that: who is served is at least four fifths of the peak; the others are told to come back
//	recovery  half of the peak: within ten seconds everybody is served in good time again, without anybody's help;
//	          then it begins again with the peak, twice in all, because no machine is equally fast all the time
//
// Customers have machines of their own. Here the crowd, and k6, have a processor of theirs and the shop has the others, in every
// phase alike (apart.go); otherwise what it costs to ask would be taken from what is served, and the more of that the
// faster the shop says no. With one processor everything shares it.
//
// At the end money and goods are counted. It closes with "load: orders_per_s=… p50_ms=… p95_ms=… p99_ms=… errors=…
// invariant_violations=… overload_goodput=…"; the times are those of a request to pay, at steady load.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/money"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	people     = 120              // who shops; k6 has a virtual user for each
	others     = 240              // who come besides for the overload: of a few people, each would shop many times at once
	goods      = 5                // what they buy: few things, which many want at once
	atPeak     = 16               // at a time, for each processor of the shop: enough to keep it busy; more would wait, or meet its bound
	rounds     = 2                // of peak, overload and recovery
	peakTime   = 8 * time.Second  // to find the peak in, each time
	overTime   = 20 * time.Second // of overload, each time
	overFactor = 10
	leastGood  = 0.8              // of the peak, under overload
	recovery   = 10 * time.Second // by when all is well again
	restTime   = 30 * time.Second // by when nothing is under way
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	l := &load{begin: time.Now()}
	if err := l.run(ctx); err != nil {
		l.fail("%v", err)
	}
	fmt.Fprintf(os.Stdout, "load: orders_per_s=%.1f p50_ms=%.1f p95_ms=%.1f p99_ms=%.1f errors=%d invariant_violations=%d overload_goodput=%.2f\n",
		l.ordersPerSecond, l.p50, l.p95, l.p99, l.errors, l.violations, l.goodput)
	if l.failed {
		stop()
		os.Exit(1) //nolint:gocritic // nothing else is deferred
	}
}

// load is a run and what came of it.
type load struct {
	begin time.Time
	apart *apart
	shop  *local.Shop
	admin *shopper.Person
	crowd []*shopper.Person
	shelf []uuid.UUID

	ordersPerSecond, p50, p95, p99 float64 // milliseconds
	errors, violations             int
	goodput                        float64 // under overload, as a share of the peak
	failed                         bool
}

func (l *load) say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%6.1fs  %s\n", time.Since(l.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (l *load) fail(format string, args ...any) {
	l.failed = true
	l.say("FAILED: "+format, args...)
}

func (l *load) run(ctx context.Context) (err error) {
	root, err := local.Root()
	if err != nil {
		return err
	}
	seconds, err1 := number("LOAD_SECONDS", 60)
	rate, err2 := number("LOAD_RATE", 12)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	k6, err := local.Tool(ctx, root, "k6", os.Stdout)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "souk-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l.apart = split()
	if err := l.apart.shop(); err != nil {
		return err
	}
	l.shop, err = local.Up(ctx, local.Config{RunDir: filepath.Join(dir, "shop"), Log: os.Stdout, Env: func(string) []string {
		// All the customers have one address. A line for every request would be a file of some gigabytes.
		return []string{"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0", "LOG_LEVEL=error"}
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.shop.Down(context.WithoutCancel(ctx))) }()
	if err := l.apart.customers(); err != nil {
		return err
	}
	l.say("%s", l.apart)
	if err := l.open(ctx); err != nil {
		return err
	}
	if err := l.steady(ctx, k6, root, dir, seconds, rate); err != nil {
		return err
	}
	if err := l.count(ctx); err != nil {
		return err
	}
	if err := l.overload(ctx); err != nil {
		return err
	}
	return l.count(ctx)
}

// open fills the shop with goods, and has people come to it with full wallets.
func (l *load) open(ctx context.Context) (err error) {
	if l.admin, err = shopper.Admin(ctx, l.shop.Gateway); err != nil {
		return err
	}
	for i := range goods {
		id, err := l.admin.Goods(ctx, fmt.Sprintf("Tea bowl, number %d", i+1), money.Money{Amount: int64(9_90 + i), Currency: "USD"}, 1_000_000)
		if err != nil {
			return err
		}
		l.shelf = append(l.shelf, id)
	}
	if err := l.come(ctx, people); err != nil {
		return err
	}
	l.say("%d people have come, for %d things", people, goods)
	return nil
}

// come has that many more people come.
func (l *load) come(ctx context.Context, n int) error {
	more := make([]*shopper.Person, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // a password is hashed while the next is on its way
	for i := range more {
		g.Go(func() (err error) {
			more[i], err = shopper.Customer(ctx, l.shop.Gateway, money.Money{Amount: 1_000_000_00, Currency: "USD"})
			return err
		})
	}
	err := g.Wait()
	l.crowd = append(l.crowd, more...)
	return err
}

// count checks what must be true of money and goods, however many have shopped.
func (l *load) count(ctx context.Context) error {
	violations, err := shopper.AtRest(ctx, l.shop, restTime)
	l.violations += len(violations)
	for _, v := range violations {
		l.fail("%v", v)
	}
	if err == nil && len(violations) == 0 {
		l.say("money and goods are right")
	}
	return err
}

func number(name string, usual float64) (float64, error) {
	text := os.Getenv(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s=%s is no positive number", name, text)
	}
	return n, nil
}
