package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"souk/deploy/local"
	"souk/deploy/shopper"
)

// steady runs the k6 script, and watches the services meanwhile.
func (l *load) steady(ctx context.Context, k6, root, dir string, seconds, rate float64) error {
	type credentials struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	}
	who := make([]credentials, len(l.crowd))
	for i, p := range l.crowd {
		who[i] = credentials{p.Email, shopper.Password}
	}
	whoJSON, err1 := json.Marshal(who) //nolint:gosec // the passwords of people who live for a minute
	shelfJSON, err2 := json.Marshal(l.shelf)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	summary := filepath.Join(dir, "summary.json")
	cmd := exec.CommandContext(ctx, k6, "run", "--quiet", "--no-color", "--address", "", filepath.Join(root, "deploy", "load", "shopper.js"))
	cmd.Env = append(os.Environ(), "K6_NO_USAGE_REPORT=true", "GATEWAY="+l.shop.Gateway, "PEOPLE="+string(whoJSON), "GOODS="+string(shelfJSON),
		"ADMIN_PASSWORD="+local.SeedPassword(), "SUMMARY="+summary,
		fmt.Sprintf("DURATION=%.0fs", seconds), fmt.Sprintf("RATE=%.0f", rate))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	l.say("%.0f customers a second for %.0f s", rate, seconds)
	watched := l.watch(ctx)
	runErr := cmd.Run()
	growth := watched()
	if runErr != nil {
		l.fail("k6: %v (99 is a threshold that was missed)", runErr)
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return err
	}
	var metrics map[string]struct{ Values map[string]float64 }
	if err := json.Unmarshal(text, &metrics); err != nil {
		return err
	}
	l.ordersPerSecond = metrics["orders_paid"].Values["count"] / seconds
	pay := metrics["pay_ms"].Values
	l.p50, l.p95, l.p99 = pay["med"], pay["p(95)"], pay["p(99)"]
	l.errors = int(metrics["wrong"].Values["count"] + metrics["dropped_iterations"].Values["count"])
	requests, visits := metrics["http_reqs"].Values["count"], metrics["iterations"].Values["count"]
	l.say("%.0f visits, %.0f requests (%.1f a second), %.0f orders paid, %.0f refunded; errors %d of %.0f",
		visits, requests, requests/seconds, metrics["orders_paid"].Values["count"], metrics["orders_refunded"].Values["count"], l.errors, requests)
	if l.ordersPerSecond == 0 {
		l.fail("nobody has bought anything")
	}
	for _, g := range growth {
		l.say("%s", g)
		if g.grows() {
			l.fail("%s grows", g.instance)
		}
	}
	return nil
}
