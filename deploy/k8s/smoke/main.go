// Command smoke tries the dev overlay on the cluster that KUBECONFIG names, one to try things on: it makes the namespace
// souk there and removes it again. It waits for every pod, sends customers, deletes payment pods in the middle of their
// purchases, gently and not, rolls every Deployment under their load, and looks at what is left.
//
// It needs kubectl, the images on the cluster's nodes (deploy/README.md says how), and a way to the gateway's port on a
// node; GATEWAY says where it is if a node's own address is not it. KEEP=1 leaves everything running.
//
// It closes with "k8s-smoke: pods_ready=… paid=… rolling_failed=…", or with "k8s-smoke: skipped" where there is no
// KUBECONFIG.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/money"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	if os.Getenv("KUBECONFIG") == "" {
		fmt.Fprintln(os.Stdout, "k8s-smoke: skipped: KUBECONFIG is not set, so there is no cluster to try this on")
		return
	}
	s := smoke{out: os.Stdout, begin: time.Now()}
	err := s.run(ctx)
	if err != nil {
		fmt.Fprintln(s.out, err)
	}
	fmt.Fprintf(s.out, "k8s-smoke: pods_ready=%d paid=%d rolling_failed=%d\n", s.ready, s.paid, s.rollingFailed)
	if err != nil || s.rollingFailed > 0 {
		os.Exit(1) //nolint:gocritic // nothing is left to do
	}
}

const (
	overlay   = "deploy/k8s/overlays/dev"
	namespace = "souk"

	customers = 4
	pieces    = 1_000_000
	price     = 1_00
	each      = 20 // purchases between one step and the next

	startPatience = 10 * time.Minute // images may have to be unpacked, on a small machine
	rollPatience  = 5 * time.Minute
	buyPatience   = 3 * time.Minute
	restPatience  = 30 * time.Second
)

// smoke is one run, and what has come of it.
type smoke struct {
	out                        io.Writer
	begin                      time.Time
	cluster                    cluster
	ready, paid, rollingFailed int
}

func (s *smoke) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  "+format+"\n", append([]any{time.Since(s.begin).Seconds()}, args...)...)
}

func (s *smoke) run(ctx context.Context) (err error) {
	root, err := local.Root()
	if err != nil {
		return err
	}
	s.cluster = cluster{root: root}
	if _, err := s.cluster.kubectl(ctx, "", "get", "namespace", namespace); err == nil {
		return fmt.Errorf("there is a namespace %s already, and what is in it may be dear to somebody: delete it first", namespace)
	}
	if os.Getenv("KEEP") == "" {
		defer func() {
			_, gone := s.cluster.kubectl(context.WithoutCancel(ctx), "", "delete", "namespace", namespace, "--ignore-not-found", "--timeout=180s")
			err = errors.Join(err, gone)
		}()
	}
	if err := s.apply(ctx); err != nil {
		return err
	}
	if s.ready, err = s.cluster.awaitPods(ctx, startPatience); err != nil {
		return err
	}
	s.say("%d pods are ready", s.ready)
	gateway, err := s.cluster.gateway(ctx)
	if err != nil {
		return err
	}
	s.say("the gateway is at %s", gateway)

	rush, err := s.openTheDoor(ctx, gateway)
	if err != nil {
		return err
	}
	err = s.trouble(ctx, rush)
	if err == nil {
		err = s.autoscalers(ctx)
	}
	err = errors.Join(err, rush.Stop())
	s.paid = rush.Paid()
	requests, failed := rush.Requests()
	s.say("%d purchases paid with %d requests, of which %d failed %s", s.paid, requests, failed, rush.FirstFailure())
	return errors.Join(err, s.books(ctx))
}

// apply makes the Secrets and applies the overlay, which the API server first reads without doing it.
func (s *smoke) apply(ctx context.Context) error {
	secrets, err := s.cluster.run(ctx, "", "deploy/k8s/secrets.sh")
	if err != nil {
		return err
	}
	if _, err := s.cluster.kubectl(ctx, secrets, "apply", "--validate=strict", "-f", "-"); err != nil {
		return err
	}
	for _, mode := range []string{"--dry-run=server", "--dry-run=none"} {
		if _, err := s.cluster.kubectl(ctx, "", "apply", "--validate=strict", mode, "-k", overlay); err != nil {
			return err
		}
	}
	s.say("applied %s", overlay)
	return nil
}

