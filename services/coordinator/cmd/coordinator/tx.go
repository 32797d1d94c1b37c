package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"souk/services/coordinator"
	"souk/shared/app"
	wire "souk/shared/contract/coordinator"
	"souk/shared/fault"
	"souk/shared/postgres"

	"github.com/google/uuid"
)

const usage = `coordinator tx: what an operator needs of the decision register.

  tx ls                              decided transactions not yet carried out everywhere, the oldest first
     --all                           those that are carried out too, the newest first
     --state committed|aborted       only those
     --older 30s                     only those decided at least so long ago
     --limit 100                     at most so many
  tx show GID                        one transaction: every step, when, and which instance saw it
  tx stats [--since 1h]              counts by outcome, what is in doubt, retries, heuristics
  tx resolve GID --abort --reason "…"
                                     call off a transaction that nobody has decided; a decision is never changed
  tx resolve GID --redrive           have a decided one carried out now, whatever pause recovery is in
  tx heuristics [--all] [--limit 100]
                                     outcomes that a participant contradicts and nobody has acknowledged
  tx ack GID --reason "…"            say that you have looked at one, and what came of it

Every command takes --json. resolve and ack take --by NAME; it is $USER otherwise. Transactions that are not decided are
not in the register: their branches ask by themselves, and make them aborted ones once their deadline is over.

The exit status is 0, 1 for a failure, 2 for a command that makes no sense, 3 where a decision or the state of the
transaction forbids it (nothing was changed), 4 for a transaction that is not decided.

It needs DATABASE_URL and nothing else:
  DATABASE_URL=… .souk/bin/coordinator tx ls
  docker compose exec coordinator /service tx ls
`

// The exit statuses, beside 0 and 1.
const (
	nonsense = 2
	forbids  = 3
	unknown  = 4
)

const txTime = 30 * time.Second // for one command: counting a large register takes seconds

// tx is the operator's command.
func tx(ctx context.Context, a *app.App) error {
	var env struct {
		User string `env:"USER"`
	}
	if err := a.Env(&env); err != nil {
		return err
	}
	if len(a.Args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, a.Args[0]) {
		fmt.Fprint(a.Out, usage)
		return nil
	}
	if a.Config.DatabaseURL == "" {
		return exit(errors.New("DATABASE_URL is not set"))
	}
	// Not App.Database: a look at the register must not change its schema, nor wait for a database that is away.
	db, err := postgres.Open(postgres.Config{URL: string(a.Config.DatabaseURL), MaxConns: 1})
	if err != nil {
		return exit(err)
	}
	defer func() { _ = postgres.Close(db) }()
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	c := console{
		operator: coordinator.NewOperator(db, a.Now, a.Config.Instance+"/tx"), out: a.Out, now: a.Now, user: env.User,
	}
	return exit(c.run(ctx, a.Args))
}

// exit gives an error its exit status, and tells it in words a person can use.
func exit(err error) error {
	var has *app.ExitError
	if err == nil || errors.As(err, &has) {
		return err
	}
	f, status := fault.Of(err), 1
	switch {
	case f.Kind == fault.Conflict && !postgres.Busy(err):
		status = forbids
	case f.Kind == fault.NotFound:
		status = unknown
	}
	if f.Kind != fault.Internal {
		err = errors.New(f.Message)
	}
	return &app.ExitError{Status: status, Err: err}
}

// console is an operator with a screen.
type console struct {
	operator *coordinator.Operator
	out      io.Writer
	now      func() time.Time
	user     string
}

// options are all that any command takes.
type options struct {
	json, all, abort, redrive bool
	state, reason, by         string
	older, since              time.Duration
	limit                     int
}

