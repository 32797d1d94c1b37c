package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"souk/deploy/shopper"
)

// cluster is where KUBECONFIG points to, asked through kubectl.
type cluster struct{ root string }

func (c cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return c.run(ctx, stdin, "kubectl", args...)
}

func (c cluster) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin = c.root, strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// get reads a list of objects of the namespace into items.
func (c cluster) get(ctx context.Context, items any, args ...string) error {
	out, err := c.kubectl(ctx, "", append([]string{"get", "-n", namespace, "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	list := struct {
		Items any `json:"items"`
	}{items}
	return json.Unmarshal([]byte(out), &list)
}

// The parts of the objects that are looked at.
type (
	meta struct {
		Name              string `json:"name"`
		DeletionTimestamp string `json:"deletionTimestamp"`
	}
	pod struct {
		Metadata meta `json:"metadata"`
		Status   struct {
			Phase      string `json:"phase"`
			Conditions []struct {
				Type, Status, Message string
			} `json:"conditions"`
			ContainerStatuses []struct {
				State struct {
					Waiting struct {
						Reason, Message string
					} `json:"waiting"`
				} `json:"state"`
			} `json:"containerStatuses"`
		} `json:"status"`
	}
	autoscaler struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			MinReplicas int `json:"minReplicas"`
		} `json:"spec"`
		Status struct {
			CurrentReplicas int `json:"currentReplicas"`
			CurrentMetrics  []struct {
				Resource struct {
					Current struct {
						AverageUtilization *int `json:"averageUtilization"`
					} `json:"current"`
				} `json:"resource"`
			} `json:"currentMetrics"`
		} `json:"status"`
	}
)

// missing says why a pod is neither ready nor done; "" if it is.
func (p pod) missing() string {
	if p.Status.Phase == "Succeeded" {
		return ""
	}
	why := p.Status.Phase
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" && p.Metadata.DeletionTimestamp == "" {
			return ""
		}
		if c.Type == "PodScheduled" && c.Status != "True" {
			why = c.Message
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w.Reason != "" {
			why = strings.TrimSpace(w.Reason + " " + w.Message)
		}
	}
	return p.Metadata.Name + ": " + why
}

// awaitPods waits until every pod is ready, or has done its job, and there are as many of each as the autoscalers want. It
// gives the number of those that are ready.
func (c cluster) awaitPods(ctx context.Context, patience time.Duration) (ready int, err error) {
	err = c.await(ctx, patience, func() (missing []string, err error) {
		var pods []pod
		if err := c.get(ctx, &pods, "pods"); err != nil {
			return nil, err
		}
		ready = 0
		for _, p := range pods {
			switch why := p.missing(); {
			case why != "":
				missing = append(missing, why)
			case p.Status.Phase == "Running":
				ready++
			}
		}
		var scalers []autoscaler
		if err := c.get(ctx, &scalers, "hpa"); err != nil {
			return nil, err
		}
		for _, a := range scalers {
			if a.Status.CurrentReplicas < a.Spec.MinReplicas {
				missing = append(missing, fmt.Sprintf("%s: %d of %d instances", a.Metadata.Name, a.Status.CurrentReplicas, a.Spec.MinReplicas))
			}
		}
		return missing, nil
	})
	return ready, err
}

// await asks every second until nothing is missing.
func (c cluster) await(ctx context.Context, patience time.Duration, ask func() (missing []string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		missing, err := ask()
		if err == nil && len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %s: %w", patience, strings.Join(missing, "; "), errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// gateway is where this machine reaches the shop.
func (c cluster) gateway(ctx context.Context) (string, error) {
	if address := os.Getenv("GATEWAY"); address != "" {
		return address, nil
	}
	out, err := c.kubectl(ctx, "", "get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	if err != nil {
		return "", err
	}
	port, err := c.kubectl(ctx, "", "get", "service", "gateway", "-n", namespace, "-o", "jsonpath={.spec.ports[0].nodePort}")
	if err != nil {
		return "", err
	}
	return "http://" + net.JoinHostPort(strings.Fields(out)[0], port), nil
}

// podOf is a ready pod of a service.
func (c cluster) podOf(ctx context.Context, service string) (string, error) {
	var pods []pod
	if err := c.get(ctx, &pods, "pods", "-l", "app.kubernetes.io/component=service,app.kubernetes.io/name="+service); err != nil {
		return "", err
	}
	for _, p := range pods {
		if p.missing() == "" {
			return p.Metadata.Name, nil
		}
	}
	return "", fmt.Errorf("no pod of %s is ready", service)
}

// roll replaces every pod of a service, as a new version would.
func (c cluster) roll(ctx context.Context, service string) error {
	if _, err := c.kubectl(ctx, "", "rollout", "restart", "deployment/"+service, "-n", namespace); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, "", "rollout", "status", "deployment/"+service, "-n", namespace, "--timeout="+rollPatience.String())
	return err
}

// measures reports whether a metrics server runs.
func (c cluster) measures(ctx context.Context) bool {
	_, err := c.kubectl(ctx, "", "get", "--raw", "/apis/metrics.k8s.io/v1beta1")
	return err == nil
}

// awaitAutoscalers waits until each has read a metric, and says what it was.
func (c cluster) awaitAutoscalers(ctx context.Context, patience time.Duration) (seen string, err error) {
	err = c.await(ctx, patience, func() (missing []string, err error) {
		var scalers []autoscaler
		if err := c.get(ctx, &scalers, "hpa"); err != nil {
			return nil, err
		}
		var all []string
		for _, a := range scalers {
			if m := a.Status.CurrentMetrics; len(m) > 0 && m[0].Resource.Current.AverageUtilization != nil {
				all = append(all, fmt.Sprintf("%s %d%%", a.Metadata.Name, *m[0].Resource.Current.AverageUtilization))
			} else {
				missing = append(missing, a.Metadata.Name+": no metric")
			}
		}
		seen = strings.Join(all, ", ")
		return missing, nil
	})
	return seen, err
}

// databases opens a way to PostgreSQL until stop is called.
func (c cluster) databases(ctx context.Context) (dbs shopper.Databases, stop func(), err error) {
	urls := map[string]string{}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "kubectl", "port-forward", "-n", namespace, "pod/postgres-0", ":5432", "--address=127.0.0.1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, nil, err
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // it was told to end
	}
	port, err := forwarded(bufio.NewReader(stdout))
	if err != nil {
		stop()
		return nil, nil, err
	}
	for _, service := range []string{"user", "product", "order", "payment", "coordinator"} {
		secret, err := c.kubectl(ctx, "", "get", "secret", service, "-n", namespace, `-o=jsonpath={.data.database-url}`)
		if err == nil {
			urls[service], err = through(secret, port)
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
	}
	return func(service string) string { return urls[service] }, stop, nil
}

// forwarded reads the port from "Forwarding from 127.0.0.1:40001 -> 5432".
func forwarded(r *bufio.Reader) (port int, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("kubectl port-forward: %w", err)
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " ")
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("kubectl port-forward said %q: %w", line, err)
	}
	return strconv.Atoi(text)
}

// through is the URL in a Secret, with the host that is reached through a port of this machine.
func through(secret string, port int) (string, error) {
	text, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(string(text))
	if err != nil {
		return "", errors.New("the database-url of a Secret cannot be read") // the error has it
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return u.String(), nil
}
