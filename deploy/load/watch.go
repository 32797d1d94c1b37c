package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	watchEvery = 2 * time.Second
	// longRun is how long memory is watched for before it is judged: a process takes minutes to find its size.
	longRun = 5 * time.Minute
)

// sample is how large a process was at a moment.
type sample struct{ rssMiB, goroutines float64 }

// growth is how large an instance was at least in the second and in the last quarter of the time it was watched: in the first,
// pools and caches fill.
type growth struct {
	instance      string
	before, after sample
	watched       time.Duration
}

func (g growth) String() string {
	return fmt.Sprintf("%-14s RSS %.1f MiB, then %.1f; goroutines %.0f, then %.0f", g.instance, g.before.rssMiB, g.after.rssMiB, g.before.goroutines, g.after.goroutines)
}

// grows tells whether a long run has made the process larger by more than chance does.
func (g growth) grows() bool {
	return g.watched >= longRun && (g.after.rssMiB > 1.15*g.before.rssMiB+4 || g.after.goroutines > 1.15*g.before.goroutines+20)
}

// watch samples every instance until what it returns is called.
func (l *load) watch(ctx context.Context) (stop func() []growth) {
	ctx, cancel := context.WithCancel(ctx)
	instances := l.shop.Instances("")
	samples := map[string][]sample{}
	begin := time.Now()
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, in := range instances {
				if s, err := measure(ctx, in.Admin); err == nil {
					samples[in.Name] = append(samples[in.Name], s)
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return func() (all []growth) {
		cancel()
		watching.Wait()
		for _, in := range instances {
			s := samples[in.Name]
			all = append(all, growth{in.Name, least(s[len(s)/4 : len(s)/2]), least(s[len(s)*3/4:]), time.Since(begin)})
		}
		return all
	}
}

// least is what a process never was below: what it has lost it never gives back, and what it needs for a moment, such as
// the memory in which passwords are hashed, it does.
func least(samples []sample) sample {
	m := samples[0]
	for _, s := range samples[1:] {
		m.rssMiB, m.goroutines = min(m.rssMiB, s.rssMiB), min(m.goroutines, s.goroutines)
	}
	return m
}

// measure asks an instance how large it is.
func measure(ctx context.Context, admin string) (s sample, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "process_resident_memory_bytes":
			s.rssMiB, err = strconv.ParseFloat(value, 64)
			s.rssMiB /= 1 << 20
		case "go_goroutines":
			s.goroutines, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return s, err
		}
	}
	return s, lines.Err()
}
