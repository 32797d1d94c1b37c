package user_test

import (
	"bytes"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	wire "souk/shared/contract/user"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const addressesPath = "/v1/users/me/addresses"

func home(changes map[string]any) map[string]any {
	a := map[string]any{
		"label": "Home", "recipient": "Alice Example", "line1": "1 Bazaar Street", "city": "Basel", "postal_code": "4051", "country": "CH",
	}
	maps.Copy(a, changes)
	return a
}

func (s *shop) addAddress(t *testing.T, token string, changes map[string]any) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "POST", Path: addressesPath, Token: token, Key: uuid.NewString(), Body: home(changes)})
}

func (s *shop) listAddresses(t *testing.T, token, query string) (items []wire.Address, next string) {
	t.Helper()
	var p struct {
		Items []wire.Address `json:"items"`
		Next  string         `json:"next_page_token"`
	}
	s.get(t, token, addressesPath+query).Into(t, 200, &p)
	return p.Items, p.Next
}

func TestAddress_livesFromAddToRemove(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, token := s.register(t, "a@souk.example")
	request := testkit.Request{Method: "POST", Path: addressesPath, Token: token, Key: "k", Body: home(map[string]any{"phone": "+41 61 555 01 23", "label": " Home\u0301 "})}
	answer := s.Do(t, request)
	var got wire.Address
	answer.Into(t, http.StatusCreated, &got)
	want := wire.AddressFields{
		Label: "Home\u0301", Recipient: "Alice Example", Line1: "1 Bazaar Street", City: "Basel", PostalCode: "4051", Country: "CH", Phone: "+41 61 555 01 23",
	}
	want.Label = "Hom\u00e9" // NFC
	if diff := cmp.Diff(want, got.AddressFields); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	path := strings.TrimPrefix(answer.Header.Get("Location"), "/api")
	if path != addressesPath+"/"+got.ID.String() {
		t.Errorf("Location is %q", answer.Header.Get("Location"))
	}
	if again := s.Do(t, request); again.Status != http.StatusCreated || !bytes.Equal(again.Body, answer.Body) {
		t.Errorf("the repetition got %d %s", again.Status, again.Body)
	}

	s.clock.forward(1e9)
	var replaced wire.Address
	s.Do(t, testkit.Request{Method: "PUT", Path: path, Token: token, Body: home(map[string]any{"city": "Zürich", "region": "ZH"})}).Into(t, 200, &replaced)
	if replaced.City != "Zürich" || replaced.Region != "ZH" || replaced.Phone != "" || !replaced.CreatedAt.Equal(got.CreatedAt) || !replaced.UpdatedAt.After(got.UpdatedAt) {
		t.Errorf("got %+v", replaced)
	}
	var read wire.Address
	s.get(t, token, path).Into(t, 200, &read)
	if diff := cmp.Diff(replaced, read); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	s.Do(t, testkit.Request{Method: "DELETE", Path: path, Token: token}).Into(t, http.StatusNoContent, nil)
	s.Do(t, testkit.Request{Method: "DELETE", Path: path, Token: token}).Problem(t, 404, "no_such_address")
	if n := scan[int](t, s.db, "SELECT count(*) FROM address"); n != 0 {
		t.Errorf("%d addresses, want none", n)
	}
}

