package order_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// share asks, by token, that a thing be shared with somebody.
func (s *shop) share(t *testing.T, token, path string, with uuid.UUID, may string, until time.Time) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: "PUT", Path: path + "/shares/" + with.String(), Token: token, Body: map[string]any{"may": may, "expires_at": until}})
}

func (s *shop) do(t *testing.T, method, token, path string) *testkit.Answer {
	t.Helper()
	return s.Do(t, testkit.Request{Method: method, Path: path, Token: token, Key: uuid.NewString()})
}

func TestShareOrder_letsAnotherDoWhatItSaysAndNoMore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	path, owner := "/v1/orders/"+o.ID.String(), s.as(t, s.buyer)
	friendID := uuid.New()
	friend, stranger := s.as(t, friendID), s.as(t, uuid.New())
	tomorrow := time.Now().Add(24 * time.Hour)

	s.get(t, friend, path).Problem(t, 404, "not_found")
	var made order.Share
	s.share(t, owner, path, friendID, "read", tomorrow).Into(t, 200, &made)
	if made.UserID != friendID || made.May != "read" || made.ExpiresAt.Sub(tomorrow).Abs() > time.Millisecond {
		t.Errorf("got %+v", made)
	}
	var seen order.Detail
	s.get(t, friend, path).Into(t, 200, &seen)
	if seen.ID != o.ID || seen.UserID != s.buyer {
		t.Errorf("got %+v", seen)
	}
	for _, action := range []string{"/cancel", "/pay"} {
		s.do(t, "POST", friend, path+action).Problem(t, 403, "forbidden")
	}
	s.share(t, friend, path, uuid.New(), "read", tomorrow).Problem(t, 403, "forbidden")
	s.share(t, friend, path, friendID, "manage", tomorrow).Problem(t, 403, "forbidden")
	s.do(t, "GET", friend, path+"/shares").Problem(t, 403, "forbidden")
	s.do(t, "DELETE", friend, path+"/shares/"+friendID.String()).Problem(t, 403, "forbidden")
	s.get(t, stranger, path).Problem(t, 404, "not_found")
	s.get(t, s.Token(t, friendID, identity.CatalogueManager), path).Problem(t, 403, "forbidden") // no customer any more

	var page contract.Page[order.Brief]
	s.get(t, friend, "/v1/orders?shared_with_me=true").Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].ID != o.ID {
		t.Errorf("got %+v", page)
	}
	s.get(t, friend, "/v1/orders").Into(t, 200, &page)
	if len(page.Items) != 0 {
		t.Errorf("what is shared is among their own: %+v", page)
	}

	s.share(t, owner, path, friendID, "manage", tomorrow).Into(t, 200, nil) // in place of read
	s.do(t, "POST", friend, path+"/pay").Problem(t, 403, "forbidden")
	s.share(t, friend, path, uuid.New(), "read", tomorrow).Problem(t, 403, "forbidden")
	s.do(t, "POST", friend, path+"/cancel").Into(t, 200, nil)
	s.wantMoves(t, o.ID, order.Created, order.Cancelled)
	if by := scan[string](t, s.db, "SELECT actor FROM order_history WHERE order_id = ? ORDER BY id DESC LIMIT 1", o.ID); by != friendID.String() {
		t.Errorf("the history says that %s cancelled it", by)
	}
}

