package user_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/contract"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

// try is a login from an address, by a browser that has the cookie; both may be empty.
func (s *shop) try(t *testing.T, email, password, from, cookie string) *testkit.Answer {
	t.Helper()
	h := http.Header{}
	if from != "" {
		h.Set(contract.ClientAddress, from)
	}
	if cookie != "" {
		h.Set("Cookie", cookie)
	}
	return s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/login", Header: h, Body: map[string]any{"email": email, "password": password}})
}

// fail tries wrong passwords until it is slowed down, and gives how often that went and how long to wait.
func (s *shop) fail(t *testing.T, most int, email string, from func(i int) string) (tries int, wait time.Duration) {
	t.Helper()
	for i := range most {
		a := s.try(t, email, "not the password", from(i), "")
		if a.Status == http.StatusTooManyRequests {
			return i, retryAfter(t, a)
		}
		a.Problem(t, 401, "invalid_credentials")
	}
	return most, 0
}

func retryAfter(t *testing.T, a *testkit.Answer) time.Duration {
	t.Helper()
	a.Problem(t, 429, "too_many_tries")
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		t.Fatalf("Retry-After is %q", a.Header.Get("Retry-After"))
	}
	return time.Duration(seconds) * time.Second
}

func at(from string) func(int) string { return func(int) string { return from } }

// Who tries passwords from one place is let on ever more slowly, and being right is no exception; elsewhere, and from a
// browser that has signed in before, the account's owner notices nothing.
func TestThrottle_slowsDownWhoTriesAndNobodyElse(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "victim@souk.example")
	first := s.try(t, "victim@souk.example", password, "192.0.2.1", "")
	first.Into(t, 200, nil)
	cookie := first.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-souk-device=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie is %q, without %s", cookie, want)
		}
	}
	cookie, _, _ = strings.Cut(cookie, ";")

	s.clock.forward(time.Hour)
	compared := len(s.passwords.compared)
	if n, wait := s.fail(t, 100, "victim@souk.example", at("203.0.113.5")); n != 21 || wait != time.Second {
		t.Errorf("slowed down after %d tries, for %s; want 21, 1s", n, wait)
	}
	if n := len(s.passwords.compared) - compared; n != 21 {
		t.Errorf("%d passwords were compared, want 21", n)
	}
	for want := 2 * time.Second; want <= 64*time.Second; want *= 2 {
		if wait := retryAfter(t, s.try(t, "victim@souk.example", password, "203.0.113.5", "")); wait > want/2 {
			t.Errorf("the right password waits %s, want at most %s", wait, want/2)
		}
		s.clock.forward(want / 2)
		s.try(t, "victim@souk.example", "not the password", "203.0.113.5", "").Problem(t, 401, "invalid_credentials")
		if wait := retryAfter(t, s.try(t, "victim@souk.example", "x", "203.0.113.5", "")); wait > time.Minute || wait < want/2 {
			t.Errorf("the next wait is %s, want about %s", wait, min(want, time.Minute))
		}
	}
	s.try(t, "victim@souk.example", password, "198.51.100.7", "").Into(t, 200, nil) // another network
	s.try(t, "other@souk.example", password, "203.0.113.5", "").Problem(t, 401, "invalid_credentials")
	known := s.try(t, "victim@souk.example", password, "203.0.113.5", cookie)
	known.Into(t, 200, nil)
	if c := known.Header.Get("Set-Cookie"); c != "" {
		t.Errorf("a browser that is known is given %q", c)
	}
	// The cookie is of one account, and one that nobody gave is worth nothing.
	if n, _ := s.fail(t, 60, "other@souk.example", at("203.0.113.5")); n == 60 {
		t.Error("another account from there is not slowed down")
	}
	for _, c := range []string{cookie, "__Host-souk-device=made-up"} {
		if a := s.try(t, "other@souk.example", "x", "203.0.113.5", c); a.Status != 429 {
			t.Errorf("with %s: %d", c, a.Status)
		}
	}
}

