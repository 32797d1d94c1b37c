package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRun_aCommandHasItsArgumentsItsOutputAndItsStatus(t *testing.T) {
	t.Parallel()
	say := Command{Name: "say", Run: func(_ context.Context, a *App) error {
		a.Log.Info("saying")
		fmt.Fprint(a.Out, strings.Join(a.Args, "-"))
		switch len(a.Args) {
		case 1:
			return errors.New("broken")
		case 2:
			return fmt.Errorf("say: %w", &ExitError{Status: 3, Err: errors.New("refused")})
		}
		return nil
	}}
	for name, c := range map[string]struct {
		args   []string
		status int
		out    string
		told   string // on stderr
	}{
		"success":           {[]string{"say", "a", "b", "c"}, 0, "a-b-c", `"saying"`},
		"failure":           {[]string{"say", "a"}, 1, "a", `"broken"`},
		"its own status":    {[]string{"say", "a", "b"}, 3, "a-b", "shop: refused\n"},
		"no such command":   {[]string{"sing"}, 2, "", `shop: there is no command "sing"`},
		"a bad environment": {[]string{"say"}, 2, "", "LogLevel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			environment := map[string]string{}
			if name == "a bad environment" {
				environment["LOG_LEVEL"] = "loud"
			}
			var stdout, stderr bytes.Buffer
			status := run("shop", c.args, environment, &stdout, &stderr, nil, []Command{say})
			if status != c.status || stdout.String() != c.out || !strings.Contains(stderr.String(), c.told) {
				t.Errorf("got status %d, output %q, and told %q", status, stdout.String(), stderr.String())
			}
		})
	}
}
