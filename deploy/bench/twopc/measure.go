package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const warmUp = time.Second

// work does one transaction. hot says that it credits one account, and not a random one.
type work func(ctx context.Context, hot bool) error

// result is one measurement.
type result struct {
	perSecond float64
	p50       time.Duration
	per       costs // of one transaction
}

// costs are the server's and the processes' counters.
type costs struct {
	syncs, commits, messages        float64
	database, coordinator, bank, us float64 // milliseconds of processor time
}

func (c costs) minus(o costs, n float64) costs {
	return costs{
		(c.syncs - o.syncs) / n, (c.commits - o.commits) / n, (c.messages - o.messages) / n,
		(c.database - o.database) / n, (c.coordinator - o.coordinator) / n, (c.bank - o.bank) / n, (c.us - o.us) / n,
	}
}

// measure has c clients do work for a while after a warm-up.
func (r *rig) measure(ctx context.Context, do work, hot bool, c int, each time.Duration) (result, error) {
	if _, err := closedLoop(ctx, do, hot, c, warmUp); err != nil {
		return result{}, err
	}
	before, err := r.costs(ctx)
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	took, err := closedLoop(ctx, do, hot, c, each)
	if err != nil {
		return result{}, err
	}
	elapsed := time.Since(start)
	after, err := r.costs(ctx)
	if err != nil {
		return result{}, err
	}
	slices.Sort(took)
	n := float64(len(took))
	return result{perSecond: n / elapsed.Seconds(), p50: took[len(took)/2], per: after.minus(before, n)}, nil
}

// closedLoop has c clients do one transaction after the other for a while, and returns how long each took.
func closedLoop(ctx context.Context, do work, hot bool, c int, d time.Duration) ([]time.Duration, error) {
	end := time.Now().Add(d)
	took := make([][]time.Duration, c)
	errs := make([]error, c)
	var clients sync.WaitGroup
	for i := range c {
		clients.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				start := time.Now()
				if err := do(ctx, hot); err != nil {
					errs[i] = err
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	clients.Wait()
	return slices.Concat(took...), errors.Join(append(errs, ctx.Err())...)
}

// parties are the accounts of a transfer.
func parties(hot bool) (from, to string) {
	if hot {
		return fmt.Sprint("a", rand.IntN(accounts)), "a0"
	}
	return fmt.Sprint("a", rand.IntN(accounts)), fmt.Sprint("a", rand.IntN(accounts))
}

func (r *rig) costs(ctx context.Context) (c costs, err error) {
	err = r.pools["postgres"].QueryRow(ctx, "SELECT wal_sync::float8, (SELECT sum(xact_commit)::float8 FROM pg_stat_database) FROM pg_stat_wal").Scan(&c.syncs, &c.commits)
	if err != nil {
		return c, err
	}
	c.us, err = processorTime(os.Getpid())
	if err != nil {
		return c, err
	}
	admins := []string{}
	for _, in := range r.shop.Instances("coordinator") {
		ms, err := processorTime(in.PID)
		if err != nil {
			return c, err
		}
		c.coordinator += ms
		admins = append(admins, in.Admin)
	}
	for _, b := range r.banks {
		ms, err := processorTime(b.process.Process.Pid)
		if err != nil {
			return c, err
		}
		c.bank += ms
		admins = append(admins, b.admin)
	}
	for _, admin := range admins {
		n, err := served(ctx, admin)
		if err != nil {
			return c, err
		}
		c.messages += n
	}
	c.database, err = familyTime(r.server)
	return c, err
}

// familyTime is the processor time of a process, its children, and those of its children that have ended.
func familyTime(pid int) (ms float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return 0, err
	}
	for _, child := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(child)
		if err != nil {
			return 0, err
		}
		t, err := processorTime(n)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it has just ended: the parent has its time now
			return 0, err
		}
		ms += t
	}
	own, err := processorTime(pid)
	return ms + own, err
}

// processorTime is the milliseconds that a process and its ended children have used, as proc(5) has it in fields 14 to 17.
func processorTime(pid int) (ms float64, err error) {
	const tick = 10 // milliseconds: USER_HZ is 100 on every Linux that Go runs on
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the command's name may have blanks in it
	for _, f := range strings.Fields(rest)[11:15] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		ms += n * tick
	}
	return ms, nil
}

// served is how many requests a process has answered on its service port.
func served(ctx context.Context, admin string) (n float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if name, value, _ := strings.Cut(lines.Text(), " "); strings.HasPrefix(name, "mesh_server_requests_total{") {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			n += v
		}
	}
	return n, lines.Err()
}
