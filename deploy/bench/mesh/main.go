// Command mesh measures calling by name and the edge of the shop, with real processes: the shop's own gateway and Consul, and
// as neighbours Debian's nginx and Caddy, plain reverse proxies to the same origin on the same processor. The machine sets
// the absolute numbers and other work on it the noise, so whatever is compared takes turns, round by round, and what is
// printed are medians.
//
// The phases:
//
//	call      a call by name against a bare http.Client with a kept connection to one instance, with and without mutual TLS
//	balance   one slow instance of three: the mesh against round robin and least in flight
//	hop       a request through the gateway, and through its neighbours, against the same request to the origin itself; its
//	          neighbours speak plainly with the origin, so the gateway is there twice, and once does, too
//	load      requests a second through each, one processor for the proxy and the rest for those around it
//	memory    ten thousand kept connections
//
//	make bench-mesh
//
// It needs Linux, two processors, and 10 100 open files per process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() { os.Exit(exitStatus()) }

func exitStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	err := run(ctx)
	if err != nil && !errors.Is(err, errBars) {
		fmt.Fprintln(os.Stderr, "mesh:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

func run(ctx context.Context) error {
	switch role := os.Getenv(roleVariable); role {
	case "":
	case "origin":
		return serveOrigin(ctx, os.Stdin, os.Stdout)
	case "load":
		return makeLoad(ctx, os.Stdin, os.Stdout)
	case "crowd":
		return gather(ctx, os.Stdin, os.Stdout)
	default:
		return fmt.Errorf("there is no role %q", role)
	}
	only := flag.String("only", "", "phases, separated by commas; the closing line and the bars need all of them")
	scale := flag.Float64("scale", 1, "how long to measure, as a factor")
	flag.Parse()
	phases := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	return bench(ctx, phases, *scale, os.Stdout)
}
