package telemetry

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// What is written is what slog writes, whatever is logged.
func TestLines_sameAsSlog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`), rapid.SampledFrom([]string{"", "plain", `"`, `\`, "<b>&", "\u2028", "\x7f", "\xff", "é"}))
		value := rapid.Custom(func(t *rapid.T) slog.Value {
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				return slog.Int64Value(rapid.Int64().Draw(t, "int"))
			case 1:
				return slog.Uint64Value(rapid.Uint64().Draw(t, "uint"))
			case 2:
				return slog.BoolValue(rapid.Bool().Draw(t, "bool"))
			case 3:
				return slog.Float64Value(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
					0, math.Copysign(0, -1), 1e-6, 9e-7, 1e21, 9.99e20, math.NaN(), math.Inf(1), 0.1, 1234.567, 5e-324,
				})).Draw(t, "float"))
			case 4:
				return slog.DurationValue(time.Duration(rapid.Int64().Draw(t, "duration")))
			case 5:
				return slog.AnyValue(errors.New(text.Draw(t, "error")))
			case 6:
				return slog.GroupValue(slog.String("in", text.Draw(t, "in group")))
			default:
				return slog.StringValue(text.Draw(t, "text"))
			}
		})
		attrs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) slog.Attr {
			return slog.Attr{Key: text.Draw(t, "key"), Value: value.Draw(t, "value")}
		}), 0, 5)
		at := rapid.OneOf(rapid.Just(time.Time{}), rapid.Just(time.Now()), rapid.Just(time.Unix(1, 20_000).UTC())).Draw(t, "at")
		level := slog.Level(rapid.IntRange(-6, 12).Draw(t, "level"))
		message, with, in, group := text.Draw(t, "message"), attrs.Draw(t, "with"), attrs.Draw(t, "attrs"), rapid.Bool().Draw(t, "in a group")

		write := func(make func(io.Writer) slog.Handler) string {
			var b bytes.Buffer
			h := make(&b).WithAttrs(with)
			if group {
				h = h.WithGroup("g").WithAttrs(with)
			}
			if h.Enabled(t.Context(), level) {
				r := slog.NewRecord(at, level, message, 0)
				r.AddAttrs(in...)
				if err := h.Handle(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			return b.String()
		}
		ours := write(func(w io.Writer) slog.Handler { return newLines(w, slog.LevelInfo) })
		slogs := write(func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo})
		})
		if ours != slogs {
			t.Errorf("ours  %sslogs %s", ours, slogs)
		}
	})
}

// Lines of several who log at a time are not mixed up, whoever encodes them.
func TestLines_whole(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(newLines(&b, slog.LevelInfo))
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 500 {
				log.Info("plain", "n", 1)
				log.Info("odd", "error", io.EOF)
			}
		}()
	}
	for range 4 {
		<-done
	}
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, `{"time":"`) || !strings.HasSuffix(line, "}\n") || strings.Count(line, `"time"`) != 1 {
			t.Fatalf("a mixed up line: %s", line)
		}
	}
}

// A batch is written when it is old, when it is large, with a warning, and at the end; and no line of it is lost.
func TestBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out written
		log := NewLogger(&out, slog.LevelInfo, "gateway", "gateway-1")
		stop := Batch(log, 100*time.Millisecond)
		expect := func(when string, lines, writes int) {
			t.Helper()
			synctest.Wait()
			if l, w := out.counts(); l != lines || w != writes {
				t.Errorf("%s: %d lines in %d writes, want %d in %d", when, l, w, lines, writes)
			}
		}
		log.Info("one")
		<-time.After(60 * time.Millisecond)
		log.With("a", errors.New("odd")).Info("two")
		expect("young", 0, 0)
		<-time.After(40 * time.Millisecond)
		expect("old", 2, 1)
		log.Info("three")
		log.Warn("four")
		expect("a warning", 4, 2)
		for range 400 {
			log.Info("many", "text", strings.Repeat("x", 100))
		}
		_, writes := out.counts()
		if writes != 4 {
			t.Errorf("of 80 KiB: %d writes, want 2", writes-2)
		}
		stop()
		expect("the end", 404, 5)
		log.Info("at once")
		expect("after it", 405, 6)
	})
}

// written counts lines and the writes they came in.
type written struct {
	mu            sync.Mutex
	lines, writes int
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines += bytes.Count(p, []byte("\n"))
	w.writes++
	return len(p), nil
}

func (w *written) counts() (lines, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines, w.writes
}

// The event of a request, by ours and by slog's own.
func BenchmarkLine(b *testing.B) {
	for name, h := range map[string]slog.Handler{"ours": newLines(io.Discard, slog.LevelInfo), "slog": slog.NewJSONHandler(io.Discard, nil)} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h).With(slog.String("service", "gateway"), slog.String("instance", "gateway-1"))
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "request",
					slog.String("request_id", "01a3f2c4-7d1e-7c3b-9f00-0123456789ab"), slog.String("method", "GET"), slog.String("route", "/api/v1/orders"),
					slog.Int("status", 200), slog.Float64("duration_ms", 1.234), slog.String("client", "127.0.0.1"),
					slog.String("actor", "01a3f2c4-7d1e-7c3b-9f00-0123456789ab"))
			}
		})
	}
}