func TestAddress_ofAnotherIsAsIfThereWereNone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, owner := s.register(t, "owner@souk.example")
	_, stranger := s.register(t, "stranger@souk.example")
	var a wire.Address
	s.addAddress(t, owner, map[string]any{"default": true}).Into(t, 201, &a)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		var body any
		if method == "PUT" {
			body = home(map[string]any{"city": "Stolen", "default": true})
		}
		ask := func(id uuid.UUID) string {
			answer := s.Do(t, testkit.Request{
				Method: method, Path: addressesPath + "/" + id.String(), Token: stranger, Body: body,
				Header: http.Header{"X-Request-Id": {"same"}, "X-Forwarded-Prefix": {"/api"}},
			})
			answer.Problem(t, 404, "no_such_address")
			return strings.ReplaceAll(string(answer.Body), id.String(), "")
		}
		if theirs, none := ask(a.ID), ask(uuid.New()); theirs != none {
			t.Errorf("%s: %s differs from %s", method, theirs, none)
		}
	}
	if items, _ := s.listAddresses(t, stranger, ""); len(items) != 0 {
		t.Errorf("a stranger sees %v", items)
	}
	var still wire.Address
	s.get(t, owner, addressesPath+"/"+a.ID.String()).Into(t, 200, &still)
	if diff := cmp.Diff(a, still); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAddAddress_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, token := s.register(t, "a@souk.example")
	for name, changes := range map[string]map[string]any{
		"no country":             {"country": ""},
		"a country of fairyland": {"country": "XX"},
		"two blanks":             {"country": "  "},
		"small letters":          {"country": "ch"},
		"no recipient":           {"recipient": " "},
		"no city":                {"city": ""},
		"a line too long":        {"line1": strings.Repeat("x", 201)},
		"a NUL":                  {"line2": "a\x00b"},
		"a line break":           {"label": "a\nb"},
		"another's id":           {"user_id": uuid.NewString()},
		"a default in words":     {"default": "yes"},
	} {
		s.addAddress(t, token, changes).Problem(t, 422, "invalid")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	s.addAddress(t, "", nil).Problem(t, 401, "unauthenticated")
	s.addAddress(t, s.Token(t, uuid.New(), "customer"), nil).Problem(t, 404, "no_such_user")
	s.Do(t, testkit.Request{Method: "POST", Path: addressesPath, Token: token, Body: home(nil)}).Problem(t, 400, "idempotency_key_required")
	s.get(t, token, addressesPath+"?page_token=%7B%7D").Problem(t, 400, "invalid_page_token")
	if n := scan[int](t, s.db, "SELECT count(*) FROM address"); n != 0 {
		t.Errorf("%d addresses, want none", n)
	}
}

func TestAddAddress_keepsTwentyAndOneDefault(t *testing.T) {
	t.Parallel()
	s := setup(t)
	_, token := s.register(t, "a@souk.example")
	var added, refused atomic.Int32
	atOnce(25, func(int) {
		switch a := s.addAddress(t, token, map[string]any{"default": true}); a.Status {
		case http.StatusCreated:
			added.Add(1)
		case http.StatusConflict:
			a.Problem(t, 409, "too_many_addresses")
			refused.Add(1)
		}
	})
	if added.Load() != 20 || refused.Load() != 5 {
		t.Errorf("%d added, %d refused, want 20 and 5", added.Load(), refused.Load())
	}
	var all []wire.Address
	for query := "?page_size=7"; ; {
		items, next := s.listAddresses(t, token, query)
		all = append(all, items...)
		if next == "" {
			break
		}
		query = "?page_size=7&page_token=" + next
	}
	if len(all) != 20 {
		t.Fatalf("%d listed, want 20", len(all))
	}
	defaults := func() string {
		return scan[string](t, s.db, "SELECT coalesce(string_agg(id::text, ','), '') FROM address WHERE is_default")
	}
	if len(defaults()) != len(uuid.Nil.String()) {
		t.Errorf("the defaults are %q, want one", defaults())
	}
	put := func(a wire.Address, isDefault bool) {
		s.Do(t, testkit.Request{Method: "PUT", Path: addressesPath + "/" + a.ID.String(), Token: token, Body: home(map[string]any{"default": isDefault})}).Into(t, 200, nil)
	}
	put(all[3], true)
	put(all[4], true)
	if got := defaults(); got != all[4].ID.String() {
		t.Errorf("the defaults are %q, want %s", got, all[4].ID)
	}
	put(all[4], false)
	if got := defaults(); got != "" {
		t.Errorf("the defaults are %q, want none", got)
	}
}
