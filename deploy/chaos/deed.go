package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"
)

// deeds is what was done to the shop.
type deeds struct {
	mu      sync.Mutex
	kills   map[deed]int   // processes, by how
	starts  map[string]int // by instance
	deaths  int            // that were seen; each must be the script's, or at a point
	crashes []time.Time    // of PostgreSQL
	failed  []string       // what should not have happened

	power, registry sync.Mutex
}

// alone is held by who crashes a server, until it is back.
func (d *deeds) alone(server string) *sync.Mutex {
	if server == "postgres" {
		return &d.power
	}
	return &d.registry
}

func newDeeds() *deeds { return &deeds{kills: map[deed]int{}, starts: map[string]int{}} }

func (d *deeds) count(how deed, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kills[how] += n
}

func (d *deeds) fail(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = append(d.failed, fmt.Sprintf(format, args...))
}

// do does one step. What is dead already, or hangs, is left alone.
func (c *campaign) do(ctx context.Context, s step) {
	switch s.do {
	case kill, massacre, spare:
		for _, name := range s.who {
			if c.running(name) && c.shop.Kill(ctx, name) == nil { // it may have died this moment
				c.did.count(s.do, 1)
			}
		}
	case hang:
		if c.shop.Signal(s.who[0], syscall.SIGSTOP) == nil { // as above
			c.did.count(s.do, 1)
			pause(ctx, s.wait)
			_ = c.shop.Signal(s.who[0], syscall.SIGCONT) // it may have been killed while it hung
		}
	case power:
		c.did.mu.Lock()
		c.did.crashes = append(c.did.crashes, time.Now())
		c.did.mu.Unlock()
		c.crash(ctx, s.do, "postgres", syscall.SIGQUIT, 0) // what pg_ctl -m immediate sends
	case registry:
		c.crash(ctx, s.do, "consul", syscall.SIGKILL, s.wait)
	}
}

// crash ends a server and starts it again after a while, unless it is down from the step before.
func (c *campaign) crash(ctx context.Context, how deed, server string, sig syscall.Signal, after time.Duration) {
	if !c.did.alone(server).TryLock() {
		return
	}
	defer c.did.alone(server).Unlock()
	if err := c.shop.Signal(server, sig); err != nil {
		c.did.fail("%s is not there to be crashed: %v", server, err)
		return
	}
	c.did.count(how, 1)
	pause(ctx, after)
	err := c.startServer(ctx, server)
	if err != nil && ctx.Err() == nil {
		c.did.fail("%s does not come back: %v", server, err)
	}
	c.watch.mark()
}

// startServer starts a server as soon as the old process is gone.
func (c *campaign) startServer(ctx context.Context, server string) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := c.shop.Start(ctx, server)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "running already") {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}

func (c *campaign) running(name string) bool {
	for _, in := range c.shop.Instances("") {
		if in.Name == name {
			return in.Running
		}
	}
	return false
}

// revive starts again what is dead, as the schedule says, until ctx ends.
func (c *campaign) revive(ctx context.Context) {
	const look = 10 * time.Millisecond
	var starts sync.WaitGroup
	defer starts.Wait()
	var mu sync.Mutex
	starting := map[string]bool{}
	for ctx.Err() == nil {
		for _, in := range c.shop.Instances("") {
			mu.Lock()
			skip := in.Running || starting[in.Name]
			starting[in.Name] = !in.Running
			mu.Unlock()
			if skip {
				continue
			}
			st := c.died(in.Name)
			starts.Go(func() {
				pause(ctx, st.pause)
				if err := c.shop.Start(context.WithoutCancel(ctx), in.Name, st.env(c.whileFile)...); err != nil {
					c.did.fail("%s cannot be started: %v", in.Name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				starting[in.Name] = false
			})
		}
		pause(ctx, look)
	}
}

// died counts a death, and says how the instance starts again.
func (c *campaign) died(name string) start {
	c.watch.mark()
	c.did.mu.Lock()
	defer c.did.mu.Unlock()
	c.did.deaths++
	c.did.starts[name]++
	return c.schedule.start(name, c.did.starts[name])
}

// heal sees to it that everything runs again.
func (c *campaign) heal(ctx context.Context) error {
	for _, in := range c.shop.Instances("") {
		if in.Running {
			_ = c.shop.Signal(in.Name, syscall.SIGCONT) // it hangs no more in any case
			continue
		}
		if err := c.shop.Start(ctx, in.Name, c.died(in.Name).env(c.whileFile)...); err != nil {
			return err
		}
	}
	return nil
}
