// Command chaos runs fault campaigns against a shop: see souk/deploy/chaos.
//
//	CHAOS_SECONDS=60 CHAOS_SEED=7 make chaos
//	make chaos-mutants
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"souk/deploy/chaos"
)

func main() { os.Exit(exitStatus()) }

func exitStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	seed := flag.Uint64("seed", uint64(time.Now().UnixMilli()), "decides what is done when; zero is taken for none")
	length := flag.Duration("for", time.Minute, "how long there are faults")
	mutants := flag.Bool("mutants", false, "plant bugs, and see that each is caught")
	dir := flag.String("dir", "", "the run directory of the shop, with its logs; a temporary one when empty")
	quiet := flag.Bool("quiet", false, "say nothing while it runs")
	flag.Parse()
	conf := chaos.Config{Seed: *seed, Length: *length, RunDir: *dir, Log: os.Stderr}
	if *quiet {
		conf.Log = io.Discard
	}
	run := campaign
	if *mutants {
		run = hunt
	}
	ok, err := run(ctx, conf)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

func campaign(ctx context.Context, conf chaos.Config) (bool, error) {
	report, err := chaos.Run(ctx, conf)
	if err != nil {
		return false, fmt.Errorf("seed %d: %w", conf.Seed, err)
	}
	report.Print(os.Stdout, 20)
	report.Close(os.Stdout)
	return report.Sound(), nil
}

// hunt runs the same campaign on the shop as it is, which must pass, and with each bug planted, which must not.
func hunt(ctx context.Context, conf chaos.Config) (bool, error) {
	report, err := chaos.Run(ctx, conf)
	if err != nil {
		return false, err
	}
	report.Print(os.Stdout, 20)
	ok, caught := report.Sound(), 0
	for _, m := range chaos.Mutants() {
		conf.Mutant = m
		report, err := chaos.Run(ctx, conf)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.Name, err)
		}
		fmt.Fprintf(os.Stdout, "\n%s:\n", m.Name)
		report.Print(os.Stdout, 2)
		if report.Sound() {
			fmt.Fprintf(os.Stdout, "%s SURVIVED\n", m.Name)
			continue
		}
		fmt.Fprintf(os.Stdout, "%s was caught\n", m.Name)
		caught++
	}
	fmt.Fprintf(os.Stdout, "chaos-mutants: mutants=%d caught=%d\n", len(chaos.Mutants()), caught)
	return ok && caught == len(chaos.Mutants()), nil
}
