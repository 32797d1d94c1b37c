package twopc

import (
	"encoding/json"
	"sync"

	"github.com/google/uuid"
)

// memory is what this instance remembers of the branches it has voted yes on and has not yet heard of again: what it need not
// read when it does. It is no truth, that is in the database alone. The zero value is empty and ready for use, by any number
// of goroutines.
type memory struct {
	mu       sync.Mutex
	branches map[place]remembered
}

type place struct {
	gid    uuid.UUID
	branch int
}

type remembered struct {
	action  string
	payload json.RawMessage
	digest  []byte
}

// Bounds of the memory: a branch is usually heard of again within milliseconds.
const (
	rememberMost  = 1000
	rememberBytes = 2 << 10 // of a payload
)

// keep remembers the branch of m.
func (k *memory) keep(m Prepare) {
	if m.OnePhase || len(m.Payload) > rememberBytes {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.branches == nil || len(k.branches) >= rememberMost { // who has that many in doubt is in no hurry
		k.branches = make(map[place]remembered)
	}
	k.branches[place{m.GID, m.Branch}] = remembered{m.Action, m.Payload, m.digest()}
}

// take gives what is remembered of the branch that d is about, and forgets it.
func (k *memory) take(d Decision) (remembered, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := place{d.GID, d.Branch}
	r, ok := k.branches[at]
	delete(k.branches, at)
	return r, ok
}
