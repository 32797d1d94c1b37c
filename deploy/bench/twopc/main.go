// Command twopc measures two-phase commit as the shop runs it: real processes, real Consul, PostgreSQL with fsync on. Two
// banks with a database each move money between their accounts through the coordinator over HTTP, in a closed loop of
// 1 to 64 clients, spread over a thousand accounts and onto a single hot one. The floor is the same transfer as one local
// SQL transaction on the same server. Only ratios of one run mean anything; the machine sets the rest.
//
//	make bench-2pc
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"souk/shared/app"
)

func main() {
	if name := os.Getenv("BENCH_BANK"); name != "" {
		app.Main(name, serveBank)
	}
	os.Exit(exitStatus())
}

func exitStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	each := flag.Duration("each", 5*time.Second, "how long each measurement lasts")
	flag.Parse()
	err := bench(ctx, *each, os.Stdout)
	if err != nil && !errors.Is(err, errBars) {
		fmt.Fprintln(os.Stderr, "twopc:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}
