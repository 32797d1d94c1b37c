package gateway

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"souk/shared/identity"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// tokenMemory is how long a valid token's signature is not verified again, unless it expires before. That takes as long
	// as all the rest of a request here (measured: 200 µs of 470), and people look at a page every few seconds. Whether the
	// token has been called back is looked up every time.
	tokenMemory = time.Minute
	mostTokens  = 10_000
)

// tokens finds the users that tokens belong to. It may be used concurrently.
type tokens struct {
	verifier *identity.Verifier
	now      func() time.Time

	mu    sync.Mutex
	valid *simplelru.LRU[[sha256.Size]byte, validToken] // by hash: a token is not to be found in our memory
}

type validToken struct {
	holder identity.Principal
	until  time.Time
}

func newTokens(v *identity.Verifier, now func() time.Time) *tokens {
	valid, err := simplelru.NewLRU[[sha256.Size]byte, validToken](mostTokens, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &tokens{verifier: v, now: now, valid: valid}
}

// identify is the user whose token r carries; uuid.Nil if it carries none. A token that is not valid is an error, or is
// removed: see openness.
func (t *tokens) identify(r *http.Request, to route) (uuid.UUID, error) {
	sent := r.Header.Values("Authorization")
	if len(sent) == 0 {
		return uuid.Nil, nil
	}
	token, ok := strings.CutPrefix(sent[0], "Bearer ")
	if !ok || len(sent) > 1 { // two tokens could be read differently by two readers
		token = ""
	}
	user, err := t.verify(token)
	if err != nil && to.open.to(r.Method) {
		r.Header.Del("Authorization")
		return uuid.Nil, nil
	}
	return user, err
}

func (t *tokens) verify(token string) (uuid.UUID, error) {
	key, now := sha256.Sum256([]byte(token)), t.now()
	t.mu.Lock()
	v, ok := t.valid.Get(key)
	t.mu.Unlock()
	if ok && now.Before(v.until) {
		return v.holder.UserID, t.verifier.Recheck(v.holder)
	}
	p, err := t.verifier.Verify(token)
	if err != nil {
		return uuid.Nil, err
	}
	t.mu.Lock()
	t.valid.Add(key, validToken{holder: p, until: earlier(now.Add(tokenMemory), p.Expires())})
	t.mu.Unlock()
	return p.UserID, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
