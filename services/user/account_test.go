package user_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

func registration(email, password, name string) map[string]any {
	return map[string]any{"email": email, "password": password, "display_name": name}
}

func TestRegister_opensACustomersAccount(t *testing.T) {
	t.Parallel()
	s := setup(t)
	answer := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: "k", Body: registration("  Ünal@Souk.Example ", password, " Ünal ")})
	var got wire.User
	answer.Into(t, http.StatusCreated, &got)
	if got.Email != "ünal@souk.example" || got.DisplayName != "Ünal" || len(got.Roles) != 1 || got.Roles[0] != identity.Customer || got.Disabled {
		t.Errorf("got %+v", got)
	}
	if l := answer.Header.Get("Location"); l != "/api/v1/users/me" {
		t.Errorf("Location is %q", l)
	}
	if bytes.Contains(answer.Body, []byte("password")) || bytes.Contains(answer.Body, []byte("argon2")) {
		t.Errorf("the answer tells of the password: %s", answer.Body)
	}
	row := scan[string](t, s.db, `SELECT concat_ws(' ', num_nonnulls(email, display_name), state, (SELECT string_agg(role, ',') FROM account_role WHERE user_id = a.id),
		(SELECT available + held FROM points_account WHERE user_id = a.id), (SELECT became FROM account_history WHERE user_id = a.id)) FROM account a WHERE id = ?`, got.ID)
	if want := "0 active customer 0 active"; row != want {
		t.Errorf("got row %q, want %q", row, want)
	}

	again := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: "k", Body: registration("  Ünal@Souk.Example ", password, " Ünal ")})
	if again.Status != http.StatusCreated || !bytes.Equal(again.Body, answer.Body) {
		t.Errorf("the repetition got %d %s, want the stored answer", again.Status, again.Body)
	}
}

func TestRegister_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.register(t, "taken@souk.example")
	ok := "new@souk.example"
	with := func(field string, v any) map[string]any {
		b := registration(ok, password, "New")
		b[field] = v
		return b
	}
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"a taken address":             {registration("taken@souk.example", password, "X"), 409, "email_taken"},
		"a taken address in capitals": {registration(" TAKEN@souk.example", password, "X"), 409, "email_taken"},
		"nine characters":             {registration(ok, "123456789", "X"), 422, "invalid"},
		"129 characters":              {registration(ok, strings.Repeat("x", 129), "X"), 422, "invalid"},
		"no address":                  {registration("", password, "X"), 422, "invalid"},
		"no @":                        {registration("new.souk.example", password, "X"), 422, "invalid"},
		"two @":                       {registration("a@b@souk.example", password, "X"), 422, "invalid"},
		"a name with the address":     {registration("New <new@souk.example>", password, "X"), 422, "invalid"},
		"two addresses":               {registration("a@souk.example,b@souk.example", password, "X"), 422, "invalid"},
		"no dot":                      {registration("new@localhost", password, "X"), 422, "invalid"},
		"a number for a domain":       {registration("new@[127.0.0.1]", password, "X"), 422, "invalid"},
		"a line break":                {registration("new@souk.example\r\nBcc: a@b.example", password, "X"), 422, "invalid"},
		"a NUL":                       {registration("new\x00@souk.example", password, "X"), 422, "invalid"},
		"255 characters":              {registration(strings.Repeat("x", 250)+"@b.ch", password, "X"), 422, "invalid"},
		"an empty name":               {registration(ok, password, "   "), 422, "invalid"},
		"a name with a NUL":           {registration(ok, password, "N\x00w"), 422, "invalid"},
		"a name that grows by NFC":    {registration(ok, password, strings.Repeat("\u0958", 100)), 422, "invalid"},
		"roles":                       {with("roles", []string{"admin"}), 422, "invalid"},
		"an id":                       {with("id", uuid.NewString()), 422, "invalid"},
		"a field in capitals":         {with("Password", password), 422, "invalid"},
		"a password that is a number": {with("password", 1234567890), 422, "invalid"},
		"no body":                     {"", 400, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: c.body}).Problem(t, c.status, c.code)
		})
	}
	t.Run("no key", func(t *testing.T) {
		t.Parallel()
		s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Body: registration(ok, password, "X")}).Problem(t, 400, "idempotency_key_required")
	})
	t.Cleanup(func() {
		if n := scan[int](t, s.db, "SELECT count(*) FROM account"); n != 1 {
			t.Errorf("%d accounts, want the one of before", n)
		}
	})
}

func TestRegister_saysAllThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	answer := s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: "k", Body: registration("nobody", password, " \t ")})
	answer.Problem(t, 422, "invalid")
	for _, pointer := range []string{"body.email", "body.display_name"} {
		if !bytes.Contains(answer.Body, []byte(pointer)) {
			t.Errorf("%s does not name %s", answer.Body, pointer)
		}
	}
}

func TestRegister_givesAnAddressToOneOfMany(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var opened, taken atomic.Int32
	atOnce(12, func(i int) {
		email := "race@souk.example"
		if i%2 == 0 {
			email = "Race@SOUK.example"
		}
		switch s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: registration(email, password, "X")}).Status {
		case http.StatusCreated:
			opened.Add(1)
		case http.StatusConflict:
			taken.Add(1)
		}
	})
	if opened.Load() != 1 || taken.Load() != 11 {
		t.Errorf("%d opened, %d taken, want 1 and 11", opened.Load(), taken.Load())
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM account"); n != 1 {
		t.Errorf("%d accounts, want 1", n)
	}
}

