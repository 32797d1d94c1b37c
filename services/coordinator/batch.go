package coordinator

import (
	"context"
	"sync"
	"time"
)

// batcher answers questions, and asks as one what comes in while it is waiting for an answer: a lone question goes at
// once, and the more there are, the less each of them costs. It is how databases group commits.
//
// It is safe for concurrent use. A call that takes long does not hold up the others: what waits longer than patience is
// asked beside it, in at most lanes calls at once.
type batcher[Q, A any] struct {
	call     func(ctx context.Context, questions []Q) ([]A, error) // answers each question, in order
	size     func(Q) int                                           // in bytes; nil does not count them
	pause    time.Duration                                         // to gather before each call: for what nobody waits for
	patience time.Duration
	lanes    int

	mu        sync.Mutex
	waiting   []*question[Q, A]
	flying    int  // calls
	impatient bool // somebody looks after patience whether another call is due
}

const (
	batchMost  = 100
	batchBytes = 60 << 10 // a body that the mesh keeps for another try
)

type question[Q, A any] struct {
	ctx      context.Context
	q        Q
	answered chan struct{}
	a        A
	err      error
}

// ask returns the answer to q, or ctx's error if it ends before. Who asks first makes the call himself, and waits for its
// end: a lone question needs nobody else to be woken.
func (b *batcher[Q, A]) ask(ctx context.Context, q Q) (A, error) {
	asked := &question[Q, A]{ctx: ctx, q: q, answered: make(chan struct{})}
	first := false
	b.mu.Lock()
	b.waiting = append(b.waiting, asked)
	switch {
	case b.flying == 0 && b.pause > 0:
		b.flying++
		go b.fly()
	case b.flying == 0:
		b.flying++
		first = true
	case !b.impatient && b.flying < b.lanes:
		b.impatient = true
		time.AfterFunc(b.patience, b.another)
	}
	b.mu.Unlock()
	if first {
		b.carry(b.take())
		if b.goesOn() { // for others, whom this one need not wait for
			go b.fly()
		}
	}
	select {
	case <-asked.answered:
		return asked.a, asked.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// another opens one more lane if somebody waits.
func (b *batcher[Q, A]) another() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.impatient = false
	if len(b.waiting) > 0 && b.flying < b.lanes {
		b.flying++
		go b.fly()
	}
}

// fly calls until nobody waits.
func (b *batcher[Q, A]) fly() {
	for {
		if b.pause > 0 {
			<-time.After(b.pause)
		}
		b.carry(b.take())
		if !b.goesOn() {
			return
		}
	}
}

// carry makes one call, with a batch that may have gone in another lane meanwhile.
func (b *batcher[Q, A]) carry(batch []*question[Q, A]) {
	if len(batch) == 0 {
		return
	}
	questions := make([]Q, len(batch))
	for i, q := range batch {
		questions[i] = q.q
	}
	// One of them gives up, or ends: that is not to end the others. The values, such as the trace, are the first's.
	answers, err := b.call(context.WithoutCancel(batch[0].ctx), questions)
	for i, q := range batch {
		if q.err = err; err == nil {
			q.a = answers[i]
		}
		close(q.answered)
	}
}

// goesOn reports whether somebody waits; where nobody does, the lane is closed.
func (b *batcher[Q, A]) goesOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 {
		return true
	}
	b.waiting = nil
	b.flying--
	return false
}

// take removes the next batch.
func (b *batcher[Q, A]) take() []*question[Q, A] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(b.waiting), batchMost) {
		if b.size != nil {
			if bytes += b.size(b.waiting[n].q); bytes > batchBytes && n > 0 {
				break
			}
		}
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}
