package main

import (
	"bufio"
	"encoding/base64"
	"strings"
	"testing"
)

func TestForwarded_readsThePortThatWasChosen(t *testing.T) {
	t.Parallel()
	port, err := forwarded(bufio.NewReader(strings.NewReader("Forwarding from 127.0.0.1:40001 -> 5432\n")))
	if err != nil || port != 40001 {
		t.Errorf("got %d, %v", port, err)
	}
	if _, err := forwarded(bufio.NewReader(strings.NewReader("error: no such pod\n"))); err == nil {
		t.Error("took an error for a port")
	}
}

func TestThrough_keepsAllButTheHost(t *testing.T) {
	t.Parallel()
	const url = "postgres://order@postgres:5432/order?sslmode=disable"
	secret := base64.StdEncoding.EncodeToString([]byte(url))
	got, err := through(secret, 40001)
	if want := strings.Replace(url, "postgres:5432", "127.0.0.1:40001", 1); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// What keeps a pod from being ready is told, with its reason; one that has done its job is fine.
func TestPod_missing(t *testing.T) {
	t.Parallel()
	ready := pod{Metadata: meta{Name: "order-1"}}
	ready.Status.Phase = "Running"
	ready.Status.Conditions = append(ready.Status.Conditions, struct{ Type, Status, Message string }{"Ready", "True", ""})
	leaving := ready
	leaving.Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z"
	done := pod{Metadata: meta{Name: "order-migrate-1"}}
	done.Status.Phase = "Succeeded"
	homeless := pod{Metadata: meta{Name: "order-2"}}
	homeless.Status.Phase = "Pending"
	homeless.Status.Conditions = append(homeless.Status.Conditions, struct{ Type, Status, Message string }{"PodScheduled", "False", "Insufficient cpu"})
	for name, c := range map[string]struct {
		pod  pod
		want string
	}{
		"ready":            {ready, ""},
		"on its way out":   {leaving, "order-1: Running"},
		"done":             {done, ""},
		"no node has room": {homeless, "order-2: Insufficient cpu"},
	} {
		if got := c.pod.missing(); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
