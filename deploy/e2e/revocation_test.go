package e2e

import (
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/fault"

	"github.com/google/uuid"
)

// revokedWithin is how long anybody takes a token that was called back.
const revokedWithin = 5 * time.Second

// calledBack waits until read is refused because the token was called back, and says how long that took.
func calledBack(t *testing.T, what string, read func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := read()
		if fault.HasCode(err, "token_revoked") {
			t.Logf("%s: refused after %s", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Since(begin) > revokedWithin {
			t.Fatalf("%s: the token is good still after %s", what, revokedWithin)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (p *person) orders(t *testing.T) error {
	t.Helper()
	_, err := order.List.Call(t.Context(), p.client, &order.ListInput{})
	return err
}

// What takes from somebody what a token says takes the token too: at once where money moves or an admin acts, and within
// five seconds everywhere, the memory of the gateway included.
func TestRevocation_reachesEveryService(t *testing.T) {
	boss := admin(t)
	topUp := func(p *person) error {
		in := new(payment.TopUpInput)
		in.Currency, in.Body.Amount = "USD", usd(1_00)
		in.Body.Card = payment.Card{Number: "4242424242424242", ExpMonth: 12, ExpYear: 2040, CVC: "123"}
		_, err := payment.CreateTopUp.Call(t.Context(), p.client, in)
		return err
	}
	for name, end := range map[string]func(p *person, refresh string){
		"logout": func(p *person, refresh string) {
			in := new(user.RefreshTokenInput)
			in.Body.RefreshToken = refresh
			if _, err := user.Logout.Call(t.Context(), p.client, in); err != nil {
				t.Fatal(err)
			}
		},
		"disable": func(p *person, _ string) {
			if _, err := user.DisableUser.Call(t.Context(), boss.client, &contract.ByID{ID: p.id}); err != nil {
				t.Fatal(err)
			}
		},
		"other roles": func(p *person, _ string) {
			in := &user.SetRolesInput{ByID: contract.ByID{ID: p.id}}
			in.Body.Roles = append(in.Body.Roles, "customer", "admin")
			if _, err := user.SetRoles.Call(t.Context(), boss.client, in); err != nil {
				t.Fatal(err)
			}
		},
		"another password": func(p *person, _ string) {
			in := new(user.SetPasswordInput)
			in.Body.Current, in.Body.Password = password, "a much better "+uuid.NewString()
			if _, err := user.SetPassword.Call(t.Context(), p.client, in); err != nil {
				t.Fatal(err)
			}
		},
	} {
		p := register(t)
		refresh := p.refresh
		if err := p.orders(t); err != nil { // the gateway remembers the token, and the order service has the key
			t.Fatal(err)
		}
		if err := topUp(p); err != nil {
			t.Fatal(err)
		}
		end(p, refresh)
		if err := topUp(p); !fault.HasCode(err, "token_revoked") { // not a moment later
			t.Errorf("%s: money moved: %v", name, err)
		}
		calledBack(t, name, func() error { return p.orders(t) })
	}
}

// Nothing that was called back comes to life again while the user service is away, and whoever is signed in reads on;
// but what must be asked about online is not done.
func TestRevocation_outlivesTheUserService(t *testing.T) {
	gone, stays := register(t), register(t)
	for _, p := range []*person{gone, stays} {
		if err := p.orders(t); err != nil {
			t.Fatal(err)
		}
	}
	in := new(user.RefreshTokenInput)
	in.Body.RefreshToken = gone.refresh
	if _, err := user.Logout.Call(t.Context(), gone.client, in); err != nil {
		t.Fatal(err)
	}
	calledBack(t, "logout", func() error { return gone.orders(t) })

	if err := shop.Kill(t.Context(), "user-1"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shop.Start(t.Context(), "user-1"); err != nil {
			t.Fatal(err)
		}
		if err := shop.WaitReady(t.Context(), "user-1"); err != nil {
			t.Fatal(err)
		}
	}()
	if err := gone.orders(t); !fault.HasCode(err, "token_revoked") {
		t.Errorf("called back, and the user service away: %v", err)
	}
	if err := stays.orders(t); err != nil {
		t.Errorf("signed in, and the user service away: %v", err)
	}
	if _, err := stays.pay(t.Context(), uuid.New(), uuid.NewString()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("money would move on a token that nobody vouches for: %v", err)
	}
}
