package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/money"
	"souk/shared/testkit"
)

var (
	ask   = flag.Bool("compose", false, "run the tests that need Docker with Compose v2")
	build = flag.Bool("build", true, "build the images first; without, those that are there are tried")
)

const (
	password  = "only-for-a-test"
	customers = 4
	pieces    = 100_000
	price     = 1_00
)

// project is a shop in containers.
type project struct {
	root, name string
	env        []string
	gateway    string
	postgres   int
}

// compose runs a command of Docker Compose on the project.
func (p project) compose(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"compose", "-p", p.name, "-f", "docker-compose.yml", "-f", "deploy/e2e/compose/published.yml"}, args...)
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Dir, cmd.Env = p.root, append(os.Environ(), p.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// must is compose for what cannot fail.
func (p project) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.compose(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// url of a service's database.
func (p project) url(service string) string {
	server := testkit.PostgresServer{Port: p.postgres}
	return server.URL(service, service, password)
}

// up builds and starts the shop, and takes it down when the test is over.
func up(t *testing.T, scale ...string) project {
	t.Helper()
	root, err := local.Root()
	if err != nil {
		t.Fatal(err)
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = testkit.FreePort(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p := project{
		root: root, name: fmt.Sprintf("souk-test-%d", os.Getpid()),
		gateway: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), postgres: ports[2],
	}
	p.env = []string{
		fmt.Sprintf("GATEWAY_PORT=%d", ports[0]), fmt.Sprintf("CONSUL_PORT=%d", ports[1]), fmt.Sprintf("POSTGRES_PORT=%d", ports[2]),
		"DB_PASSWORD=" + password,
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			logs, _ := p.compose(ctx, "logs", "--no-color", "--tail=30")
			t.Log(logs)
		}
		if _, err := p.compose(ctx, "down", "--volumes", "--timeout=2"); err != nil {
			t.Error(err)
		}
	})
	if *build {
		p.must(t, "build")
	}
	p.must(t, append([]string{"up", "--detach", "--no-build"}, scale...)...)
	p.settled(t)
	return p
}

// settled waits until everything is healthy, and what was to end has ended well.
func (p project) settled(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 2*time.Minute, func() bool {
		for _, c := range p.containers(t) {
			if c.Health != "healthy" && (c.State != "exited" || c.ExitCode != 0) {
				return false
			}
		}
		return true
	})
}

type container struct {
	Name, Service, State, Health string
	ExitCode                     int
}

func (p project) containers(t *testing.T) (all []container) {
	t.Helper()
	for line := range strings.Lines(p.must(t, "ps", "--all", "--format=json")) {
		var c container
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// Payment is killed, both of its instances, while customers buy, and comes back some seconds later: every purchase that
// was begun ends paid, and the books agree. Before that, the load spreads over three instances of product.
func TestCompose_paymentDiesInTheMiddleOfPurchases(t *testing.T) {
	if !*ask {
		t.Skip("run it with -compose: it needs Docker with Compose v2, and some minutes")
	}
	p := up(t, "--scale", "product=3")

	boss, err := shopper.Admin(t.Context(), p.gateway)
	if err != nil {
		t.Fatal(err)
	}
	bowl, err := boss.Goods(t.Context(), "Bowl", money.Money{Amount: price, Currency: "USD"}, pieces)
	if err != nil {
		t.Fatal(err)
	}
	rush, err := shopper.StartRush(t.Context(), p.gateway, customers, money.Money{Amount: pieces * price, Currency: "USD"}, bowl)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := rush.Await(ctx, 30); err != nil {
		t.Fatal(err)
	}
	p.must(t, "kill", "payment")
	_, before := rush.Requests()
	testkit.Eventually(t, 30*time.Second, func() bool { _, failed := rush.Requests(); return failed > before }) // it was noticed
	p.must(t, "up", "--detach", "--no-build", "--no-deps", "--no-recreate", "payment")
	if err := rush.Await(ctx, 30); err != nil {
		t.Error(err)
	}
	if err := rush.Stop(); err != nil {
		t.Error(err)
	}
	violations, err := shopper.AtRestIn(t.Context(), p.url, 30*time.Second)
	if err := errors.Join(append(violations, err)...); err != nil {
		t.Error(err)
	}
	requests, failed := rush.Requests()
	t.Logf("%d purchases paid with %d requests, of which %d failed while payment was away (the first: %s)",
		rush.Paid(), requests, failed, rush.FirstFailure())

	served := map[string]int{}
	for line := range strings.Lines(p.must(t, "logs", "--no-color", "product")) {
		if name, text, ok := strings.Cut(line, "|"); ok && strings.Contains(text, `"route":`) {
			served[strings.TrimSpace(name)]++
		}
	}
	if len(served) != 3 {
		t.Errorf("of three instances of product, these served: %v", served)
	}
	t.Logf("requests by instance: %v", served)
}
