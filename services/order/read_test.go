package order_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// list gives the ids that the list holds, over all its pages.
func (s *shop) list(t *testing.T, token string, query url.Values) []uuid.UUID {
	t.Helper()
	var ids []uuid.UUID
	for {
		var page contract.Page[order.Brief]
		s.get(t, token, "/v1/orders?"+query.Encode()).Into(t, http.StatusOK, &page)
		if page.Items == nil {
			t.Error("items is null")
		}
		for _, o := range page.Items {
			ids = append(ids, o.ID)
		}
		if page.NextPageToken == "" {
			return ids
		}
		query.Set("page_token", page.NextPageToken)
	}
}

func TestList_showsYourOwnAndEverybodysToWhoManagesOrders(t *testing.T) {
	t.Parallel()
	s := setup(t)
	other := uuid.New()
	body := lines{{s.sells("cup", 1999, "USD").ID, 1}}.body()
	var mine, theirs, all []uuid.UUID // newest first
	for i := range 6 {
		who, whose := s.buyer, &mine
		if i%3 == 2 {
			who, whose = other, &theirs
		}
		var o order.Order
		s.post(t, s.as(t, who), "/v1/orders", "", body).Into(t, http.StatusCreated, &o)
		*whose = append([]uuid.UUID{o.ID}, *whose...)
		all = append([]uuid.UUID{o.ID}, all...)
	}
	s.post(t, s.as(t, other), "/v1/orders/"+theirs[0].String()+"/cancel", "", nil).Into(t, http.StatusOK, nil)
	placed := s.now(t, all[3]).CreatedAt.Format(time.RFC3339Nano)

	customer, admin := s.as(t, s.buyer), s.asAdmin(t)
	for name, c := range map[string]struct {
		token string
		query string
		want  []uuid.UUID
	}{
		"a customer's":                    {customer, "", mine},
		"a customer's, two at a time":     {customer, "page_size=2", mine},
		"a customer asks for another's":   {customer, "user_id=" + other.String(), nil},
		"a customer asks for their own":   {customer, "user_id=" + s.buyer.String(), mine},
		"nobody's":                        {s.as(t, uuid.New()), "", nil},
		"everybody's":                     {admin, "", all},
		"everybody's, one at a time":      {admin, "page_size=1", all},
		"everybody's, as many as may be":  {admin, "page_size=10000", all},
		"one customer's":                  {admin, "user_id=" + other.String(), theirs},
		"cancelled ones":                  {admin, "status=cancelled", theirs[:1]},
		"a customer's created ones":       {customer, "status=created", mine},
		"since a time":                    {admin, "created_from=" + placed, all[:4]},
		"before a time":                   {admin, "created_before=" + placed, all[4:]},
		"one customer's, before, by ones": {admin, "page_size=1&user_id=" + other.String() + "&created_before=" + placed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.list(t, c.token, query); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestList_refusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for query, want := range map[string]struct {
		status int
		code   string
	}{
		"page_token=x":              {400, "invalid_page_token"},
		"page_token=bm90IGpzb24":    {400, "invalid_page_token"},
		"page_size=many":            {422, "invalid"},
		"status=lost":               {422, "invalid"},
		"user_id=me":                {422, "invalid"},
		"created_from=yesterday":    {422, "invalid"},
		"created_before=%27%3BDROP": {422, "invalid"},
	} {
		s.get(t, s.as(t, s.buyer), "/v1/orders?"+query).Problem(t, want.status, want.code)
	}
	s.get(t, "", "/v1/orders").Problem(t, 401, "unauthenticated")
}

func TestGet_isForTheOwnerAndWhoManagesOrders(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.placed(t)
	path := "/v1/orders/" + o.ID.String()
	for _, token := range []string{s.as(t, s.buyer), s.asAdmin(t)} {
		var got order.Detail
		s.get(t, token, path).Into(t, http.StatusOK, &got)
		if d := cmp.Diff(got.Order, o); d != "" || len(got.History) != 1 {
			t.Errorf("got, want:\n%s\nand a history of one line, not %v", d, got.History)
		}
	}
	s.get(t, "", path).Problem(t, 401, "unauthenticated")
}

// Nobody can find out by asking whether another's order is there.
func TestOrders_ofOthersAnswerLikeMissingOnes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	theirs, missing := s.placed(t).ID, uuid.New()
	stranger := s.as(t, uuid.New())
	ask := func(method, action string, id uuid.UUID) *testkit.Answer {
		return s.Do(t, testkit.Request{
			Method: method, Path: "/v1/orders/" + id.String() + action, Token: stranger, Key: uuid.NewString(),
			Header: http.Header{contract.RequestID: {"same"}},
		})
	}
	for _, c := range []struct{ method, action string }{{"GET", ""}, {"POST", "/cancel"}, {"POST", "/pay"}} {
		got, want := ask(c.method, c.action, theirs), ask(c.method, c.action, missing)
		got.Problem(t, 404, "not_found")
		// The path that was asked is in the problem; apart from it, byte for byte.
		if g := strings.ReplaceAll(string(got.Body), theirs.String(), missing.String()); g != string(want.Body) {
			t.Errorf("%s %s: got %s, want %s", c.method, c.action, g, want.Body)
		}
		if d := cmp.Diff(got.Header, want.Header); d != "" {
			t.Errorf("%s %s: headers: got, want:\n%s", c.method, c.action, d)
		}
	}
	s.wantMoves(t, theirs, order.Created)

	// Who manages orders sees it, and pays for nobody.
	s.post(t, s.Token(t, s.admin, identity.Admin, identity.Customer), "/v1/orders/"+theirs.String()+"/pay", "", nil).Problem(t, 404, "not_found")
	s.post(t, s.asAdmin(t), "/v1/orders/"+missing.String()+"/ship", "", nil).Problem(t, 404, "not_found")
	s.post(t, s.asAdmin(t), "/v1/orders/"+missing.String()+"/deliver", "", nil).Problem(t, 404, "not_found")
}

func TestLookup_tellsOtherServicesWhatToRefund(t *testing.T) {
	t.Parallel()
	s := setup(t)
	o := s.in(t, order.Paid)
	got, err := order.LookupOrder.Call(t.Context(), s.hosts.Client(), &contract.ByID{ID: o.ID})
	if err != nil {
		t.Fatal(err)
	}
	want := order.Summary{ID: o.ID, UserID: s.buyer, Status: "paid", Total: usd(3998)}
	want.Lines = append(want.Lines, got.Body.Lines[0])
	if d := cmp.Diff(got.Body, want); d != "" || want.Lines[0].ProductID != o.Lines[0].ProductID || want.Lines[0].Quantity != 2 {
		t.Errorf("got %+v, want %+v", got.Body, want)
	}
	if _, err := order.LookupOrder.Call(t.Context(), s.hosts.Client(), &contract.ByID{ID: uuid.New()}); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
}
