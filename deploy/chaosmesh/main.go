// Command chaosmesh breaks what a call between services depends on, one fault after the other, with real processes and a real
// Consul, and measures what the callers notice. The processes are this program again: a node is a service on the shop's own
// app, httpapi, registry and mesh, which answers, calls the next one, and can be told to misbehave. The rolling restart is
// the shop itself.
//
// A row per fault says what was done, how many calls succeeded, the 99th percentile while the fault lasted, how long until
// all was well again, and how many goroutines and open files the survivors have more than before. What must hold is listed
// under it. Times depend on the machine, so where one is judged, it is against the same calls before the fault.
//
//	make chaos-mesh
//	make chaos-mesh ROWS=kill,slow
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"souk/shared/app"
)

func main() {
	if name := os.Getenv("CHAOS_NODE"); name != "" {
		app.Main(name, serveNode)
	}
	if os.Getenv("CHAOS_CROWD") != "" {
		os.Exit(exitStatus(serveCrowd))
	}
	os.Exit(exitStatus(drive))
}

func exitStatus(do func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	err := do(ctx)
	if err != nil && !errors.Is(err, errBars) {
		fmt.Fprintln(os.Stderr, "chaosmesh:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

func drive(ctx context.Context) error {
	only := flag.String("rows", "", "the rows to run, separated by commas; all when empty")
	seed := flag.Uint64("seed", 0, "of the nodes' times and faults; 0 draws one")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	selected := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' || r == ' ' })
	return run(ctx, selected, *seed, os.Stdout)
}
