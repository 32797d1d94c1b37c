// Command souk runs the whole shop on this machine. Run it without arguments for its commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"souk/deploy/local"
)

const usage = `souk runs the whole shop on this machine: PostgreSQL, Consul and every service.

  souk up              build and start it; it keeps running (INSTANCES="product=2,payment=2" says how many)
  souk demo            up, then a customer buys something
  souk down            stop everything, remove the data
  souk status          what runs, where, and how much memory it takes
  souk env             its addresses, for a shell
  souk stop NAME       drain and end one process: product-2, ..., postgres, consul
  souk kill NAME       end it as a power cut would
  souk start NAME      start it again on the same ports
  souk keys WHAT       rotate, rewrap or check the keys that seal personal data
  souk lint            check style and the rules of the house
  souk fmt             format the code
  souk model           check the model of two-phase commit, and that the check finds what is broken on purpose
  souk tools [NAME]    get PostgreSQL, Consul and the linter
  souk test [-name N] [-durable] [-packages P,P] [-- flags of go test]
                       run the tests on a PostgreSQL and a Consul of their own
`

func main() { os.Exit(exitStatus()) }

func exitStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that has seen enough (souk up | head) must not end us half-way through.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "souk: interrupted")
		return 130 // as a shell would say it
	case errors.Is(err, local.ErrTold):
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, "souk:", err)
		return 1
	}
	return 0
}

// run does one command. After an interrupt, up and demo take down what they had started before they return.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		_, err := io.WriteString(out, usage)
		return err
	}
	command, args := args[0], args[1:]
	switch command {
	case "up", "demo":
		return up(ctx, out, command == "demo")
	case "tools":
		return tools(ctx, args, out)
	case "test":
		return test(ctx, args, out)
	case "lint":
		return local.Lint(ctx, local.Config{Log: out})
	case "model":
		return local.Model(ctx, local.Config{Log: out})
	case "fmt":
		return local.Format(ctx, local.Config{Log: out})
	}
	shop, err := local.Open(local.Config{Log: out})
	if errors.Is(err, local.ErrNotRunning) && (command == "down" || command == "status") {
		_, err := fmt.Fprintln(out, "nothing is running")
		return err
	}
	if err != nil {
		return err
	}
	switch command {
	case "down":
		return shop.Down(ctx)
	case "status":
		return shop.Status(ctx, out)
	case "env":
		return shop.Addresses(out)
	case "keys":
		if len(args) != 1 {
			return errors.New("say what: souk keys rotate, rewrap or check")
		}
		return shop.Keys(ctx, args[0], out)
	case "stop", "kill", "start":
		if len(args) != 1 {
			return fmt.Errorf("say which: souk %s NAME (see souk status)", command)
		}
		return steer(ctx, shop, command, args[0])
	}
	return fmt.Errorf("there is no command %q; run souk alone for the list", command)
}

func up(ctx context.Context, out io.Writer, demo bool) error {
	instances, err := local.ParseInstances(os.Getenv("INSTANCES"))
	if err != nil {
		return err
	}
	cfg := local.Config{Instances: instances, UsualPorts: true, Detach: true, TestID: true, Log: out}
	if demo {
		return local.Demo(ctx, cfg)
	}
	_, err = local.Up(ctx, cfg)
	var running *local.RunningError
	if errors.As(err, &running) && running.Running == running.All {
		_, err = fmt.Fprintln(out, running)
	}
	return err
}

func steer(ctx context.Context, shop *local.Shop, command, name string) error {
	switch command {
	case "stop":
		return shop.Stop(ctx, name)
	case "kill":
		return shop.Kill(ctx, name)
	}
	if err := shop.Start(ctx, name); err != nil || name == "postgres" || name == "consul" {
		return err
	}
	return shop.WaitReady(ctx, name)
}

func tools(ctx context.Context, names []string, out io.Writer) error {
	if len(names) == 0 {
		names = []string{"postgres", "consul", "golangci-lint"}
	}
	root, err := local.Root()
	if err != nil {
		return err
	}
	for _, name := range names {
		install := map[string]func(context.Context, io.Writer) error{"postgres": local.Postgres, "spin": local.Spin}[name]
		if install != nil {
			if err := install(ctx, out); err != nil {
				return err
			}
			continue
		}
		if _, err := local.Tool(ctx, root, name, out); err != nil {
			return err
		}
	}
	return nil
}

func test(ctx context.Context, args []string, out io.Writer) error {
	cfg := local.TestConfig{Log: out}
	if i := slices.Index(args, "--"); i >= 0 {
		args, cfg.Flags = args[:i], args[i+1:]
	}
	flags := flag.NewFlagSet("souk test", flag.ContinueOnError)
	flags.StringVar(&cfg.Name, "name", "test", "first word of the closing line")
	flags.BoolVar(&cfg.Durable, "durable", false, "fsync on")
	packages := flags.String("packages", "", "patterns, separated by commas; every module if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *packages != "" {
		cfg.Packages = strings.Split(*packages, ",")
	}
	return local.Test(ctx, cfg)
}
