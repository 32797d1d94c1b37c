package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	wire "souk/shared/contract/coordinator"
)

const gap = 2 // between columns

func (c console) table(lines func(row func(cells ...any))) error {
	w := tabwriter.NewWriter(c.out, 0, 0, gap, ' ', 0)
	lines(func(cells ...any) {
		for i, cell := range cells {
			end := "\t"
			if i == len(cells)-1 {
				end = "\n"
			}
			fmt.Fprint(w, printable(fmt.Sprint(cell)), end)
		}
	})
	return w.Flush()
}

// printable keeps what others have written from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

func (c console) transactions(list []wire.Transaction) error {
	return c.table(func(row func(...any)) {
		row("TRANSACTION", "STATE", "AGE", "CARRIED OUT", "DRIVES", "SERVICES", "NOTE")
		for _, t := range list {
			row(t.GID, t.State, c.age(t), carriedOut(t), t.Attempts, strings.Join(t.Services, ","), note(t))
		}
	})
}

func (c console) age(t wire.Transaction) time.Duration {
	if t.DecidedAt == nil {
		return 0
	}
	return brief(c.now().Sub(*t.DecidedAt))
}

// brief leaves out of a duration what nobody reads.
func brief(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

func carriedOut(t wire.Transaction) string {
	switch {
	case t.CompletedAt != nil && t.DecidedAt != nil:
		return "after " + max(t.CompletedAt.Sub(*t.DecidedAt), 0).Round(time.Millisecond).String()
	case t.WaitingFor != "":
		return "not yet: waits for " + t.WaitingFor
	default:
		return "not yet"
	}
}

func note(t wire.Transaction) string {
	switch {
	case t.Resolved != nil:
		return "forced by " + t.Resolved.By + ": " + t.Resolved.Reason
	case t.Heuristic && t.Acknowledged != nil:
		return "HEURISTIC, acknowledged by " + t.Acknowledged.By + ": " + t.Acknowledged.Reason
	case t.Heuristic:
		return "HEURISTIC: look at it"
	case t.Reason != nil:
		return t.Reason.Code
	default:
		return ""
	}
}

func (c console) timeline(t *wire.Timeline) error {
	err := c.table(func(row func(...any)) {
		row("transaction", t.GID)
		row("state", t.State)
		if t.Reason != nil {
			row("reason", t.Reason.Code+": "+t.Reason.Detail)
		}
		if t.DecidedAt != nil {
			row("decided", t.DecidedAt.Format(time.RFC3339Nano)+", "+c.age(t.Transaction).String()+" ago")
		}
		row("carried out", carriedOut(t.Transaction))
		row("to be told", strings.Join(t.Services, ", "))
		row("drives", t.Attempts)
		if n := note(t.Transaction); t.Heuristic {
			row("note", n)
		}
	})
	if err != nil || len(t.Events) == 0 {
		return err
	}
	fmt.Fprintln(c.out)
	return c.table(func(row func(...any)) {
		row("AT", "AFTER", "INSTANCE", "EVENT", "SERVICE", "DETAIL")
		for _, e := range t.Events {
			row(e.At.Format("2006-01-02 15:04:05.000000"), e.At.Sub(t.Events[0].At).Round(time.Microsecond), e.Instance, e.Event, e.Service, e.Detail)
		}
	})
}

func (c console) statistics(s *wire.Statistics) error {
	return c.table(func(row func(...any)) {
		switch {
		case s.Since != nil:
			row("decided since", s.Since.Format(time.RFC3339))
		case s.OldestDecidedAt != nil:
			row("decided since", s.OldestDecidedAt.Format(time.RFC3339)+" (all that is kept)")
		}
		row("committed", s.Committed)
		row("aborted", s.Aborted)
		row("  of them by force", s.Resolved)
		row("taken over by recovery", s.TakenOver)
		row("retries by recovery", s.Retries)
		row("heuristic", s.Heuristic)
		row("  not acknowledged", s.Unacknowledged)
		row("in doubt", s.InDoubt)
		row("  the oldest for", brief(time.Duration(s.OldestInDoubtS*float64(time.Second))))
	})
}
