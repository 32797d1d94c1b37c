package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	crowdSize  = 10_000
	crowdRate  = 200 // requests a second of the whole crowd, while it is measured
	crowdFirst = 500 // connections that come and go first, so that what the process has once is not counted for each
)

// crowded is the memory that each of many kept connections costs p, in KiB: the most of it in the time that they are held and
// used now and then.
func (r *rig) crowded(ctx context.Context, p *proxy, hold time.Duration) (kib float64, err error) {
	plan := crowdPlan{Addr: p.addr, Path: p.path, Token: r.tokens[0]}
	if err := withCrowd(ctx, r, func(c *role) error {
		plan.More = crowdFirst
		return c.do(plan, new(crowdResult))
	}); err != nil {
		return 0, err
	}
	before, err := rss(p.pid)
	if err != nil {
		return 0, err
	}
	most := 0.0
	err = withCrowd(ctx, r, func(c *role) error {
		plan.More, plan.Rate = crowdSize, crowdRate
		for end := time.Now().Add(hold); time.Now().Before(end) && ctx.Err() == nil; plan.More = 0 {
			plan.For = time.Second
			var got crowdResult
			if err := c.do(plan, &got); err != nil {
				return err
			}
			if got.Connections != crowdSize {
				return fmt.Errorf("%d connections, want %d", got.Connections, crowdSize)
			}
			now, err := rss(p.pid)
			if err != nil {
				return err
			}
			most = max(most, now)
		}
		return ctx.Err()
	})
	return (most - before) / crowdSize, err
}

func withCrowd(ctx context.Context, r *rig, do func(*role) error) error {
	c, err := startRole(ctx, "crowd", r.rest)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.stop())
}
