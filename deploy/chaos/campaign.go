package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"souk/deploy/local"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says how to run a campaign.
type Config struct {
	Seed    uint64
	Length  time.Duration // of the faults, at least; coming to rest and counting come after it
	Clients int           // zero is 16
	Mutant  *Mutant       // a bug to plant; nil for none
	RunDir  string        // of the shop; empty is a temporary one, which is kept when something is wrong that is not planted
	Log     io.Writer     // receives what happens; nil discards it
}

// campaign is one that is being run.
type campaign struct {
	cfg       Config
	schedule  schedule
	shop      *local.Shop
	gateway   *url.URL
	dbs       map[string]*pgxpool.Pool // by service; the superuser's
	whileFile string                   // the faults are on while it is there

	admin     *door
	goods     []goods
	customers []*customer

	watch  *watch
	did    *deeds
	lasted time.Duration // the faults
}

// A slow machine gets more time, by the same script: until there was something to break, and between two steps until most
// of the shop is there to be broken.
const (
	leastPerSecond = 10 // transactions
	longer         = 4  // times the length, at most
	mayBeAway      = 3  // instances
	patience       = 15 * time.Second
)

func (c *campaign) enough() int { return int(c.cfg.Length.Seconds() * leastPerSecond) }

// decided is how many transactions there were; none while the database is away.
func (c *campaign) decided(ctx context.Context) (n int) {
	if err := c.dbs["coordinator"].QueryRow(ctx, "SELECT count(*) FROM decision").Scan(&n); err != nil {
		return 0
	}
	return n
}

// mostAreReady returns once they are, or have not been for long enough.
func (c *campaign) mostAreReady(ctx context.Context) {
	for end := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(end); pause(ctx, 50*time.Millisecond) {
		away := 0
		for _, in := range c.shop.Instances("") {
			if !in.Running || !ready(ctx, in.Admin) {
				away++
			}
		}
		if away <= mayBeAway {
			return
		}
	}
}

func ready(ctx context.Context, admin string) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // one that hangs is not
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Run runs a campaign and gives its report. The error is of the campaign itself: what is wrong with the shop is in the
// report.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if cfg.RunDir == "" {
		if cfg.RunDir, err = os.MkdirTemp("", "souk-chaos-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil && (report.Sound() || cfg.Mutant != nil) {
				_ = os.RemoveAll(cfg.RunDir) // what is left lies in the folder for temporary files
			}
		}()
	}
	c := newCampaign(cfg)
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	if err := c.market(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(c.cfg.Log, "%d customers and %d products are in the shop; the faults begin\n", len(c.customers), len(c.goods))
	watching, enough := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { c.watch.run(watching) })
	defer watch.Wait()
	defer enough()
	if err := c.disrupt(ctx); err != nil {
		return nil, err
	}
	return c.judge(ctx)
}

func newCampaign(cfg Config) *campaign {
	if cfg.Clients == 0 {
		cfg.Clients = 16
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	return &campaign{
		cfg: cfg, schedule: newSchedule(cfg.Seed, longer*cfg.Length), did: newDeeds(),
		whileFile: filepath.Join(cfg.RunDir, "faults-are-on"), dbs: map[string]*pgxpool.Pool{},
	}
}

// open starts the shop.
func (c *campaign) open(ctx context.Context) error {
	conf := local.Config{
		RunDir: c.cfg.RunDir, BuildTags: []string{"crashpoints"}, Instances: map[string]int{"gateway": 1}, Log: c.cfg.Log,
		// How an instance starts the first time; each later start says otherwise. Nothing happens before the faults are on.
		Env: func(instance string) []string { return c.schedule.start(instance, 0).env(c.whileFile) },
	}
	for _, cast := range casts {
		conf.Instances[cast.service] = cast.instances
	}
	var err error
	if c.cfg.Mutant != nil {
		if conf.Overlay, err = c.cfg.Mutant.plant(c.cfg.RunDir); err != nil {
			return err
		}
	}
	if c.shop, err = local.Up(ctx, conf); err != nil {
		return err
	}
	if c.gateway, err = url.Parse(c.shop.Gateway); err != nil {
		return err
	}
	for _, cast := range casts {
		if c.dbs[cast.service], err = pgxpool.New(ctx, c.shop.Postgres.SuperuserURL(cast.service)+"&pool_max_conns=4"); err != nil {
			return err
		}
	}
	c.watch = &watch{dbs: maps.Clone(c.dbs)}
	delete(c.watch.dbs, "coordinator")
	return nil
}

func (c *campaign) close(ctx context.Context) error {
	for _, db := range c.dbs {
		db.Close()
	}
	return c.shop.Down(ctx)
}

// disrupt lets the customers in and follows the script, and returns when the faults are over and everything runs again.
func (c *campaign) disrupt(ctx context.Context) error {
	if err := os.WriteFile(c.whileFile, nil, 0o600); err != nil {
		return err
	}
	begin := time.Now()
	shopping, goHome := context.WithCancel(ctx)
	defer goHome()
	reviving, enough := context.WithCancel(ctx)
	defer enough()
	var customers, deeds, revival sync.WaitGroup
	for _, who := range c.customers {
		customers.Go(func() { who.live(shopping) })
	}
	revival.Go(func() { c.revive(reviving) })

	var last time.Duration
	for _, s := range c.schedule.steps {
		if ctx.Err() != nil || time.Since(begin) >= c.cfg.Length && c.decided(ctx) >= c.enough() {
			break
		}
		pause(ctx, s.at-last)
		last = s.at
		c.mostAreReady(ctx)
		fmt.Fprintf(c.cfg.Log, "%6.2fs %s\n", time.Since(begin).Seconds(), s)
		deeds.Go(func() { c.do(ctx, s) })
	}
	pause(ctx, time.Until(begin.Add(c.cfg.Length)))
	c.lasted = time.Since(begin)
	err := os.Remove(c.whileFile)
	goHome()
	customers.Wait()
	deeds.Wait()
	enough()
	revival.Wait()
	return errors.Join(err, ctx.Err(), c.heal(ctx))
}
