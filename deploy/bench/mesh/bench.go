package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// errBars says that a bar was missed; which one is in the table.
var errBars = errors.New("a bar was missed")

// bench runs the phases, all of them if none is named.
func bench(ctx context.Context, phases []string, scale float64, out io.Writer) (err error) {
	all := []struct {
		name string
		run  func(context.Context, *rig, *report, float64) error
	}{{"memory", memoryPhase}, {"call", callPhase}, {"balance", balancePhase}, {"hop", hopPhase}, {"load", loadPhase}}
	r, err := setUp(ctx, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.tearDown(context.WithoutCancel(ctx))) }()
	rep := &report{out: out}
	fmt.Fprintf(out, "%-8s %-38s %12s %10s   %s\n", "phase", "what", "value", "bar", "of each round")
	for _, p := range all {
		if len(phases) > 0 && !slices.Contains(phases, p.name) {
			continue
		}
		rep.phase = p.name
		if err := p.run(ctx, r, rep, scale); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if len(phases) > 0 {
		return nil
	}
	fmt.Fprintf(out, "bench-mesh: added_p50_us=%.1f allocs=%.0f added_p50_us_mtls=%.1f slow_p99_vs_rr=%.3f gateway_added_p50_us=%.0f gateway_added_p50_us_mtls=%.0f gateway_cpu_us=%.1f gateway_cpu_us_mtls=%.1f vs_caddy=%.2f vs_nginx=%.2f kib_per_conn=%.1f\n",
		rep.added, rep.allocs, rep.addedTLS, rep.slow, rep.hop, rep.hopTLS, rep.cpu, rep.cpuTLS, rep.caddy, rep.nginx, rep.kib)
	if rep.missed {
		return errBars
	}
	return nil
}

// report is the table, and the numbers of the closing line.
type report struct {
	out    io.Writer
	phase  string
	missed bool

	added, allocs, addedTLS, slow, hop, hopTLS, cpu, cpuTLS, caddy, nginx, kib float64
}

// line prints the median of what the rounds gave.
func (r *report) line(what string, rounds []float64) float64 {
	return r.judge(what, rounds, "", true)
}

func (r *report) atMost(what string, rounds []float64, bar float64) float64 {
	m := median(rounds)
	return r.judge(what, rounds, fmt.Sprintf("<= %g", bar), m <= bar)
}

func (r *report) atLeast(what string, rounds []float64, bar float64) float64 {
	m := median(rounds)
	return r.judge(what, rounds, fmt.Sprintf(">= %g", bar), m >= bar)
}