// openTheDoor puts something on sale and lets customers in, once one has bought something: on a cluster where everything is
// new, pods are ready before Consul has their tokens and tells callers of them, of one service sooner than of another.
func (s *smoke) openTheDoor(ctx context.Context, gateway string) (*shopper.Rush, error) {
	wallet := money.Money{Amount: pieces * price, Currency: "USD"}
	begin := time.Now()
	var visitor *shopper.Person // one: the gateway lets only so many sign in
	err := s.cluster.await(ctx, buyPatience, func() (missing []string, err error) {
		if _, err = shopper.Somebody(gateway).Browse(ctx, ""); err == nil && visitor == nil {
			visitor, err = shopper.Customer(ctx, gateway, money.Money{})
		}
		if err == nil {
			err = visitor.TopUp(ctx, wallet)
		}
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	s.say("the gateway knows product, user and payment after %s", time.Since(begin).Round(100*time.Millisecond))
	boss, err := shopper.Admin(ctx, gateway)
	if err != nil {
		return nil, err
	}
	bowl, err := boss.Goods(ctx, "Bowl", money.Money{Amount: price, Currency: "USD"}, pieces)
	if err != nil {
		return nil, err
	}
	first, err := shopper.StartRush(ctx, gateway, 1, wallet, bowl)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(first.Await(ctx, 1), first.Stop()); err != nil {
		return nil, err
	}
	s.say("a first customer has bought something")
	rush, err := shopper.StartRush(ctx, gateway, customers, wallet, bowl)
	if err != nil {
		return nil, err
	}
	return rush, s.buy(ctx, rush, "with everything well")
}

// buy waits for some more purchases.
func (s *smoke) buy(ctx context.Context, rush *shopper.Rush, when string) error {
	ctx, cancel := context.WithTimeout(ctx, buyPatience)
	defer cancel()
	begin := time.Now()
	if err := rush.Await(ctx, each); err != nil {
		return err
	}
	_, failed := rush.Requests()
	s.say("%d purchases %s, in %s; %d requests have failed so far", each, when, time.Since(begin).Round(100*time.Millisecond), failed)
	return nil
}

// trouble is what happens to the shop while people buy.
func (s *smoke) trouble(ctx context.Context, rush *shopper.Rush) error {
	for _, how := range []struct {
		what string
		args []string
	}{
		{"a payment pod is deleted", nil},
		{"a payment pod is killed", []string{"--grace-period=0", "--force"}},
	} {
		pod, err := s.cluster.podOf(ctx, "payment")
		if err != nil {
			return err
		}
		if _, err := s.cluster.kubectl(ctx, "", append([]string{"delete", "pod", pod, "-n", namespace, "--wait=false"}, how.args...)...); err != nil {
			return err
		}
		if err := s.buy(ctx, rush, "while "+how.what); err != nil {
			return err
		}
		if _, err := s.cluster.awaitPods(ctx, rollPatience); err != nil {
			return err
		}
		_, failed := rush.Requests()
		s.say("its successor is ready; %d requests have failed so far", failed)
	}
	_, before := rush.Requests()
	for _, service := range []string{"user", "product", "order", "payment", "coordinator", "gateway"} {
		if err := s.cluster.roll(ctx, service); err != nil {
			return err
		}
		all, failed := rush.Requests()
		s.say("rolled %s; %d requests so far, %d failed since rolling began", service, all, failed-before)
	}
	_, after := rush.Requests()
	s.rollingFailed = after - before
	return s.buy(ctx, rush, "after everything was rolled")
}

// autoscalers shows what each sees, where there is a metrics server.
func (s *smoke) autoscalers(ctx context.Context) error {
	if !s.cluster.measures(ctx) {
		s.say("no metrics server runs here, so the autoscalers see nothing")
		return nil
	}
	seen, err := s.cluster.awaitAutoscalers(ctx, buyPatience)
	if err != nil {
		return err
	}
	s.say("the autoscalers see %s", seen)
	return nil
}

// books checks what must be true of the databases when nobody is buying.
func (s *smoke) books(ctx context.Context) error {
	dbs, stop, err := s.cluster.databases(ctx)
	if err != nil {
		return err
	}
	defer stop()
	violations, err := shopper.AtRestIn(ctx, dbs, restPatience)
	if err = errors.Join(append(violations, err)...); err == nil {
		s.say("nothing is in doubt and the books agree")
	}
	return err
}
