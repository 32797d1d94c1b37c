package local

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Status prints a line per process: whether it runs, where, whether it is ready, and its memory.
func (s *Shop) Status(ctx context.Context, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPID\tSTATE\tADDRESS\tADMIN\tRSS MiB")
	row := func(name string, p Process, state, addr, admin string) {
		rss := "-"
		if mib, err := p.rssMiB(); err == nil && p.Alive() {
			rss = fmt.Sprintf("%.1f", mib)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", name, p.PID, state, addr, admin, rss)
	}
	s.mu.Lock()
	st := *s.state
	s.mu.Unlock()
	running := func(p Process) string {
		if p.Alive() {
			return "running"
		}
		return "ended"
	}
	row("postgres", st.Postgres.Process, running(st.Postgres.Process), address(st.Postgres.Port), "-")
	row("consul", st.Consul.Process, running(st.Consul.Process), address(st.Consul.Port), "-")
	if st.TestID.Port != 0 {
		row(testID, st.TestID.Process, running(st.TestID.Process), address(st.TestID.Port), "-")
	}
	for _, in := range st.Instances {
		state := running(in.Process)
		if in.Alive() {
			switch {
			case s.ready(ctx, in) != nil:
				state = "not ready"
			case s.passing(ctx, in) != nil:
				state = "not passing"
			default:
				state = "ready"
			}
		}
		row(in.Name, in.Process, state, address(in.Port), address(in.AdminPort))
	}
	return table.Flush()
}

// Addresses prints the shop's addresses as KEY=value lines, ready for a shell. The databases' hold passwords.
func (s *Shop) Addresses(w io.Writer) error {
	fmt.Fprintf(w, "GATEWAY=%s\nCONSUL_HTTP_ADDR=%s\nCONSUL_HTTP_TOKEN_FILE=%s\n", s.Gateway, s.Consul, s.TokenPath(management))
	for _, service := range services {
		if service != "gateway" {
			fmt.Fprintf(w, "DATABASE_URL_%s=%s\n", strings.ToUpper(service), s.Postgres.URL(service))
		}
	}
	_, err := fmt.Fprintf(w, "LOGS=%s\n", s.LogPath("*"))
	return err
}

// Memory measures the services' processes: MiB in RAM by instance.
func (s *Shop) Memory() (map[string]float64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	memory := map[string]float64{}
	for _, in := range s.state.Instances {
		mib, err := in.rssMiB()
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", in.Name, err)
		}
		memory[in.Name] = mib
	}
	return memory, nil
}
