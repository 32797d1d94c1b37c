package telemetry

import (
	"context"
	"io"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// lines is slog's JSON handler, and writes the same, byte for byte. A record that has nothing but plain text and numbers, as
// that of nearly every request, it encodes itself, at a third of the time: slog asks encoding/json about every number with a
// fraction, and looks at everything as if it might be a group.
type lines struct {
	slog.Handler // for all other records
	out          *oneByOne
	with         []byte // what every record has, encoded; nil if only slog can
}

func newLines(w io.Writer, level slog.Leveler) *lines {
	out := &oneByOne{w: w} // both of us write to it
	return &lines{Handler: slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}), out: out, with: []byte{}}
}

// WithAttrs is part of slog.Handler.
func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &lines{Handler: l.Handler.WithAttrs(attrs), out: l.out, with: slices.Clone(l.with)}
	for _, a := range attrs {
		next.with = appendAttr(next.with, a)
	}
	if l.with == nil {
		next.with = nil
	}
	return next
}

// WithGroup is part of slog.Handler.
func (l *lines) WithGroup(name string) slog.Handler {
	return &lines{Handler: l.Handler.WithGroup(name), out: l.out}
}

// Handle is part of slog.Handler.
func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		defer l.out.flush()
	}
	return l.write(ctx, r)
}

func (l *lines) write(ctx context.Context, r slog.Record) error {
	if l.with == nil || r.Time.IsZero() {
		return l.Handler.Handle(ctx, r)
	}
	room, _ := rooms.Get().(*[]byte)
	if room == nil {
		room = new([]byte)
	}
	defer rooms.Put(room)
	b := append((*room)[:0], `{"time":"`...)
	b = r.Time.Round(0).AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	b = append(b, r.Level.String()...)
	b = append(b, `","msg":`...)
	if b = appendText(b, r.Message); b != nil {
		b = append(b, l.with...)
	}
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, a)
		return b != nil
	})
	if b == nil {
		return l.Handler.Handle(ctx, r)
	}
	b = append(b, "}\n"...)
	*room = b
	_, err := l.out.Write(b)
	return err
}

// rooms are where lines are written.
var rooms sync.Pool //nolint:gochecknoglobals // as any pool

// appendAttr appends an attribute to what is not nil; nil says that only slog can.
func appendAttr(b []byte, a slog.Attr) []byte {
	if b == nil || a.Key == "" {
		return nil
	}
	if b = appendText(append(b, ','), a.Key); b == nil {
		return nil
	}
	b = append(b, ':')
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		return appendText(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindFloat64:
		// Beyond these bounds JSON of Go has exponents, and NaN has none.
		if f := math.Abs(v.Float64()); f == 0 || f >= 1e-6 && f < 1e21 {
			return strconv.AppendFloat(b, v.Float64(), 'f', -1, 64)
		}
	default:
	}
	return nil
}

// appendText appends s as JSON, if that is s in quotes; else nil.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Batch has a logger made by NewLogger write its lines when they are as old as that, or are 32 KiB, or one is a warning: for
// a service that answers thousands of requests a second, to whom a call of the system for each is felt. A process that is
// killed loses what it had not written. Stop writes what is left, and each line at once from then on.
func Batch(log *slog.Logger, age time.Duration) (stop func()) {
	l, ok := log.Handler().(*lines)
	if !ok {
		return func() {}
	}
	l.out.batch(age)
	return func() {
		l.out.batch(0)
		l.out.flush()
	}
}

const fullBatch = 32 << 10

// oneByOne writes one line at a time, or some together.
type oneByOne struct {
	mu    sync.Mutex
	w     io.Writer
	age   time.Duration // 0 is at once
	held  []byte
	timer *time.Timer
}

// Write is part of io.Writer.
func (o *oneByOne) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.age == 0 && len(o.held) == 0 {
		return o.w.Write(line)
	}
	if o.held = append(o.held, line...); o.age == 0 || len(o.held) >= fullBatch {
		return len(line), o.drain()
	}
	if len(o.held) > len(line) { // there is a timer for the first
		return len(line), nil
	}
	if o.timer == nil {
		o.timer = time.AfterFunc(o.age, o.flush)
	} else {
		o.timer.Reset(o.age)
	}
	return len(line), nil
}

func (o *oneByOne) batch(age time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.age = age
}

func (o *oneByOne) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.drain() // there is nowhere to tell
}

func (o *oneByOne) drain() error {
	if len(o.held) == 0 {
		return nil
	}
	_, err := o.w.Write(o.held)
	o.held = o.held[:0]
	return err
}
