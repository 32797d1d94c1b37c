package gateway

import (
	"context"
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
	exchange func(ctx context.Context, token string) (string, error) // of another's program's token
	now      func() time.Time

	mu    sync.Mutex
	valid *simplelru.LRU[[sha256.Size]byte, validToken] // by hash: a token is not to be found in our memory
}

type validToken struct {
	holder  identity.Principal
	swapped string // for the token that came, if services do not take that one
	until   time.Time
}

func newTokens(v *identity.Verifier, exchange func(context.Context, string) (string, error), now func() time.Time) *tokens {
	valid, err := simplelru.NewLRU[[sha256.Size]byte, validToken](mostTokens, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &tokens{verifier: v, exchange: exchange, now: now, valid: valid}
}

// identify is the user whose token r carries; uuid.Nil if it carries none. A token that is not valid is an error, or is
// removed: see openness.
func (t *tokens) identify(r *http.Request, to route) (uuid.UUID, error) {
	sent := r.Header.Values("Authorization")
	if len(sent) == 0 || to.own {
		return uuid.Nil, nil
	}
	token, ok := strings.CutPrefix(sent[0], "Bearer ")
	if !ok || len(sent) > 1 { // two tokens could be read differently by two readers
		token = ""
	}
	v, err := t.verify(r.Context(), token)
	if err != nil && to.open.to(r.Method) {
		r.Header.Del("Authorization")
		return uuid.Nil, nil
	}
	if v.swapped != "" {
		r.Header.Set("Authorization", "Bearer "+v.swapped)
	}
	return v.holder.UserID, err
}

// opaque is how the tokens of others' programs begin. Services take one kind only: such a token is swapped here.
const opaque = "sot_"

// swappedMemory is how long a swapped token is used: half of its life, so that it does not end on its way.
const swappedMemory = identity.DelegatedTokenLife / 2

func (t *tokens) verify(ctx context.Context, token string) (validToken, error) {
	key, now := sha256.Sum256([]byte(token)), t.now()
	t.mu.Lock()
	v, ok := t.valid.Get(key)
	t.mu.Unlock()
	if ok && now.Before(v.until) {
		return v, t.verifier.Recheck(v.holder)
	}
	v = validToken{until: now.Add(tokenMemory)}
	if strings.HasPrefix(token, opaque) {
		swapped, err := t.exchange(ctx, token)
		if err != nil {
			return validToken{}, err
		}
		token, v.swapped, v.until = swapped, swapped, now.Add(swappedMemory)
	}
	p, err := t.verifier.Verify(token)
	if err != nil {
		return validToken{}, err
	}
	v.holder, v.until = p, earlier(v.until, p.Expires())
	t.mu.Lock()
	t.valid.Add(key, v)
	t.mu.Unlock()
	return v, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
