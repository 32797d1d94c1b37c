package user_test

import (
	"net/http"
	"testing"

	"souk/shared/contract"
	wire "souk/shared/contract/user"
	"souk/shared/testkit"

	"github.com/google/uuid"
)

func (s *shop) setPassword(t *testing.T, token, current, next string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/users/me/password", Token: token, Body: map[string]any{
		"current_password": current, "password": next,
	}})
}

func (s *shop) sessions(t *testing.T, token string) []wire.Session {
	t.Helper()
	var page contract.Page[wire.Session]
	s.get(t, token, "/v1/users/me/sessions").Into(t, 200, &page)
	return page.Items
}

func TestSessions_showsWhereOneIsSignedInAndEndsThem(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.heed(t)
	s.register(t, "a@souk.example")
	s.register(t, "b@souk.example")
	stranger := s.signIn(t, "b@souk.example")
	var phone wire.Tokens
	s.Do(t, testkit.Request{
		Method: "POST", Path: "/v1/auth/login", Body: map[string]any{"email": "a@souk.example", "password": password},
		Header: http.Header{contract.ClientAddress: {"192.0.2.77"}, "User-Agent": {"Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0"}},
	}).Into(t, 200, &phone)
	laptop := s.signIn(t, "a@souk.example")

	list := s.sessions(t, laptop.AccessToken)
	if len(list) != 2 || !list[0].Current || list[1].Current || list[1].Device != "Firefox on Android" || list[1].Network != "192.0.2.0/24" ||
		list[1].Method != "password" || list[0].Device != "an unknown device" || list[0].Network != "" {
		t.Fatalf("got %+v", list)
	}
	end := func(token string, id uuid.UUID) *testkit.Answer {
		return s.Do(t, testkit.Request{Method: "DELETE", Path: "/v1/users/me/sessions/" + id.String(), Token: token})
	}
	end(stranger.AccessToken, list[1].ID).Problem(t, 404, "no_such_session")
	end(laptop.AccessToken, uuid.New()).Problem(t, 404, "no_such_session")
	s.refresh(t, phone.RefreshToken).Into(t, 200, &phone)
	end(laptop.AccessToken, list[1].ID).Into(t, 204, nil)
	end(laptop.AccessToken, list[1].ID).Problem(t, 404, "no_such_session")
	s.refresh(t, phone.RefreshToken).Problem(t, 401, "invalid_refresh_token")

	third := s.signIn(t, "a@souk.example")
	s.Do(t, testkit.Request{Method: "DELETE", Path: "/v1/users/me/sessions", Token: laptop.AccessToken}).Into(t, 204, nil)
	s.refresh(t, third.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	s.refresh(t, stranger.RefreshToken).Into(t, 200, nil)
	if list = s.sessions(t, laptop.AccessToken); len(list) != 1 || !list[0].Current {
		t.Errorf("left: %+v", list)
	}
}

func TestSetPassword_endsEverySessionButTheNewOne(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, poll := s.heed(t)
	s.register(t, "p@souk.example")
	own, elsewhere := s.signIn(t, "p@souk.example"), s.signIn(t, "p@souk.example")

	s.setPassword(t, own.AccessToken, "not the password", "another long password").Problem(t, 401, "invalid_credentials")
	s.setPassword(t, own.AccessToken, password, "short").Problem(t, 422, "invalid")
	s.refresh(t, elsewhere.RefreshToken).Into(t, 200, &elsewhere) // nothing has happened yet

	var next wire.Tokens
	s.setPassword(t, own.AccessToken, password, "another long password").Into(t, 200, &next)
	poll()
	s.refresh(t, own.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	s.refresh(t, elsewhere.RefreshToken).Problem(t, 401, "invalid_refresh_token")
	s.get(t, own.AccessToken, "/v1/users/me").Problem(t, 401, "token_revoked")
	s.get(t, elsewhere.AccessToken, "/v1/users/me").Problem(t, 401, "token_revoked")
	s.get(t, next.AccessToken, "/v1/users/me").Into(t, 200, nil)
	s.refresh(t, next.RefreshToken).Into(t, 200, nil)
	s.login(t, "p@souk.example", password).Problem(t, 401, "invalid_credentials")
	s.login(t, "p@souk.example", "another long password").Into(t, 200, nil)
	if n := scan[int](t, s.db, "SELECT count(*) FROM account_history WHERE changed = 'password' AND was = '' AND became = ''"); n != 1 {
		t.Errorf("%d changes of a password on record, want 1", n)
	}
}
