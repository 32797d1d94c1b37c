package user_test

import (
	"encoding/hex"
	"maps"
	"net/http"
	"strings"
	"testing"

	"souk/services/user"
	wire "souk/shared/contract/user"
	"souk/shared/identity"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// What would say who somebody is, and where they live, is nowhere in the database in the clear: not in the rows, and not in
// the answers that are kept for repetitions.
func TestSealed_thePersonIsNowhereInTheDatabase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	key := uuid.NewString()
	register := testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: key, Body: registration("planted@souk.example", password, "Planted Person")}
	s.Do(t, register).Into(t, http.StatusCreated, nil)
	token := s.signIn(t, "planted@souk.example").AccessToken
	s.VerifyWith(identity.NewVerifier(s.user.Keyfunc, s.clock.now))
	planted := map[string]any{
		"label": "Planted Label", "recipient": "Planted Recipient", "line1": "1 Planted Street", "line2": "Planted Floor",
		"city": "Plantedville", "region": "PlantedRegion", "postal_code": "PL4NT3D", "country": "LI", "phone": "+41 61 555 01 23", "default": true,
	}
	var a wire.Address
	post := testkit.Request{Method: "POST", Path: "/v1/users/me/addresses", Token: token, Key: uuid.NewString(), Body: planted}
	s.Do(t, post).Into(t, http.StatusCreated, &a)
	moved := maps.Clone(planted)
	moved["city"] = "Planted City"
	s.Do(t, testkit.Request{Method: "PUT", Path: "/v1/users/me/addresses/" + a.ID.String(), Token: token, Body: moved}).Into(t, 200, nil)
	s.Do(t, testkit.Request{Method: "PATCH", Path: "/v1/users/me", Token: token, Body: map[string]any{"display_name": "Planted Again"}}).Into(t, 200, nil)

	var again wire.Address
	s.Do(t, post).Into(t, http.StatusCreated, &again) // the stored answer
	if again != a || again.City != "Plantedville" {
		t.Errorf("the repetition got %+v, want %+v", again, a)
	}
	if n := scan[int](t, s.db, "SELECT count(*) FROM idempotency_key WHERE sealed_answer IS NOT NULL AND answer IS NULL"); n != 2 {
		t.Errorf("%d answers are kept sealed, want 2", n)
	}
	rows := strings.ToLower(everything(t, s.db))
	for _, text := range []string{"planted", "PL4NT3D", "555 01 23"} {
		text = strings.ToLower(text)
		if strings.Contains(rows, text) || strings.Contains(rows, hex.EncodeToString([]byte(text))) {
			t.Errorf("%q is in the database", text)
		}
	}
}

// A database from before seals itself when the service starts, and everybody is found again.
func TestSealed_takesOverWhatIsPlain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id, address := uuid.New(), uuid.New()
	hash, err := s.passwords.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for _, insert := range []*gorm.DB{
		s.db.Exec(`INSERT INTO account (id, email, password_hash, display_name, state, created_at, updated_at)
			VALUES (?, 'old@souk.example', ?, 'Old', 'active', now(), now())`, id, hash),
		s.db.Exec("INSERT INTO account_role (user_id, role, granted_at) VALUES (?, 'customer', now())", id),
		s.db.Exec("INSERT INTO points_account (user_id) VALUES (?)", id),
		s.db.Exec(`INSERT INTO address (id, user_id, label, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at, updated_at)
			VALUES (?, ?, 'Home', 'Old Person', '1 Old Street', '', 'Basel', '', '4051', 'CH', '', true, now(), now())`, address, id),
	} {
		if insert.Error != nil {
			t.Fatal(insert.Error)
		}
	}
	atOnce(3, func(int) {
		if _, err := user.New(t.Context(), s.deps(s.passwords)); err != nil {
			t.Error(err)
		}
	})
	if rows := everything(t, s.db); strings.Contains(rows, "old@souk.example") || strings.Contains(rows, "Old Street") {
		t.Error("something is plain still")
	}
	got := s.signIn(t, "old@souk.example")
	if got.User.ID != id || got.User.DisplayName != "Old" {
		t.Errorf("got %+v", got.User)
	}
	s.VerifyWith(identity.NewVerifier(s.user.Keyfunc, s.clock.now))
	var a wire.Address
	s.get(t, got.AccessToken, "/v1/users/me/addresses/"+address.String()).Into(t, 200, &a)
	if a.Line1 != "1 Old Street" || a.PostalCode != "4051" || a.Country != "CH" || !a.Default {
		t.Errorf("got %+v", a)
	}
	s.Do(t, testkit.Request{Method: "POST", Path: "/v1/auth/register", Key: "k", Body: registration("OLD@souk.example", password, "X")}).Problem(t, 409, "email_taken")
}

// Who can write to the database cannot give one person the address of another.
func TestSealed_anotherRowsValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := setup(t)
	victim, _ := s.register(t, "victim@souk.example")
	thief, token := s.register(t, "thief@souk.example")
	if err := s.db.Exec("UPDATE account SET sealed_email = (SELECT sealed_email FROM account WHERE id = ?) WHERE id = ?", victim.ID, thief.ID).Error; err != nil {
		t.Fatal(err)
	}
	answer := s.get(t, token, "/v1/users/me")
	answer.Problem(t, http.StatusInternalServerError, "internal")
	if strings.Contains(string(answer.Body), "victim") {
		t.Errorf("got %s", answer.Body)
	}
	if h, err := s.operator(t).Check(t.Context()); err != nil || len(h.Broken) != 1 || !strings.Contains(h.Broken[0], thief.ID.String()) {
		t.Errorf("check says %+v, %v", h, err)
	}
}

// The keys change while people sign in, and nobody is turned away.
func TestSealed_keysChangeUnderLiveTraffic(t *testing.T) {
	t.Parallel()
	s := setup(t)
	u, token := s.register(t, "live@souk.example")
	operator := s.operator(t)
	if _, err := operator.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got wire.User
	s.get(t, token, "/v1/users/me").Into(t, 200, &got) // the service has not looked at the keys since
	if got.Email != u.Email || s.signIn(t, "live@souk.example").User.ID != u.ID {
		t.Errorf("got %+v", got)
	}
	if h, err := operator.Check(t.Context()); err != nil || h.Stale != 0 || len(h.Broken) != 0 || h.Values != 4 { // with two signing keys
		t.Errorf("check says %+v, %v", h, err)
	}
}
