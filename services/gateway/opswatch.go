package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"souk/shared/fault"
	"souk/shared/mesh"
	"souk/shared/registry"
)

const (
	// opsViewers may look at once. Each costs a goroutine and what is in its channel.
	opsViewers = 32
	// opsLinger is how long watching goes on when nobody looks any more: a page that is loaded anew keeps its past.
	opsLinger = 10 * time.Second
	// opsSilence is how long a process may say nothing, of one that speaks every second.
	opsSilence = 3500 * time.Millisecond
	opsWait    = 10 * time.Second // of one question to Consul
	// opsLine is the longest that a process may say at once, in bytes: a callee takes about 1 KiB and 300 bytes for each of
	// its instances.
	opsLine = 1 << 20
)

// Surveyor says what is registered and how it is; *registry.Registry is one.
type Surveyor interface {
	Survey(ctx context.Context, index uint64, wait time.Duration) (registry.Survey, error)
}

// lookout watches all processes of the shop while somebody looks, and only then: one reader per process, however many look.
// It may be used concurrently.
type lookout struct {
	consul Surveyor
	now    func() time.Time
	client *http.Client

	wake    chan struct{} // there is somebody new
	mu      sync.Mutex
	running bool
	viewers map[*viewer]bool // true: has been told of the past
	nobody  time.Time        // since when there are none
}

// viewer is somebody who looks. What there is to see comes as the text of server-sent events; the channel is closed when
// there will be no more, or when the viewer is too slow.
type viewer struct{ events chan []byte }

func newLookout(consul Surveyor, now func() time.Time) *lookout {
	return &lookout{
		consul: consul, now: now, wake: make(chan struct{}, 1), viewers: map[*viewer]bool{},
		client: &http.Client{Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: time.Second}).DialContext,
			ResponseHeaderTimeout: opsSilence,
			DisableKeepAlives:     true,
		}},
	}
}

// join lets somebody look until leave. Returns Unavailable while run does not run, Exhausted when too many look.
func (l *lookout) join() (*viewer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.running:
		return nil, fault.New(fault.Unavailable, "", "this gateway is going away")
	case len(l.viewers) >= opsViewers:
		return nil, fault.New(fault.Exhausted, "too_many_viewers", "%d are looking already", opsViewers)
	}
	v := &viewer{events: make(chan []byte, 8)}
	l.viewers[v] = false
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return v, nil
}

// leave may be called of one who was closed.
func (l *lookout) leave(v *viewer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(v)
}

// drop is under mu.
func (l *lookout) drop(v *viewer) {
	if _, ok := l.viewers[v]; ok {
		close(v.events)
		delete(l.viewers, v)
		l.nobody = l.now()
	}
}

// run watches whenever somebody looks, until ctx ends. Then nobody can.
func (l *lookout) run(ctx context.Context) error {
	l.mu.Lock()
	l.running = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = false
		for v := range l.viewers {
			l.drop(v)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			l.watch(ctx)
		}
	}
}

// watch keeps a picture of the shop until nobody has looked for a while. All its parts have ended when it returns.
func (l *lookout) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watching{
		lookout: l, picture: newPicture(l.now()), readers: map[string]reader{},
		said: make(chan func(*picture)), surveys: make(chan registry.Survey),
	}
	defer w.parts.Wait()
	defer cancel()
	w.parts.Go(func() { w.survey(ctx) })

	tick := time.NewTimer(untilHalf())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.surveys:
			w.picture.surveyed(s, l.now())
			w.follow(ctx, s)
		case say := <-w.said:
			say(w.picture)
		case <-l.wake:
			w.welcome()
		case <-tick.C:
			tick.Reset(untilHalf())
			w.welcome()
			w.tell()
			if l.deserted() {
				return
			}
		}
	}
}

// untilHalf is the time until the middle of a second: processes speak at its beginning, so by then all have.
func untilHalf() time.Duration {
	const half = time.Second / 2
	now := time.Now()
	d := now.Truncate(time.Second).Add(half).Sub(now)
	if d <= 0 {
		d += time.Second
	}
	return d
}

func (l *lookout) deserted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.viewers) == 0 && l.now().Sub(l.nobody) >= opsLinger
}

// watching is one time of watching. Its fields belong to the goroutine of watch, but for the channels.
type watching struct {
	*lookout
	picture *picture
	seconds [][]byte // the last, encoded
	state   []byte   // the last
	readers map[string]reader
	parts   sync.WaitGroup
	said    chan func(*picture)
	surveys chan registry.Survey
}

