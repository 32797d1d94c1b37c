package identity

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"souk/shared/fault"

	"github.com/google/uuid"
)

// RevocationLife is how long a revocation has to be told: longer than any token lives that it could be about, and than
// a key that was withdrawn stays in the caches of who verifies with it.
const RevocationLife = AccessTokenLife + 5*time.Minute

const (
	// feedEvery bounds, with the time that a failed try takes, how long a token is taken that was called back: 5 s.
	feedEvery = 2 * time.Second
	// feedFirst is the pause between tries until the feed was heard for the first time: no token is good before.
	feedFirst = 100 * time.Millisecond
	// feedWait is how long a request waits for that first time.
	feedWait = time.Second
)

// Revocation calls back access tokens that were good: all of a session, all of a user that are older than a version, or
// all that were signed with a key. Which of them it is the other fields' zero values say.
type Revocation struct {
	User    uuid.UUID `json:"user,omitzero"`
	Version int64     `json:"version,omitzero"` // tokens of User with a lower one are called back
	Session uuid.UUID `json:"session,omitzero"`
	Key     string    `json:"key,omitzero"`
	At      time.Time `json:"at"`
}

// Fetch gives the revocations after a cursor, all of the last RevocationLife for the empty one, and the next cursor.
// What was told before may be told again.
type Fetch func(ctx context.Context, after string) ([]Revocation, string, error)

// Feed knows which tokens have been called back, as far as it has heard. While nobody answers it knows what it has heard
// last; until it has been told for the first time it knows nothing, and no token is good. It is safe for concurrent use.
type Feed struct {
	fetch Fetch
	now   func() time.Time
	heard chan struct{} // closed when it has been told for the first time
	after string        // of Poll's

	mu       sync.RWMutex
	users    map[uuid.UUID]calledBack
	sessions map[uuid.UUID]calledBack
	keys     map[string]calledBack
}

type calledBack struct {
	version int64
	until   time.Time // then every token it is about has expired
}

// NewFeed makes a feed that asks fetch.
func NewFeed(fetch Fetch, now func() time.Time) *Feed {
	return &Feed{
		fetch: fetch, now: now, heard: make(chan struct{}),
		users: map[uuid.UUID]calledBack{}, sessions: map[uuid.UUID]calledBack{}, keys: map[string]calledBack{},
	}
}

// Run asks every two seconds what has been called back, until ctx ends, and more often as long as it has never been told.
func (f *Feed) Run(ctx context.Context, log *slog.Logger) error {
	failing := false
	for {
		err := f.Poll(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			log.WarnContext(ctx, "what tokens are called back is not heard", "error", err)
		}
		failing = err != nil
		pause := feedEvery
		if !f.known() {
			pause = feedFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause*9/10 + rand.N(pause/10)): //nolint:gosec // so that not all ask at the same moment
		}
	}
}

// Poll asks once. Only one may run at a time.
func (f *Feed) Poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, feedEvery)
	defer cancel()
	told, next, err := f.fetch(ctx, f.after)
	if err != nil {
		f.after = "" // whoever answers next may count otherwise
		return err
	}
	f.after = next
	f.hear(told)
	if !f.known() {
		close(f.heard)
	}
	return nil
}

func (f *Feed) known() bool {
	select {
	case <-f.heard:
		return true
	default:
		return false
	}
}

func (f *Feed) hear(told []Revocation) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range told {
		c := calledBack{r.Version, r.At.Add(RevocationLife)}
		switch {
		case r.Key != "":
			f.keys[r.Key] = c
		case r.Session != uuid.Nil:
			f.sessions[r.Session] = c
		case f.users[r.User].version <= r.Version:
			f.users[r.User] = c
		}
	}
	forget(f.users, now)
	forget(f.sessions, now)
	forget(f.keys, now)
}

func forget[K comparable](m map[K]calledBack, now time.Time) {
	for k, c := range m {
		if now.After(c.until) {
			delete(m, k)
		}
	}
}

// await waits a moment for the first time that the feed is told.
func (f *Feed) await() error {
	if f.known() {
		return nil
	}
	select {
	case <-f.heard:
		return nil
	case <-time.After(feedWait):
		return fault.New(fault.Unavailable, "", "access tokens cannot be verified just now").Because(errors.New("what is called back was never heard"))
	}
}

// refuses is nil unless p's token was called back.
func (f *Feed) refuses(p Principal) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if c, ok := f.users[p.UserID]; ok && p.Version < c.version {
		return Revoked()
	}
	if _, ok := f.sessions[p.SessionID]; ok {
		return Revoked()
	}
	if _, ok := f.keys[p.key]; ok {
		return Revoked()
	}
	return nil
}

// Revoked says that a token was good and has been called back: its session has ended, or what its owner may do has
// changed. A refresh finds out which.
func Revoked() error {
	return fault.New(fault.Unauthenticated, "token_revoked", "the access token was called back; refresh it, or sign in again")
}