// run does what args say; there is one at least.
func (c console) run(ctx context.Context, args []string) error {
	commands := map[string]struct {
		flags string
		gid   bool
		do    func(context.Context, uuid.UUID, options) error
	}{
		"ls":         {"all state older limit", false, c.ls},
		"show":       {"", true, c.show},
		"stats":      {"since", false, c.stats},
		"resolve":    {"abort redrive reason by", true, c.resolve},
		"heuristics": {"all limit", false, c.heuristics},
		"ack":        {"reason by", true, c.ack},
	}
	command, ok := commands[args[0]]
	if !ok {
		return wrong("there is no command %q", args[0])
	}
	o, rest, err := c.parse(command.flags, args[1:])
	if err != nil {
		return wrong("%v", err)
	}
	var gid uuid.UUID
	if command.gid {
		if len(rest) == 0 {
			return wrong("%s needs the id of a transaction", args[0])
		}
		if gid, err = uuid.Parse(rest[0]); err != nil {
			return wrong("%q is not the id of a transaction", rest[0])
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return wrong("%s does not know what to do with %q", args[0], rest[0])
	}
	return command.do(ctx, gid, o)
}

func wrong(format string, args ...any) error {
	return &app.ExitError{Status: nonsense, Err: fmt.Errorf(format+"; coordinator tx help tells what there is", args...)}
}

// parse reads the flags that are in names, before and after other arguments, and gives those others.
func (c console) parse(names string, args []string) (o options, rest []string, err error) {
	f := flag.NewFlagSet("tx", flag.ContinueOnError)
	f.SetOutput(io.Discard) // what is wrong is in the error
	f.BoolVar(&o.json, "json", false, "")
	o.limit = 100
	for name := range strings.FieldsSeq(names) {
		switch name {
		case "all":
			f.BoolVar(&o.all, name, false, "")
		case "abort":
			f.BoolVar(&o.abort, name, false, "")
		case "redrive":
			f.BoolVar(&o.redrive, name, false, "")
		case "state":
			f.StringVar(&o.state, name, "", "")
		case "reason":
			f.StringVar(&o.reason, name, "", "")
		case "by":
			f.StringVar(&o.by, name, c.user, "")
		case "older":
			f.DurationVar(&o.older, name, 0, "")
		case "since":
			f.DurationVar(&o.since, name, 0, "")
		case "limit":
			f.IntVar(&o.limit, name, o.limit, "")
		}
	}
	for {
		if err = f.Parse(args); err != nil || f.NArg() == 0 {
			return o, rest, err
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// who is who does it and why; both are demanded.
func (o options) who() (wire.Resolution, error) {
	by := wire.Resolution{By: strings.TrimSpace(o.by), Reason: strings.TrimSpace(o.reason)}
	if by.Reason == "" {
		return by, wrong(`say why: --reason "…"`)
	}
	if by.By == "" {
		return by, wrong("say who you are: --by NAME")
	}
	return by, nil
}

func (c console) ls(ctx context.Context, _ uuid.UUID, o options) error {
	if o.state != "" && o.state != string(wire.Committed) && o.state != string(wire.Aborted) {
		return wrong("a decided transaction is committed or aborted, not %q", o.state)
	}
	if o.limit < 1 || o.older < 0 {
		return wrong("--limit and --older are not below zero")
	}
	list, err := c.operator.List(ctx, coordinator.Filter{All: o.all, State: wire.State(o.state), Older: o.older, Limit: o.limit})
	if err != nil {
		return err
	}
	return c.list(o, list, "nothing is in doubt")
}

func (c console) heuristics(ctx context.Context, _ uuid.UUID, o options) error {
	list, err := c.operator.List(ctx, coordinator.Filter{Heuristic: true, All: o.all, Limit: max(o.limit, 1)})
	if err != nil {
		return err
	}
	return c.list(o, list, "no heuristic outcome waits for anybody")
}

func (c console) list(o options, list []wire.Transaction, none string) error {
	switch {
	case o.json:
		return c.json(list)
	case len(list) == 0:
		fmt.Fprintln(c.out, none)
		return nil
	default:
		return c.transactions(list)
	}
}

func (c console) show(ctx context.Context, gid uuid.UUID, o options) error {
	t, err := c.operator.Show(ctx, gid)
	switch {
	case err != nil:
		return err
	case o.json:
		return c.json(t)
	default:
		return c.timeline(t)
	}
}

func (c console) stats(ctx context.Context, _ uuid.UUID, o options) error {
	var since time.Time
	if o.since > 0 {
		since = c.now().Add(-o.since)
	}
	s, err := c.operator.Statistics(ctx, since)
	switch {
	case err != nil:
		return err
	case o.json:
		return c.json(s)
	default:
		return c.statistics(s)
	}
}

func (c console) resolve(ctx context.Context, gid uuid.UUID, o options) error {
	switch {
	case o.abort == o.redrive:
		return wrong("resolve needs one of --abort and --redrive")
	case o.redrive:
		return c.redrive(ctx, gid, o)
	}
	by, err := o.who()
	if err != nil {
		return err
	}
	out, err := c.operator.CallOff(ctx, gid, by)
	switch {
	case err != nil:
		return err
	case o.json:
		return c.json(out)
	case out.Replayed:
		fmt.Fprintf(c.out, "%s was aborted already: nothing was changed\n", gid)
	default:
		fmt.Fprintf(c.out, "%s is aborted; branches that hold something learn of it within seconds\n", gid)
	}
	return nil
}

func (c console) redrive(ctx context.Context, gid uuid.UUID, o options) error {
	if strings.TrimSpace(o.by) == "" {
		return wrong("say who you are: --by NAME")
	}
	t, err := c.operator.Redrive(ctx, gid, o.by)
	if err != nil {
		return err
	}
	if o.json {
		return c.json(t)
	}
	fmt.Fprintf(c.out, "%s is due now: whichever coordinator comes first tells its branches again\n", gid)
	return nil
}

func (c console) ack(ctx context.Context, gid uuid.UUID, o options) error {
	by, err := o.who()
	if err != nil {
		return err
	}
	t, err := c.operator.Acknowledge(ctx, gid, by)
	if err != nil {
		return err
	}
	if o.json {
		return c.json(t)
	}
	fmt.Fprintf(c.out, "%s is acknowledged\n", gid)
	return nil
}

func (c console) json(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