// A stranger with many addresses cannot keep the owner out either: the account's bucket is full for everybody but who has
// signed in before.
func TestThrottle_fromManyAddresses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "victim@souk.example")
	cookie, _, _ := strings.Cut(s.try(t, "victim@souk.example", password, "192.0.2.1", "").Header.Get("Set-Cookie"), ";")
	many := func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i) }
	if n, _ := s.fail(t, 300, "victim@souk.example", many); n != 101 {
		t.Errorf("slowed down after %d tries from as many networks, want 101", n)
	}
	s.try(t, "victim@souk.example", password, "192.0.2.1", cookie).Into(t, 200, nil)
	// Whether there is an account makes no difference.
	if n, _ := s.fail(t, 300, "nobody@souk.example", many); n != 101 {
		t.Errorf("without an account: slowed down after %d tries, want 101", n)
	}
}

// Who tries one password at many accounts is slowed down by where they come from, a whole /64 of IPv6 at a time.
func TestThrottle_sprays(t *testing.T) {
	t.Parallel()
	s := setup(t)
	n := 0
	for ; n < 100; n++ {
		a := s.try(t, fmt.Sprintf("v%d@souk.example", n), "Summer2026!", fmt.Sprintf("2001:db8:1:1::%x", n), "")
		if a.Status == 429 {
			break
		}
	}
	if n != 51 {
		t.Errorf("slowed down after %d accounts, want 51", n)
	}
}

// Many tries at once are counted before any is looked at.
func TestThrottle_countsAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "race@souk.example")
	var looked atomic.Int32
	atOnce(60, func(int) {
		if s.try(t, "race@souk.example", "not the password", "192.0.2.9", "").Status == 401 {
			looked.Add(1)
		}
	})
	if looked.Load() != 21 {
		t.Errorf("%d of 60 at once were looked at, want 21", looked.Load())
	}
}

// People who know their passwords are never slowed down, however many they are.
func TestThrottle_givesBackWhatWasRight(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "often@souk.example")
	for range 120 {
		s.try(t, "often@souk.example", password, "192.0.2.9", "").Into(t, 200, nil)
	}
	s.clock.forward(48 * time.Hour)
	if err := s.user.ForgetExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM login_bucket"); n != 0 {
		t.Errorf("%d buckets are kept", n)
	}
}

func TestThrottle_registrationsAndTheOwnPassword(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "taken@souk.example")
	ask := func(email string) *testkit.Answer {
		return s.Do(t, testkit.Request{
			Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: registration(email, password, "X"),
			Header: http.Header{contract.ClientAddress: {"192.0.2.5"}},
		})
	}
	for range 60 {
		ask(uuid.NewString()+"@souk.example").Into(t, 201, nil) // those count for nothing
	}
	for range 51 {
		ask("taken@souk.example").Problem(t, 409, "email_taken")
	}
	retryAfter(t, ask("taken@souk.example"))

	own := s.Token(t, s.signIn(t, "taken@souk.example").User.ID, identity.Customer) // a stolen token, say
	for range 21 {
		s.setPassword(t, own, "a guess", "another long password").Problem(t, 401, "invalid_credentials")
	}
	retryAfter(t, s.setPassword(t, own, password, "another long password"))
}

func TestPasswords_thatAreTriedFirst(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, bad := range []string{"password123", "PassWord123", "qwertyuiop", "1234567890", "b@souk.example"} {
		s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: registration("b@souk.example", bad, "B")}).
			Problem(t, 422, "breached_password")
	}
	u, token := s.register(t, "b@souk.example")
	s.setPassword(t, token, password, "password1234").Problem(t, 422, "breached_password")
	var tokens wire.Tokens
	s.setPassword(t, token, password, "a password of my own").Into(t, 200, &tokens)
	if tokens.User.ID != u.ID {
		t.Errorf("got %+v", tokens.User)
	}
}
