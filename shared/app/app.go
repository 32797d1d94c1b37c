// Package app is the life of a service: read the configuration, open log, metrics, traces and database, serve, register,
// and on SIGTERM leave in an order that loses no request.
//
// A main function calls Main with a function that wires the service and ends in App.Serve. Starting needs nobody: while
// the database is away the service retries with backoff, while Consul is away it serves unregistered, and neither makes
// it exit. On SIGTERM: /readyz turns 503, the service leaves Consul, goes on serving for three seconds while callers
// notice, finishes what is running, stops its loops, and closes.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"souk/shared/crash"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/mesh"
	"souk/shared/peer"
	"souk/shared/postgres"
	"souk/shared/registry"
	"souk/shared/telemetry"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// Config is what every service reads from its environment.
type Config struct {
	ServiceAddr   string     `env:"SERVICE_ADDR" envDefault:":8080"`
	AdminAddr     string     `env:"ADMIN_ADDR" envDefault:":9090"`
	AdvertiseHost string     `env:"ADVERTISE_HOST"`        // empty is the host's name
	Instance      string     `env:"INSTANCE"`              // empty is service-host
	Zone          string     `env:"ZONE"`                  // where it runs; told to others
	Weight        string     `env:"WEIGHT" envDefault:"1"` // how much of the calls it takes, against 1 of the others
	ConsulAddr    string     `env:"CONSUL_HTTP_ADDR" envDefault:"127.0.0.1:8500"`
	MTLS          Switch     `env:"MTLS" envDefault:"on"` // between services; off is for tests of one service alone
	CallsAlso     string     `env:"CALLS_ALSO"`           // lines besides those of peer's table, for callers that are not the shop's
	DatabaseURL   Secret     `env:"DATABASE_URL"`
	DatabaseConns int        `env:"DATABASE_MAX_CONNS" envDefault:"10"`
	Migrate       Migrate    `env:"MIGRATE" envDefault:"start"`
	MaxInflight   int        `env:"MAX_INFLIGHT" envDefault:"256"` // requests answered at a time
	StateDir      string     `env:"STATE_DIR"`                     // what makes a start without Consul possible is kept there; empty keeps nothing
	KEKFile       string     `env:"KEK_FILE"`                      // has the key-encryption key; see shared/seal
	LogLevel      slog.Level `env:"LOG_LEVEL" envDefault:"INFO"`
	TraceEndpoint string     `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	Version       string     `env:"VERSION" envDefault:"dev"`
}

// Secret is text that never shows itself in a log or a message.
type Secret string

// String hides the secret from fmt and slog.
func (Secret) String() string { return "***" }

// Switch is "on" or "off".
type Switch bool

// UnmarshalText accepts the two words.
func (s *Switch) UnmarshalText(text []byte) error {
	if *s = string(text) == "on"; !*s && string(text) != "off" {
		return fmt.Errorf(`%q is neither "on" nor "off"`, text)
	}
	return nil
}

// Migrate says who brings the schema up to date: the service when it starts ("start"), or somebody else, for whom it
// waits ("wait").
type Migrate string

// UnmarshalText accepts the two words.
func (m *Migrate) UnmarshalText(text []byte) error {
	if *m = Migrate(text); *m != "start" && *m != "wait" {
		return fmt.Errorf(`%q is neither "start" nor "wait"`, text)
	}
	return nil
}

// errMigrated ends the command migrate when there is nothing left to do.
var errMigrated = errors.New("the schema is up to date")

// App is a service that is being wired or run. It is built by Main.
type App struct {
	Name    string
	Config  Config
	Log     *slog.Logger
	Metrics prometheus.Registerer
	HTTP    *httpapi.Server
	Mesh    *http.Client // calls other services by name
	Now     func() time.Time
	Args    []string  // what follows a command's name
	Out     io.Writer // where a command writes what it was asked for; the log goes elsewhere

	getenv    map[string]string
	started   time.Time
	registry  *registry.Registry
	mesh      *mesh.Mesh
	self      *registry.Identity
	peers     *peer.Peers // nil where mutual TLS is off
	calls     peer.Table
	db        *gorm.DB
	admin     *admin
	feed      *identity.Feed
	stopTrace func(context.Context) error
	loops     sync.WaitGroup
	loopCtx   context.Context // ends when the loops are to stop: after the last request
	stopLoops context.CancelFunc
	failed    chan error
	migrating bool // this is the command migrate
}

// Command is something a service's binary can do besides serving, such as filling an empty shop with goods. It ends the
// process with status 0, with 1 when it fails, or with what an ExitError says.
type Command struct {
	Name string
	Run  func(ctx context.Context, a *App) error
}

// ExitError ends a command with a status of its own, for scripts to tell apart. It is told to the caller, not logged.
type ExitError struct {
	Status int
	Err    error
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// Main runs a service until it is told to stop, and exits the process. The first argument may name one of the commands;
// or healthcheck, which asks the instance on this machine whether it is ready; or migrate, which brings the schema of the
// service's database up to date and does no more.
func Main(name string, serve func(ctx context.Context, a *App) error, commands ...Command) {
	if os.Getenv(goMaxProcs) == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
	os.Exit(run(name, os.Args[1:], env.ToMap(os.Environ()), os.Stdout, os.Stderr, serve, commands))
}

// goMaxProcs is where one can say how many processors a service may use. It takes half of what the machine, or its container,
// has. All that it does is wait for others, and whenever an answer comes in, Go has a second thread look on a second
// processor for more to do, in vain: that was a quarter of the processor time of a two-phase commit, and that processor is
// the database's, or that of the service which is asked next.
const goMaxProcs = "GOMAXPROCS"

// ballast is never touched, so it takes no RAM; but the collector counts it, and comes when as much again has been thrown
// away. A service keeps next to nothing, and would be collected every few hundred requests: a tenth of all that it does.
const ballast = 16 << 20

func run(name string, args []string, getenv map[string]string, stdout, stderr io.Writer, serve func(context.Context, *App) error, commands []Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	defer runtime.KeepAlive(make([]byte, ballast))
	do, logTo := serve, stdout
	if len(args) > 0 {
		if args[0] == "healthcheck" {
			return healthcheck(ctx, getenv, stderr)
		}
		if logTo = stderr; args[0] != "migrate" {
			do = command(args[0], commands)
		}
	}
	if do == nil {
		fmt.Fprintf(stderr, "%s: there is no command %q\n", name, args[0])
		return 2
	}
	a, err := open(ctx, name, getenv, logTo)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 2
	}
	a.Out = stdout
	if len(args) > 0 {
		a.Args = args[1:]
		a.migrating = args[0] == "migrate" // serve comes as far as the database, which knows the schema
	}
	if len(args) == 0 {
		err = a.admin.listen(ctx, a.Config.AdminAddr, a.fail) // before all else: a service that waits for its database is alive
	}
	if err == nil {
		err = do(ctx, a)
	}
	if errors.Is(err, errMigrated) {
		a.Log.InfoContext(ctx, errMigrated.Error())
		err = nil
	}
	err = errors.Join(err, a.close())
	var exit *ExitError
	if errors.As(err, &exit) {
		fmt.Fprintf(stderr, "%s: %v\n", name, exit)
		return exit.Status
	}
	if err != nil && ctx.Err() == nil {
		a.Log.Error("stop", "error", err)
		return 1
	}
	return 0
}

func command(name string, commands []Command) func(context.Context, *App) error {
	for _, c := range commands {
		if c.Name == name {
			return c.Run
		}
	}
	return nil
}

func open(ctx context.Context, name string, getenv map[string]string, logTo io.Writer) (*App, error) {
	a := &App{Name: name, Now: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }, getenv: getenv, failed: make(chan error, 1)}
	if err := a.Env(&a.Config); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this host's name: %w", err)
	}
	if a.Config.AdvertiseHost == "" {
		a.Config.AdvertiseHost = host
	}
	if a.Config.Instance == "" {
		a.Config.Instance = name + "-" + host
	}
	a.Log = telemetry.NewLogger(logTo, a.Config.LogLevel, name, a.Config.Instance)
	metrics := telemetry.NewMetrics()
	a.Metrics = metrics
	a.admin = newAdmin(metrics)
	if a.stopTrace, err = telemetry.StartTracing(ctx, name, a.Config.Instance, a.Config.TraceEndpoint); err != nil {
		return nil, err
	}
	a.registry, err = registry.New(registry.Config{Addr: a.Config.ConsulAddr, StateDir: a.Config.StateDir}, registry.Deps{Log: a.Log, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	if err := a.knowPeers(metrics); err != nil {
		return nil, err
	}
	a.mesh = mesh.New(mesh.Config{Caller: name}, mesh.Deps{
		Resolver: a.registry, Log: a.Log, Metrics: metrics, TLS: a.toPeer,
		Wrap: func(rt http.RoundTripper) http.RoundTripper { return crash.Transport(telemetry.Transport(rt)) },
	})
	a.Mesh = a.mesh.Client()
	a.started = a.Now()
	a.admin.show(a.view)
	a.admin.mux.HandleFunc("GET /targets", a.targets)
	// The loops outlive the signal: a request that is being finished may need them.
	a.loopCtx, a.stopLoops = context.WithCancel(context.WithoutCancel(ctx))
	a.feed = identity.NewFeed(a.revocations, a.Now)
	a.HTTP = httpapi.New(httpapi.Config{Service: name, Version: a.Config.Version, Log: a.Log, Metrics: metrics, Verifier: a.remoteVerifier(), Inherit: mesh.Inherit})
	a.HTTP.Admit(a.Config.MaxInflight)
	return a, nil
}

// Env fills cfg, a pointer to a struct tagged as Config is, from the environment. Everything that is wrong is in the one
// error.
func (a *App) Env(cfg any) error {
	return env.ParseWithOptions(cfg, env.Options{Environment: a.getenv})
}

// Database opens the service's database and brings its schema up to date, or waits for somebody else to do that if the
// configuration says so, retrying until the database is there or ctx ends. From then on /readyz asks it.
func (a *App) Database(ctx context.Context, sets ...postgres.MigrationSet) (*gorm.DB, error) {
	if a.Config.DatabaseURL == "" {
		return nil, errors.New("DATABASE_URL is not set")
	}
	db, err := postgres.Open(postgres.Config{URL: string(a.Config.DatabaseURL), MaxConns: a.Config.DatabaseConns, Metrics: a.Metrics})
	if err != nil {
		return nil, err
	}
	a.db = db
	migrate := postgres.Migrate
	if a.Config.Migrate == "wait" && !a.migrating {
		migrate = postgres.Migrated
	}
	err = a.retry(ctx, "database", func() error { return migrate(ctx, db, sets...) })
	if err == nil && a.migrating {
		err = errMigrated
	}
	if err != nil {
		return nil, err
	}
	a.admin.check(func(ctx context.Context) error {
		if postgres.Ping(ctx, db) != nil { // the cause may name hosts and logins
			return errors.New("the database does not answer")
		}
		return nil
	})
	return db, nil
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// retry repeats try until it succeeds or ctx ends, with full jitter on a doubling pause. The command migrate gives up when
// the database is there and refuses: somebody waits for its answer.
func (a *App) retry(ctx context.Context, what string, try func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || a.migrating && !fault.Is(err, fault.Unavailable) {
			return errors.Join(ctx.Err(), err)
		}
		a.Log.WarnContext(ctx, "not there yet", "what", what, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(pause)):
		}
	}
}

// Calls says which services this one calls, so that where they are is known before the first call: Consul may be away by
// then. The user service, which has the keys of every token, is always among them.
//
// It fails for one that the call table does not let this service call, where there is mutual TLS to hold it to that.
func (a *App) Calls(services ...string) error {
	services = append(services, "user")
	for _, s := range services {
		if a.peers != nil && s != a.Name && !a.calls.Knows(a.Name, s) {
			return fmt.Errorf("%s would call %s, which the call table does not allow", a.Name, s)
		}
	}
	return a.registry.Watch(services...)
}

// Go runs loop beside the server until the service stops; the loop returns when its context ends. A loop that fails
// stops the service.
func (a *App) Go(what string, loop func(context.Context) error) {
	a.loops.Go(func() {
		if err := loop(a.loopCtx); err != nil && a.loopCtx.Err() == nil {
			a.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default: // it is stopping already
	}
}

// Times of a server (mesh.md calls for clients to close idle connections first: they keep them 45 s).
const (
	headerTime = 5 * time.Second
	idleTime   = 75 * time.Second
	drainTime  = 3 * time.Second  // callers learn within this that we have left Consul
	finishTime = 15 * time.Second // more than the longest request
	leaveTime  = 2 * time.Second  // to tell Consul; it may be away

	logAge = 100 * time.Millisecond // at most, until a line of the edge's log is written
)

// Serve serves the other services of the shop until ctx ends, then drains. It returns nil after a clean stop.
func (a *App) Serve(ctx context.Context) error { return a.serve(ctx, false) }

// ServePublic is Serve for the edge of the shop, where people call, who have no certificate: it is plain HTTP, and TLS is the
// business of what stands before it. The edge calls the other services as any of them does. It may use every processor:
// everything passes through it.
func (a *App) ServePublic(ctx context.Context) error {
	if a.getenv[goMaxProcs] == "" {
		runtime.SetDefaultGOMAXPROCS()
	}
	return a.serve(ctx, true)
}

func (a *App) serve(ctx context.Context, public bool) error {
	if a.migrating {
		return fmt.Errorf("%s has no database to migrate", a.Name)
	}
	if err := a.HTTP.Undeclared(); err != nil {
		return err
	}
	if err := a.prove(ctx); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.Config.ServiceAddr)
	if err != nil {
		return err
	}
	port, err := portOf(l.Addr())
	if err != nil {
		return err
	}
	adminPort, err := portOf(a.admin.addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           crash.Handler(telemetry.Handler(a.draining(a.HTTP.Handler()))),
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(a.Log.Handler(), slog.LevelWarn), // of handshakes, mostly
	}
	if a.peers != nil && !public {
		l = a.known(server, l)
	}
	if public {
		defer telemetry.Batch(a.Log, logAge)()
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.fail(err)
		}
	}()

	// The registration has a loop of its own, because on the way out it stops first: or it would register us again.
	reg := registry.Registration{
		Service: a.Name, Host: a.Config.AdvertiseHost, Port: port, AdminPort: adminPort,
		Meta: map[string]string{
			registry.MetaVersion: a.Config.Version, registry.MetaZone: a.Config.Zone, registry.MetaWeight: a.Config.Weight,
			registry.MetaBoot: uuid.NewString(), registry.MetaMetrics: strconv.Itoa(adminPort), "instance": a.Config.Instance,
		},
	}
	regCtx, unregister := context.WithCancel(a.loopCtx)
	registered := make(chan struct{})
	go func() {
		defer close(registered)
		if err := a.registry.Keep(regCtx, reg); err != nil {
			a.fail(err)
		}
	}()
	listed := make(chan struct{})
	go func() { // others do not call us before
		defer close(listed)
		if a.registry.WaitPassing(regCtx, reg) == nil {
			a.Log.InfoContext(ctx, "listed as passing")
		}
	}()
	a.Go("called back tokens", func(ctx context.Context) error { return a.feed.Run(ctx, a.Log) })
	a.admin.ready.Store(true)
	a.Log.InfoContext(ctx, "serving", "addr", l.Addr().String(), "admin", a.admin.addr.String())

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-a.failed:
	}
	// From here on nothing may be cut short by the signal that started it.
	leave := context.WithoutCancel(ctx)
	a.Log.InfoContext(leave, "draining")
	a.admin.ready.Store(false)
	unregister()
	<-registered
	<-listed
	dereg, cancel := context.WithTimeout(leave, leaveTime)
	if err := a.registry.Deregister(dereg, reg); err != nil {
		a.Log.WarnContext(leave, "leave Consul", "error", err)
	}
	cancel()
	if failure == nil {
		a.admin.drained.Store(true)
		<-time.After(drainTime) // nothing can cut this short: the signal has come already
	}
	finish, cancel := context.WithTimeout(leave, finishTime)
	defer cancel()
	return errors.Join(failure, server.Shutdown(finish))
}

// draining asks each client to close its connection while the service drains, so that Shutdown finds none in use.
func (a *App) draining(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.admin.drained.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// close ends what is left after the last request: loops, then calls, then the database, then the traces of it all.
func (a *App) close() error {
	a.stopLoops()
	a.loops.Wait()
	a.mesh.Close()
	a.registry.Close()
	var err error
	if a.db != nil {
		err = postgres.Close(a.db)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.loopCtx), leaveTime)
	defer cancel()
	return errors.Join(err, a.admin.close(ctx), a.stopTrace(ctx))
}

func portOf(a net.Addr) (int, error) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%s is not a TCP address", a)
	}
	return t.Port, nil
}