// What has ended, or is taken back, is as if it had never been: the same bytes as for an order that is not there.
func TestShareOrder_ends(t *testing.T) {
	t.Parallel()
	s := setup(t)
	friendID := uuid.New()
	friend, owner := s.as(t, friendID), s.as(t, s.buyer)
	o := s.placed(t)
	path, missing := "/v1/orders/"+o.ID.String(), uuid.NewString()
	gone := func(why string) {
		t.Helper()
		for _, c := range []struct{ method, action string }{{"GET", ""}, {"POST", "/cancel"}, {"POST", "/pay"}, {"GET", "/shares"}} {
			ask := func(id string) *testkit.Answer {
				return s.Do(t, testkit.Request{
					Method: c.method, Path: "/v1/orders/" + id + c.action, Token: friend, Key: uuid.NewString(), Header: http.Header{contract.RequestID: {"same"}},
				})
			}
			got, want := ask(o.ID.String()), ask(missing)
			got.Problem(t, 404, "not_found")
			if g := strings.ReplaceAll(string(got.Body), o.ID.String(), missing); g != string(want.Body) {
				t.Errorf("%s: %s %s: got %s, want %s", why, c.method, c.action, g, want.Body)
			}
		}
	}
	s.share(t, owner, path, friendID, "manage", time.Now().Add(time.Hour)).Into(t, 200, nil)
	s.get(t, friend, path).Into(t, 200, nil)
	if err := s.db.Exec("UPDATE share SET expires_at = now() - interval '1 microsecond'").Error; err != nil {
		t.Fatal(err)
	}
	gone("ended")
	var page contract.Page[order.Share]
	s.get(t, owner, path+"/shares").Into(t, 200, &page)
	if len(page.Items) != 0 {
		t.Errorf("a share that has ended is listed: %+v", page)
	}

	s.share(t, owner, path, friendID, "manage", time.Now().Add(time.Hour)).Into(t, 200, nil)
	s.get(t, friend, path).Into(t, 200, nil)
	s.get(t, owner, path+"/shares").Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].UserID != friendID || page.Items[0].May != "manage" {
		t.Errorf("got %+v", page)
	}
	for range 2 { // ending it again is no error
		s.do(t, "DELETE", owner, path+"/shares/"+friendID.String()).Into(t, 204, nil)
	}
	gone("taken back")
	s.wantMoves(t, o.ID, order.Created)
}

func TestShareOrder_refuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	path, owner, soon := "/v1/orders/"+o.ID.String(), s.as(t, s.buyer), time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		token, path, may string
		with             uuid.UUID
		until            time.Time
		status           int
		code             string
	}{
		"with oneself":                      {owner, path, "read", s.buyer, soon, 422, "invalid_share"},
		"with nobody":                       {owner, path, "read", uuid.Nil, soon, 422, "invalid_share"},
		"until yesterday":                   {owner, path, "read", uuid.New(), time.Now().Add(-time.Hour), 422, "invalid_share"},
		"for two years":                     {owner, path, "read", uuid.New(), time.Now().AddDate(2, 0, 0), 422, "invalid_share"},
		"to do something else":              {owner, path, "pay", uuid.New(), soon, 422, "invalid"},
		"by a stranger, to themselves":      {s.as(t, uuid.New()), path, "manage", uuid.New(), soon, 404, "not_found"},
		"of an order that is not there":     {owner, "/v1/orders/" + uuid.NewString(), "read", uuid.New(), soon, 404, "not_found"},
		"by an admin, who is not its owner": {s.asAdmin(t), path, "read", uuid.New(), soon, 403, "forbidden"},
		"by nobody":                         {"", path, "read", uuid.New(), soon, 401, "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.share(t, c.token, c.path, c.with, c.may, c.until).Problem(t, c.status, c.code)
		})
	}
	t.Cleanup(func() {
		if n := scan[int](t, s.db, "SELECT count(*) FROM share"); n != 0 {
			t.Errorf("%d shares, want none", n)
		}
	})
}

