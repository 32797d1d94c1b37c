package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// sealing are the services that keep something sealed.
var sealing = []string{"user", "order", "payment"} //nolint:gochecknoglobals // never changes

// Keys has the keys of every service that seals something rotated, rewrapped or checked: by its own command, while it runs.
func (s *Shop) Keys(ctx context.Context, what string, out io.Writer) error {
	var failed error
	for _, service := range sealing {
		if s.cfg.Instances[service] == 0 {
			continue
		}
		in, err := s.find(service + "-1")
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, s.binary(service), "keys", what)
		cmd.Dir = s.cfg.RunDir
		cmd.Env = s.environment(in, []string{"INSTANCE=" + service + "-keys", "LOG_LEVEL=warn"})
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("keys %s of %s: %w", what, service, err))
		}
	}
	return failed
}
