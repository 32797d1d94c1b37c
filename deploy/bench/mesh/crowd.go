package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// crowdPlan asks for so many connections more, each of which is used once, and then for requests on any of them for a while.
type crowdPlan struct {
	Addr, Path string
	Token      string
	More       int
	Rate       int // requests a second
	For        time.Duration
}

type crowdResult struct{ Connections, Requests int }

const (
	crowdAtOnce = 8 // fewer than the gateway lets in when it thinks that the services are slow
	// crowdPerAddr of the connections come from one address of loopback: an address has 28 000 ports at most.
	crowdPerAddr = 1000
)

// gather is a process that holds connections.
func gather(ctx context.Context, in io.Reader, out io.Writer) error {
	var crowd []*visitor
	return serveQuestions(in, out, func(p crowdPlan) (crowdResult, error) {
		more := make([]*visitor, p.More)
		err := inParallel(len(more), func(i int) (err error) {
			more[i], err = visit(ctx, p, len(crowd)+i)
			return err
		})
		if err != nil {
			return crowdResult{}, err
		}
		crowd = append(crowd, more...)
		requests, err := bustle(ctx, p, crowd)
		return crowdResult{len(crowd), requests}, err
	})
}

func inParallel(n int, do func(int) error) error {
	errs := make([]error, crowdAtOnce)
	var all sync.WaitGroup
	for k := range crowdAtOnce {
		all.Go(func() {
			for i := k; i < n && errs[k] == nil; i += crowdAtOnce {
				errs[k] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// visitor is one connection.
type visitor struct {
	mu   sync.Mutex
	conn net.Conn
}

func visit(ctx context.Context, p crowdPlan, number int) (*visitor, error) {
	from := net.IPv4(127, 0, 0, byte(2+number/crowdPerAddr%200)) //nolint:gosec // less than 202
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	v := &visitor{conn: conn}
	return v, v.ask(p)
}

// ask sends a request and reads its answer.
func (v *visitor) ask(p crowdPlan) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(v.conn, "GET %s HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer %s\r\n\r\n", p.Path, p.Token); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(v.conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Close {
		return fmt.Errorf("%s answered %s, close %v: want 200 and a kept connection", p.Addr, resp.Status, resp.Close)
	}
	return nil
}

// bustle asks on connections at random, evenly in time.
func bustle(ctx context.Context, p crowdPlan, crowd []*visitor) (requests int, err error) {
	if p.Rate == 0 {
		return 0, nil
	}
	tick := time.NewTicker(time.Second / time.Duration(p.Rate))
	defer tick.Stop()
	slots := make(chan struct{}, crowdAtOnce)
	errs := make(chan error, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	for end := time.Now().Add(p.For); time.Now().Before(end); requests++ {
		select {
		case <-tick.C:
		case err := <-errs:
			return requests, err
		case <-ctx.Done():
			return requests, ctx.Err()
		}
		slots <- struct{}{}
		asking.Go(func() {
			if err := crowd[rand.IntN(len(crowd))].ask(p); err != nil {
				select {
				case errs <- err:
				default: // one is enough
				}
			}
			<-slots
		})
	}
	return requests, nil
}
