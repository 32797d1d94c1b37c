package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"souk/shared/app"
	"souk/shared/contract"
	faults "souk/shared/fault"
	"souk/shared/httpapi"
)

// usualTime is what a node that is well takes for a call, give or take a quarter.
const usualTime = 8 * time.Millisecond

// nodeConfig is what a node reads from its environment besides what every service does.
type nodeConfig struct {
	Next   string   `env:"CHAOS_NEXT"`  // the service that it calls to answer; empty answers itself
	Calls  []string `env:"CHAOS_CALLS"` // services that it will be told to call
	Ledger string   `env:"CHAOS_LEDGER"`
	Seed   uint64   `env:"CHAOS_SEED"`
}

// node is a service that can be told to misbehave, and to call others.
type node struct {
	cfg      nodeConfig
	instance string
	mesh     *http.Client
	ledger   *os.File // the ids of the things made: written at once, so that it outlives a kill

	mu      sync.Mutex
	rand    *rand.Rand
	fault   fault
	since   time.Time
	over    chan struct{} // closed when fault is replaced
	arrived []int64
	stopped map[string]int64
	loads   []*running
}

func serveNode(ctx context.Context, a *app.App) error {
	n := &node{instance: a.Config.Instance, mesh: a.Mesh, over: make(chan struct{}), stopped: map[string]int64{}}
	if err := a.Env(&n.cfg); err != nil {
		return err
	}
	n.rand = rand.New(rand.NewPCG(n.cfg.Seed, 0))
	if n.cfg.Ledger != "" {
		var err error
		if n.ledger, err = os.OpenFile(n.cfg.Ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	httpapi.Handle(a.HTTP, readThing, n.read)
	httpapi.Handle(a.HTTP, makeThing, n.make)
	httpapi.Handle(a.HTTP, setFault, n.misbehave)
	httpapi.Handle(a.HTTP, seeWork, n.seen)
	httpapi.Handle(a.HTTP, beginLoad, n.begin)
	httpapi.Handle(a.HTTP, endLoad, n.end)
	httpapi.Handle(a.HTTP, goIdle, n.idle)
	calls := n.cfg.Calls
	if n.cfg.Next != "" {
		calls = append(calls, n.cfg.Next)
	}
	if err := a.Calls(calls...); err != nil {
		return err
	}
	return a.Serve(ctx)
}

func (n *node) read(ctx context.Context, in *thingInput) (*thingOutput, error) {
	return n.answer(ctx, in, readThing)
}

// make makes a thing, as far as anybody can tell, in the moment it is asked to. Whether the answer arrives is another matter.
func (n *node) make(ctx context.Context, in *thingInput) (*thingOutput, error) {
	if n.ledger != nil {
		if _, err := fmt.Fprintln(n.ledger, in.ID); err != nil {
			return nil, err
		}
	}
	return n.answer(ctx, in, makeThing)
}

func (n *node) answer(ctx context.Context, in *thingInput, route contract.Route[thingInput, thingOutput]) (*thingOutput, error) {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline).Milliseconds()
	f, over, took := n.takeIn()
	switch {
	case f.Hang:
		<-over
	case f.Status == http.StatusInternalServerError:
		return nil, fmt.Errorf("told to fail")
	case f.Status != 0:
		return nil, faults.New(faults.OfStatus(f.Status), "", "told to answer so")
	}
	if rest(ctx, took) != nil {
		n.gone(in.ID)
		return nil, faults.New(faults.Deadline, "", "the caller has gone")
	}
	out := &thingOutput{Instance: n.instance}
	out.Body.Hops = []hop{{Instance: n.instance, LeftMs: left}}
	if n.cfg.Next != "" {
		route.Service = n.cfg.Next
		next, err := route.Call(ctx, n.mesh, in)
		if err != nil {
			return nil, err
		}
		out.Body.Hops = append(out.Body.Hops, next.Body.Hops...)
	}
	return out, nil
}

// takeIn notes a call, and says how it is to be answered.
func (n *node) takeIn() (f fault, over <-chan struct{}, took time.Duration) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.arrived = append(n.arrived, now.UnixMicro())
	f = n.fault
	if f.PeriodMs > 0 && now.Sub(n.since)/time.Millisecond/time.Duration(f.PeriodMs)%2 == 1 {
		f = fault{}
	}
	if f.Share > 0 && n.rand.Float64() >= f.Share {
		f = fault{}
	}
	took = usualTime*3/4 + time.Duration(n.rand.Int64N(int64(usualTime/2)))
	if f.Factor > 0 {
		took = time.Duration(float64(took) * f.Factor)
	}
	return f, n.over, took
}

func (n *node) gone(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped[id] = time.Now().UnixMicro()
}

func (n *node) misbehave(_ context.Context, in *contract.Body[fault]) (*contract.None, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.over)
	n.fault, n.since, n.over = in.Body, time.Now(), make(chan struct{})
	return nil, nil
}

func (n *node) seen(context.Context, *contract.None) (*contract.Body[work], error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &contract.Body[work]{Body: work{Arrived: n.arrived, Stopped: n.stopped}}
	n.arrived, n.stopped = nil, map[string]int64{}
	return out, nil
}

func (n *node) idle(context.Context, *contract.None) (*contract.None, error) {
	n.mesh.CloseIdleConnections()
	return nil, nil
}
