package user_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/seal"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gorm.io/gorm"
)

const password = "correct horse battery"

// shop is the user service under test.
type shop struct {
	*testkit.Service
	user      *user.Service
	db        *gorm.DB
	kek       tink.AEAD
	clock     *clock
	passwords *cheapPasswords
}

func setup(t *testing.T) *shop {
	t.Helper()
	s := &shop{
		Service: testkit.NewService(t, "user"), clock: new(clock), passwords: new(cheapPasswords),
		db:  testkit.Postgres(t, migrations.User(), migrations.Participant(), migrations.Idempotency(), migrations.Seal()),
		kek: testkit.KEK(t),
	}
	var err error
	s.user, err = user.New(t.Context(), s.deps(s.passwords))
	if err != nil {
		t.Fatal(err)
	}
	s.user.Routes(s.Server)
	return s
}

func (s *shop) deps(p user.Passwords) user.Deps {
	return user.Deps{
		DB: s.db, Keys: seal.New("user", s.db, s.kek), Mesh: testkit.Hosts{}.Client(), Passwords: p, Log: s.Log, Metrics: prometheus.NewRegistry(), Now: s.clock.now,
	}
}

// clock is the real one, moved forward by what a test adds.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().UTC().Truncate(time.Microsecond).Add(c.offset)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// cheapPasswords hashes fast, since most tests are not about hashing, and remembers what was compared.
type cheapPasswords struct {
	mu       sync.Mutex
	compared []string // hashes
}

func (*cheapPasswords) Hash(_ context.Context, password string) (string, error) {
	sum := sha256.Sum256([]byte(password))
	return "$argon2id$cheap$" + hex.EncodeToString(sum[:]), nil
}

func (p *cheapPasswords) Matches(ctx context.Context, password, hash string) (bool, error) {
	p.mu.Lock()
	p.compared = append(p.compared, hash)
	p.mu.Unlock()
	want, err := p.Hash(ctx, password)
	return want == hash, err
}

// operator gives the keys as the command keys has them.
func (s *shop) operator(t *testing.T) *seal.Keys {
	t.Helper()
	keys := seal.New("user", s.db, s.kek)
	user.Sealed(keys)
	if err := keys.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return keys
}

// register opens an account and gives it with an access token.
func (s *shop) register(t *testing.T, email string) (wire.User, string) {
	t.Helper()
	var u wire.User
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: map[string]any{
		"email": email, "password": password, "display_name": "Somebody",
	}}).Into(t, http.StatusCreated, &u)
	return u, s.Token(t, u.ID, u.Roles...)
}

// admin seeds the shop's people and gives an access token of its admin.
func (s *shop) admin(t *testing.T) string {
	t.Helper()
	if err := s.user.Seed(t.Context(), password); err != nil {
		t.Fatal(err)
	}
	return s.Token(t, user.SeedAdmin, identity.Admin)
}

func (s *shop) login(t *testing.T, email, password string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/login", Body: map[string]any{"email": email, "password": password}})
}

func (s *shop) signIn(t *testing.T, email string) wire.Tokens {
	t.Helper()
	var out wire.Tokens
	s.login(t, email, password).Into(t, http.StatusOK, &out)
	return out
}

func (s *shop) refresh(t *testing.T, token string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/refresh", Body: map[string]any{"refresh_token": token}})
}

func (s *shop) get(t *testing.T, token, path string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "GET", Path: path, Token: token})
}

// scan reads one value from the database.
func scan[T any](t *testing.T, db *gorm.DB, query string, args ...any) T {
	t.Helper()
	var v T
	if err := db.Raw(query, args...).Scan(&v).Error; err != nil {
		t.Fatal(err)
	}
	return v
}

// atOnce runs do n times at once and waits for all.
func atOnce(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; do(i) })
	}
	close(start)
	wg.Wait()
}

// everything is all that the database holds, as text.
func everything(t *testing.T, db *gorm.DB) string {
	t.Helper()
	var tables []string
	if err := db.Raw("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables).Error; err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, table := range tables {
		var rows []string
		if err := db.Raw("SELECT t::text FROM " + table + " t").Scan(&rows).Error; err != nil {
			t.Fatal(err)
		}
		all.WriteString(strings.Join(rows, "\n"))
	}
	return all.String()
}