// The password, and the tokens that stand for it, are nowhere but with their owner.
func TestSecrets_areInNoRowAndNoLog(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var log bytes.Buffer
	deps := s.deps(user.NewArgon2()) // the real one: what it stores is what is looked at
	deps.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	svc, err := user.New(t.Context(), deps)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httpapi.New(httpapi.Config{
		Service: "user", Version: "test", Log: deps.Log, Metrics: prometheus.NewRegistry(), Verifier: identity.NewVerifier(svc.Keyfunc, s.clock.now),
	})
	svc.Routes(s.Server)

	const email, secret, other = "secret@souk.example", "Tr0ub4dor&3-secret", "wrong-Tr0ub4dor&3" //nolint:gosec // it opens nothing
	key := uuid.NewString()
	for range 2 {
		s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: key, Body: registration(email, secret, "X")}).Into(t, 201, nil)
	}
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: registration(email, secret, "X")}).Problem(t, 409, "email_taken")
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: uuid.NewString(), Body: `{"password":"` + secret + `"`}).Problem(t, 400, "malformed")
	s.login(t, email, other).Problem(t, 401, "invalid_credentials")
	s.login(t, "unknown@souk.example", other).Problem(t, 401, "invalid_credentials")
	var first, second wire.Tokens
	s.login(t, email, secret).Into(t, 200, &first)
	s.refresh(t, first.RefreshToken).Into(t, 200, &second)
	s.get(t, second.AccessToken, "/v1/users/me").Into(t, 200, nil)
	s.refresh(t, first.RefreshToken).Problem(t, 401, "invalid_refresh_token")

	rows := everything(t, s.db)
	for name, text := range map[string]string{
		"password": secret, "wrong password": other, "refresh token": first.RefreshToken, "second refresh token": second.RefreshToken,
		"access token": first.AccessToken, "signature": strings.Split(second.AccessToken, ".")[2],
	} {
		for _, form := range []string{text, hex.EncodeToString([]byte(text))} {
			if strings.Contains(rows, form) {
				t.Errorf("the %s is in the database", name)
			}
			if strings.Contains(log.String(), form) {
				t.Errorf("the %s is in the log", name)
			}
		}
	}
	if !strings.Contains(rows, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error("no argon2id hash with the parameters of the house is stored")
	}
	if !strings.Contains(log.String(), "used twice") || strings.Contains(log.String(), email) {
		t.Error("the log lacks the reuse of the refresh token, or has an e-mail address")
	}
}

func TestMe_showsAndChangesTheOwnAccount(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, token := s.register(t, "me@souk.example")
	other, _ := s.register(t, "other@souk.example")
	patch := func(body any) *testkit.Answer {
		return s.Do(t, testkit.Request{Method: "PATCH", Path: "/v1/users/me", Token: token, Body: body})
	}
	var got wire.User
	patch(map[string]any{"display_name": "  Frau Me "}).Into(t, 200, &got)
	if got.ID != u.ID || got.DisplayName != "Frau Me" {
		t.Errorf("got %+v", got)
	}
	patch(map[string]any{}).Into(t, 200, &got)
	s.get(t, token, "/v1/users/me").Into(t, 200, &got)
	if got.DisplayName != "Frau Me" || got.Email != "me@souk.example" {
		t.Errorf("got %+v", got)
	}
	for _, body := range []any{
		map[string]any{"display_name": ""},
		map[string]any{"display_name": "\u200b\x01"},
		map[string]any{"display_name": strings.Repeat("x", 101)},
		map[string]any{"email": "other@souk.example"},
		map[string]any{"roles": []string{"admin"}},
		map[string]any{"disabled": true},
	} {
		patch(body).Problem(t, 422, "invalid")
	}
	s.get(t, s.admin(t), "/v1/users/"+other.ID.String()).Into(t, 200, &got)
	if got.DisplayName != "Somebody" {
		t.Errorf("another's name became %q", got.DisplayName)
	}
	s.get(t, "", "/v1/users/me").Problem(t, 401, "unauthenticated")
	nobody := s.Token(t, uuid.New(), identity.Customer)
	s.get(t, nobody, "/v1/users/me").Problem(t, 404, "no_such_user")
	s.Do(t, testkit.Request{Method: "PATCH", Path: "/v1/users/me", Token: nobody, Body: map[string]any{"display_name": "X"}}).Problem(t, 404, "no_such_user")
}

func TestList_pagesAndFilters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	admin := s.admin(t)
	for i := range 5 {
		s.register(t, fmt.Sprintf("list%d_%%@souk.example", i))
	}
	var seen []string
	path := "/v1/users?page_size=2&q=list"
	for next := ""; ; {
		var p struct {
			Items []wire.User `json:"items"`
			Next  string      `json:"next_page_token"`
		}
		s.get(t, admin, path+next).Into(t, 200, &p)
		for _, u := range p.Items {
			seen = append(seen, u.Email[:5])
		}
		if p.Next == "" {
			break
		}
		next = "&page_token=" + p.Next
	}
	if got, want := strings.Join(seen, " "), "list4 list3 list2 list1 list0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for q, want := range map[string]int{
		"": 8, "LIST3_%25@souk.example": 1, "list_": 0, "%25": 0, "alice": 1, "'%20OR%201=1": 0, "souk": 0,
	} {
		var p struct {
			Items []wire.User `json:"items"`
		}
		s.get(t, admin, "/v1/users?page_size=10000&q="+q).Into(t, 200, &p)
		if len(p.Items) != want {
			t.Errorf("q=%s: got %d accounts, want %d", q, len(p.Items), want)
		}
	}
	s.get(t, admin, "/v1/users?page_token=garbage").Problem(t, 400, "invalid_page_token")
	s.get(t, admin, "/v1/users?q=%ff").Problem(t, 422, "invalid")
	s.get(t, admin, "/v1/users?q=a%00").Problem(t, 422, "invalid")
}