type reader struct {
	addr string
	stop context.CancelFunc
}

// tell ends a second and tells everybody.
func (w *watching) tell() {
	now := w.now().UTC()
	past := encode(w.picture.endSecond(now))
	w.seconds = append(w.seconds, past)
	if len(w.seconds) > opsHistory {
		w.seconds = w.seconds[1:]
	}
	w.state = encode(w.picture.state(now))
	text := fmt.Appendf(nil, "event: tick\ndata: {\"second\":%s,\"state\":%s,\"events\":%s}\n\n", past, w.state, encode(w.picture.news()))
	w.mu.Lock()
	defer w.mu.Unlock()
	for v := range w.viewers {
		w.send(v, text)
	}
}

// welcome tells the new ones of the past.
func (w *watching) welcome() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text []byte
	for v, told := range w.viewers {
		if told {
			continue
		}
		w.viewers[v] = true
		if text == nil {
			var bounds []int64
			for _, b := range mesh.HistogramBounds() {
				bounds = append(bounds, b.Microseconds())
			}
			old := w.picture.events[:len(w.picture.events)-w.picture.fresh] // the rest comes with the next second
			text = fmt.Appendf(nil, "event: history\ndata: {\"bounds_us\":%s,\"seconds\":[%s],\"events\":%s}\n\n",
				encode(bounds), bytes.Join(w.seconds, []byte(",")), encode(append([]event{}, old...)))
		}
		w.send(v, text)
	}
}

// send is under mu. It never waits: one slow viewer must not stop the others.
func (w *watching) send(v *viewer, text []byte) {
	select {
	case v.events <- text:
	default:
		w.drop(v)
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of ours
	}
	return b
}

// survey asks Consul again and again.
func (w *watching) survey(ctx context.Context) {
	var index uint64
	for ctx.Err() == nil {
		s, err := w.consul.Survey(ctx, index, opsWait)
		pause := time.Second / 4 // gathers a burst of changes into one
		if err != nil {
			index, pause = 0, time.Second/2+rand.N(time.Second)
			if ctx.Err() == nil {
				w.say(ctx, func(p *picture) { p.consulFailed(w.now(), err) })
			}
		} else {
			index = s.Index
			select {
			case w.surveys <- s:
			case <-ctx.Done():
			}
		}
		rest(ctx, pause)
	}
}

func (w *watching) say(ctx context.Context, say func(*picture)) {
	select {
	case w.said <- say:
	case <-ctx.Done():
	}
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// follow starts a reader for each process that is new, and stops those of processes that are gone.
func (w *watching) follow(ctx context.Context, s registry.Survey) {
	there := map[string]string{}
	for _, in := range s.Instances {
		if addr := in.Admin(); addr != "" {
			there[in.ID] = addr
		}
	}
	for id, r := range w.readers {
		if there[id] != r.addr {
			r.stop()
			delete(w.readers, id)
		}
	}
	for id, addr := range there {
		if _, reading := w.readers[id]; reading {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		w.readers[id] = reader{addr, stop}
		w.parts.Go(func() { w.read(ctx, id, addr) })
	}
}

// read reads one process until ctx ends, whatever becomes of the process.
func (w *watching) read(ctx context.Context, id, addr string) {
	for ctx.Err() == nil {
		err := w.readStream(ctx, id, addr)
		if ctx.Err() == nil {
			w.say(ctx, func(p *picture) { p.lost(id, w.now(), err) })
		}
		rest(ctx, time.Second/2+rand.N(time.Second/2))
	}
}

var errSilent = errors.New("it says nothing")

// readStream reads until the stream breaks or is silent for too long.
func (w *watching) readStream(ctx context.Context, id, addr string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(opsSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/mesh/stream", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return reason(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, opsLine)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		s := new(mesh.Snapshot)
		if err := json.Unmarshal(data, s); err != nil {
			return fmt.Errorf("it says what we cannot read: %w", err)
		}
		silence.Reset(opsSilence)
		w.say(ctx, func(p *picture) { p.take(id, s) })
	}
	if err := lines.Err(); err != nil {
		return reason(ctx, err)
	}
	return errors.New("it ended")
}

// reason is why a stream broke: that we broke it, or err.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}
