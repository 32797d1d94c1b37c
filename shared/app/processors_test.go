package app

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// asShop has the test's own program run as a service, which has a command that tells of its processors.
const asShop = "APP_TEST_AS_SHOP"

func TestMain(m *testing.M) {
	if os.Getenv(asShop) != "" {
		all := runtime.GOMAXPROCS(0)
		Main("shop", nil, Command{Name: "processors", Run: func(_ context.Context, a *App) error {
			_, err := fmt.Fprintln(a.Out, all, runtime.GOMAXPROCS(0))
			return err
		}})
	}
	m.Run()
}

// A service takes half of the processors, and at least one, unless somebody has said how many.
func TestMain_takesHalfOfTheProcessors(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"", "1", "2", "7"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "processors") //nolint:gosec // this very program
		cmd.Env = append(os.Environ(), asShop+"=1", goMaxProcs+"="+said)
		out, err := cmd.Output()
		var all, got int
		if err == nil {
			_, err = fmt.Sscan(string(out), &all, &got)
		}
		want := all
		if said == "" {
			want = max(1, all/2)
		}
		if err != nil || got != want {
			t.Errorf("GOMAXPROCS=%q: took %d of %d, %v", said, got, all, err)
		}
	}
}