func (r *report) judge(what string, rounds []float64, bar string, met bool) float64 {
	m, remark := median(rounds), ""
	if !met {
		r.missed, remark = true, "MISSED"
	}
	each := fmt.Sprintf(" %.4g to %.4g", slices.Min(rounds), slices.Max(rounds))
	if len(rounds) <= 5 {
		each = ""
		for _, v := range rounds {
			each += fmt.Sprintf(" %.4g", v)
		}
	}
	fmt.Fprintf(r.out, "%-8s %-38s %12.4g %10s  %s %s\n", r.phase, what, m, bar, each, remark)
	return m
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// rounds repeats do, and collects what it gives by name.
func rounds(n int, do func(give func(string, float64)) error) (map[string][]float64, error) {
	got := map[string][]float64{}
	for range n {
		if err := do(func(name string, v float64) { got[name] = append(got[name], v) }); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func callPhase(ctx context.Context, r *rig, rep *report, scale float64) error {
	got, err := rounds(5, func(give func(string, float64)) error {
		m, err := r.calls(ctx, int(4000*scale))
		give("bare", us(m.bare))
		give("added", us(m.added))
		give("allocs", m.allocs)
		if err != nil {
			return err
		}
		m, err = r.secureCalls(ctx, int(4000*scale))
		give("bare TLS", us(m.bare))
		give("added TLS", us(m.added))
		give("allocs TLS", m.allocs)
		return err
	})
	if err != nil {
		return err
	}
	rep.line("bare client, p50 us", got["bare"])
	rep.added = rep.atMost("by name, added p50 us", got["added"], 10)
	rep.allocs = rep.atMost("by name, added allocations", got["allocs"], 20)
	rep.line("bare client with mTLS, p50 us", got["bare TLS"])
	rep.addedTLS = rep.line("by name with mTLS, added p50 us", got["added TLS"])
	rep.line("by name with mTLS, added allocations", got["allocs TLS"])
	return nil
}

func balancePhase(ctx context.Context, r *rig, rep *report, scale float64) error {
	got, err := rounds(3, func(give func(string, float64)) error {
		p99, err := r.balance(ctx, time.Duration(5*scale*float64(time.Second)))
		for name, d := range p99 {
			give(name, us(d)/1e3)
		}
		give("ratio", float64(p99["mesh"])/float64(max(1, p99["round-robin"])))
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range balancers() {
		rep.line(b.name+", p99 ms", got[b.name])
	}
	rep.slow = rep.atMost("mesh against round robin, p99", got["ratio"], 0.1)
	return nil
}

func hopPhase(ctx context.Context, r *rig, rep *report, scale float64) error {
	got, err := rounds(5, func(give func(string, float64)) error {
		p50, err := r.hops(ctx, int(2000*scale))
		for name, d := range p50 {
			give(name, us(d))
			give("added by "+name, us(d-p50["direct"]))
		}
		return err
	})
	if err != nil {
		return err
	}
	rep.line("origin, p50 us", got["direct"])
	rep.line("added by nginx, p50 us", got["added by nginx"])
	rep.line("added by caddy, p50 us", got["added by caddy"])
	rep.hop = rep.atMost("added by the gateway, p50 us", got["added by gateway"], 250)
	rep.hopTLS = rep.line("the same with mTLS to the service", got["added by gateway+mtls"])
	return nil
}

func loadPhase(ctx context.Context, r *rig, rep *report, scale float64) error {
	// Short turns and many of them: what else the machine does comes and goes.
	each := time.Duration(scale * float64(time.Second))
	got, err := rounds(15, func(give func(string, float64)) error {
		m, err := r.push(ctx, each, r.tokens)
		for name, t := range m {
			give(name, t.perSecond)
			give(name+" cpu", us(t.cpu))
			give(name+" p99", us(t.p99)/1e3)
			give(name+" shed", float64(t.shed))
			give("vs "+name, m["gateway"].perSecond/t.perSecond)
			give("vs "+name+" cpu", float64(t.cpu)/float64(m["gateway"].cpu))
		}
		return err
	})
	if err != nil {
		return err
	}
	strangers, err := r.sign(4 * 10_000) // four times the tokens that the gateway remembers: each is verified anew
	if err != nil {
		return err
	}
	strange, err := rounds(3, func(give func(string, float64)) error {
		m, err := r.pushOne(r.proxies[0], each, strangers)
		give("cpu", us(m.cpu))
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range r.proxies {
		rep.line(p.name+", requests/s", got[p.name])
		used := rep.line(p.name+", CPU us per request", got[p.name+" cpu"])
		switch p.name {
		case "gateway":
			rep.cpu = used
		case "gateway+mtls":
			rep.cpuTLS = used
		}
		rep.line(p.name+", p99 ms", got[p.name+" p99"])
	}
	rep.line("gateway, told to come back", got["gateway shed"])
	rep.line("gateway, CPU us, every token new", strange["cpu"])
	rep.line("by CPU, against caddy", got["vs caddy cpu"])
	rep.line("by CPU, against nginx", got["vs nginx cpu"])
	rep.caddy = rep.atLeast("requests/s, against caddy", got["vs caddy"], 1)
	rep.nginx = rep.line("requests/s, against nginx", got["vs nginx"])
	return nil
}

func memoryPhase(ctx context.Context, r *rig, rep *report, scale float64) error {
	hold := time.Duration(10 * scale * float64(time.Second))
	kib, err := r.crowded(ctx, r.proxies[0], hold)
	if err != nil {
		return err
	}
	rep.kib = rep.atMost("gateway, KiB per connection", []float64{kib}, 40)
	for _, p := range r.proxies[2:] {
		kib, err := r.crowded(ctx, p, hold/2)
		if err != nil {
			return err
		}
		rep.line(p.name+", KiB per connection", []float64{kib})
	}
	return nil
}
