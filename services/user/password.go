package user

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"souk/shared/fault"

	"github.com/alexedwards/argon2id"
)

// Passwords hashes passwords and compares them with hashes. It is an interface so that a test can count what is
// compared.
type Passwords interface {
	// Hash gives the text to store for password.
	Hash(ctx context.Context, password string) (string, error)
	// Matches reports whether hash was made from password. It takes as long for a no as for a yes.
	Matches(ctx context.Context, password, hash string) (bool, error)
}

// params are OWASP's least for argon2id (and in ASVS 5.0, appendix C): 19 MiB and two passes, 32 ms here. The 64 MiB and
// one pass that OWASP also lists took 110 ms, and three times the memory. Parallelism is one, said here because the
// library's own default is the number of processors, and then a hash would cost differently on each machine.
var params = argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32} //nolint:gochecknoglobals // never changes

const (
	// longestWait is how long a password waits for its turn: half of the longest that a request may take. One idle
	// processor hashes some thirty a second, so who waits longer is behind hundreds of others, and better comes back.
	longestWait = 5 * time.Second
	// quiet is how long after the last hash its memory goes back to the system: see Argon2.release.
	quiet = 500 * time.Millisecond
)

// Argon2 is Passwords with argon2id. It hashes as many at once as the process may use processors, because more would only
// take more memory, and no more than there is memory for; the others wait, up to five seconds or until their context ends, and
// are then answered Unavailable, code overloaded. Make it with NewArgon2.
type Argon2 struct {
	slots   chan struct{}
	release *time.Timer
}

// NewArgon2 makes an Argon2. One is enough for a process: a second would not know of the first one's memory.
func NewArgon2() *Argon2 {
	a := &Argon2{
		slots: make(chan struct{}, atOnce(runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1))),
		// Each hash leaves 19 MiB to the garbage collector, and the runtime gives freed memory back only over minutes:
		// measured, 20 logins at once take the process from 32 MiB (26 of them the program itself, mapped) to 125, where
		// it stays; with this it is back at 34 half a second after the last. The collection it forces takes a few
		// milliseconds of a heap that is as small as ours, at a moment when nobody signs in.
		release: time.AfterFunc(quiet, debug.FreeOSMemory),
	}
	a.release.Stop()
	return a
}

// atOnce is how many passwords are hashed at once within limit, which is the process's own (GOMEMLIMIT) in bytes: of a
// laptop's sixteen processors a container of Compose takes eight, and eight hashes are more than the memory it has.
func atOnce(processors int, limit int64) int {
	const rest = 64 << 20 // what all else takes, and two hashes that are done and that the collector has not come to
	fit := (limit - rest) / (int64(params.Memory) << 10)
	return int(max(1, min(int64(processors), fit)))
}

// Hash implements Passwords.
func (a *Argon2) Hash(ctx context.Context, password string) (string, error) {
	done, err := a.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return argon2id.CreateHash(password, &params)
}

// Matches implements Passwords.
func (a *Argon2) Matches(ctx context.Context, password, hash string) (bool, error) {
	done, err := a.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	return argon2id.ComparePasswordAndHash(password, hash)
}

func (a *Argon2) turn(ctx context.Context) (done func(), err error) {
	wait := time.NewTimer(longestWait)
	defer wait.Stop()
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots; a.release.Reset(quiet) }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-wait.C:
		err = fmt.Errorf("waited %s", longestWait)
	}
	return nil, fault.New(fault.Unavailable, "overloaded", "too many people are signing in just now; try again").Because(err)
}

// nobodysHash is a hash that no password matches, and that takes as long to compare with as anybody's: salt and key are
// of the right length and random, the parameters those of every hash. (One that cannot be decoded would be refused
// thousands of times faster, and so tell that the account is unknown.)
func nobodysHash() string {
	random := func(n uint32) string {
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails: see crypto/rand
		return base64.RawStdEncoding.EncodeToString(b)
	}
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s",
		params.Memory, params.Iterations, params.Parallelism, random(params.SaltLength), random(params.KeyLength))
}
