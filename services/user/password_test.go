package user_test

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"souk/services/user"
	"souk/shared/fault"

	"github.com/alexedwards/argon2id"
)

func TestArgon2_matchesWhatItHashed(t *testing.T) {
	t.Parallel()
	a := user.NewArgon2()
	hash, err := a.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := a.Matches(t.Context(), password, hash); !ok || err != nil {
		t.Errorf("got %t, %v for the password", ok, err)
	}
	if ok, err := a.Matches(t.Context(), password+" ", hash); ok || err != nil {
		t.Errorf("got %t, %v for another", ok, err)
	}
	if _, err := a.Matches(t.Context(), password, "not a hash"); err == nil {
		t.Error("a hash that cannot be read is no error")
	}
	p, salt, key, err := argon2id.DecodeHash(hash)
	if err != nil || p.Memory != 19*1024 || p.Iterations != 2 || p.Parallelism != 1 || len(salt) != 16 || len(key) != 32 {
		t.Errorf("got parameters %+v, %v", p, err)
	}
}

// On a machine of many processors a crowd that signs in does not take more memory than the container has.
//
//nolint:paralleltest // it changes what the whole process may use
func TestArgon2_keepsToTheMemoryThereIs(t *testing.T) {
	const memory, limit, processors = 128 << 20, 112 << 20, 16 // a container of Compose, on a large laptop
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit)) // which the runtime may exceed by a hash, while it collects
	a := user.NewArgon2()
	var crowd sync.WaitGroup
	for range 2 * processors {
		crowd.Go(func() { _, _ = a.Hash(t.Context(), password) })
	}
	done := make(chan struct{})
	go func() { crowd.Wait(); close(done) }()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var most uint64
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-tick.C:
			metrics.Read(heap)
			most = max(most, heap[0].Value.Uint64())
		case <-done:
			if most > memory {
				t.Errorf("took up to %d MiB of the %d that there are", most>>20, memory>>20)
			}
			return
		}
	}
}

func TestArgon2_leavesWhoCannotWait(t *testing.T) {
	t.Parallel()
	a := user.NewArgon2()
	var crowd sync.WaitGroup
	busy, leave := context.WithCancel(t.Context())
	for range 4 * runtime.GOMAXPROCS(0) { // enough that there is always one in each slot
		crowd.Go(func() {
			for busy.Err() == nil {
				_, _ = a.Hash(t.Context(), password) // may be told to come back: it does
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var refused error
	for range 1000 { // a slot may just be free
		if _, refused = a.Hash(gone, password); refused != nil {
			break
		}
	}
	leave()
	crowd.Wait()
	if !fault.Is(refused, fault.Unavailable) || !fault.HasCode(refused, "overloaded") || !errors.Is(refused, context.Canceled) {
		t.Errorf("got %v, want unavailable", refused)
	}
}
