// Package loop repeats what a service does beside its requests: to recover, to reconcile, to sweep.
package loop

import (
	"context"
	"log/slog"
	"time"
)

// Every runs step at once and then each interval, until ctx ends; then it returns nil. What goes wrong is logged as what,
// and tried again at the next turn. A step that takes longer than interval delays the next one.
func Every(ctx context.Context, interval time.Duration, log *slog.Logger, what string, step func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := step(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, what, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
