package loop_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"souk/shared/loop"
)

func TestEvery_goesOnAfterAFailureUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		start, ran := time.Now(), []time.Duration(nil)
		err := loop.Every(ctx, time.Second, slog.New(slog.NewJSONHandler(&logged, nil)), "count", func(context.Context) error {
			if ran = append(ran, time.Since(start)); len(ran) == 1 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || len(ran) != 3 || ran[0] != 0 || ran[2] != 2*time.Second {
			t.Errorf("ran at %v and returned %v, want at 0, 1 and 2 s and nil", ran, err)
		}
		if n := strings.Count(logged.String(), `"count"`); n != 1 {
			t.Errorf("logged %d failures, want 1: %s", n, &logged)
		}
	})
}