func TestShareOrder_isForFewPeople(t *testing.T) {
	t.Parallel()
	s := setup(t)
	path, owner, soon := "/v1/orders/"+s.placed(t).ID.String(), s.as(t, s.buyer), time.Now().Add(time.Hour)
	last := uuid.New()
	for range 49 {
		s.share(t, owner, path, uuid.New(), "read", soon).Into(t, 200, nil)
	}
	done := make(chan int, 4)
	for range 4 { // at once: one finds room
		go func() { done <- s.share(t, owner, path, uuid.New(), "read", soon).Status }()
	}
	made := 0
	for range 4 {
		if <-done == 200 {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d of four found the one place that was left", made)
	}
	s.share(t, owner, path, last, "read", soon).Problem(t, 409, "too_many_shares")
}

func TestWishlist_isItsOwnersAndWhomTheyShareItWith(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cup := s.sells("cup", 1999, "USD")
	owner, friendID := s.as(t, s.buyer), uuid.New()
	friend, stranger := s.as(t, friendID), s.as(t, uuid.New())
	var list order.Wishlist
	s.post(t, owner, "/v1/wishlists", "", map[string]any{"name": "Birthday"}).Into(t, 201, &list)
	path := "/v1/wishlists/" + list.ID.String()
	wish := path + "/items/" + cup.ID.String()

	for range 2 { // once is enough
		s.do(t, "PUT", owner, wish).Into(t, 200, &list)
	}
	if len(list.Items) != 1 || list.Items[0].ProductID != cup.ID || list.Items[0].AddedBy != s.buyer {
		t.Errorf("got %+v", list)
	}
	s.do(t, "PUT", owner, path+"/items/"+uuid.NewString()).Problem(t, 422, "unknown_product")
	for _, c := range []struct{ method, path string }{
		{"GET", path}, {"DELETE", path}, {"PUT", wish}, {"DELETE", wish}, {"GET", path + "/shares"}, {"DELETE", path + "/shares/" + friendID.String()},
	} {
		s.do(t, c.method, stranger, c.path).Problem(t, 404, "not_found")
		s.do(t, c.method, s.asAdmin(t), c.path).Problem(t, 403, "forbidden") // a wish list is no admin's business
	}

	s.share(t, owner, path, friendID, "read", time.Now().Add(time.Hour)).Into(t, 200, nil)
	s.get(t, friend, path).Into(t, 200, &list)
	for _, c := range []struct{ method, path string }{{"DELETE", path}, {"PUT", wish}, {"DELETE", wish}, {"GET", path + "/shares"}} {
		s.do(t, c.method, friend, c.path).Problem(t, 403, "forbidden")
	}
	s.share(t, owner, path, friendID, "manage", time.Now().Add(time.Hour)).Into(t, 200, nil)
	s.do(t, "DELETE", friend, wish).Into(t, 200, &list)
	if len(list.Items) != 0 {
		t.Errorf("got %+v", list)
	}
	s.do(t, "PUT", friend, wish).Into(t, 200, &list)
	if len(list.Items) != 1 || list.Items[0].AddedBy != friendID {
		t.Errorf("got %+v", list)
	}
	s.do(t, "DELETE", friend, path).Problem(t, 403, "forbidden")
	s.share(t, friend, path, uuid.New(), "read", time.Now().Add(time.Hour)).Problem(t, 403, "forbidden")

	var page contract.Page[order.WishlistBrief]
	for query, want := range map[string]int{"": 0, "?shared_with_me=true": 1} {
		s.get(t, friend, "/v1/wishlists"+query).Into(t, 200, &page)
		if len(page.Items) != want {
			t.Errorf("%q: got %+v", query, page)
		}
	}
	s.get(t, owner, "/v1/wishlists").Into(t, 200, &page)
	if len(page.Items) != 1 || page.Items[0].Name != "Birthday" {
		t.Errorf("got %+v", page)
	}

	s.do(t, "DELETE", owner, path).Into(t, 204, nil)
	s.get(t, friend, path).Problem(t, 404, "not_found")
	s.get(t, owner, path).Problem(t, 404, "not_found")
	if n := scan[int](t, s.db, "SELECT (SELECT count(*) FROM share) + (SELECT count(*) FROM wishlist_item)"); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
}

func TestWishlist_isBounded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	owner := s.as(t, s.buyer)
	cup := s.sells("cup", 1999, "USD")
	var list order.Wishlist
	s.post(t, owner, "/v1/wishlists", "", map[string]any{"name": "All"}).Into(t, 201, &list)
	if err := s.db.Exec(`INSERT INTO wishlist_item SELECT ?, gen_random_uuid(), ?, now() FROM generate_series(1, 200)`, list.ID, s.buyer).Error; err != nil {
		t.Fatal(err)
	}
	s.do(t, "PUT", owner, fmt.Sprintf("/v1/wishlists/%s/items/%s", list.ID, cup.ID)).Problem(t, 409, "wishlist_full")
	if err := s.db.Exec(`INSERT INTO wishlist SELECT gen_random_uuid(), ?, 'x', now(), now() FROM generate_series(1, 49)`, s.buyer).Error; err != nil {
		t.Fatal(err)
	}
	s.post(t, owner, "/v1/wishlists", "", map[string]any{"name": "More"}).Problem(t, 409, "too_many_wishlists")
	s.post(t, owner, "/v1/wishlists", "", map[string]any{"name": ""}).Problem(t, 422, "invalid")
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
