package user

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"souk/services/user/provider"
	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Signing in with another provider takes three steps. Start notes a flow under a cookie and sends the browser away; the
// callback has the provider vouch for somebody and notes who, under another cookie, since the first has been seen abroad; and
// finish swaps that cookie for tokens. What is noted is good once, and for ten minutes.
//
// Who somebody is here, issuer and subject say. An e-mail address says it never: where it has an account already, its
// password is the proof that both are the same person's. So nobody gets into an account by having a provider that lets them
// claim its address; and who opens an account with somebody else's address waits in vain, because the owner, who does not
// know its password, is never let into it.
const (
	signInCookie = "__Host-souk-sign-in"
	signInLife   = 10 * time.Minute
)

// Providers lists with whom one can sign in.
func (s *Service) Providers(context.Context, *contract.None) (*user.ListProvidersOutput, error) {
	out := new(user.ListProvidersOutput)
	out.Body.Items = []user.Provider{}
	for _, p := range s.providers.List() {
		out.Body.Items = append(out.Body.Items, user.Provider{Name: p.Name, Label: p.Label, Start: "/api/v1/auth/providers/" + p.Name + "/start"})
	}
	return out, nil
}

// StartSignIn sends the browser to a provider.
func (s *Service) StartSignIn(ctx context.Context, in *user.StartSignInInput) (*user.Redirect, error) {
	flow, location, err := s.providers.Start(ctx, in.Provider)
	if err != nil {
		return nil, err
	}
	cookie := randomText()
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return insertSignIn(tx, cookie, flow, returnPath(in), s.now().Add(signInLife))
	})
	if err != nil {
		return nil, err
	}
	return &user.Redirect{Location: location, SetCookie: setSignInCookie(cookie), CacheControl: noStore}, nil
}

// returnPath is where the browser comes back to: a path of the contract's few, never a text of the client's.
func returnPath(in *user.StartSignInInput) string {
	path := "/sign-in"
	for _, known := range []string{"/docs", "/ops"} {
		if in.ReturnTo == known {
			path = known
		}
	}
	if in.Request != uuid.Nil {
		path += "?request=" + in.Request.String()
	}
	return path
}

func setSignInCookie(value string) string {
	age := int(signInLife.Seconds())
	if value == "" {
		age = -1
	}
	return (&http.Cookie{Name: signInCookie, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}).String()
}

// FinishAtProvider is where the provider sends the browser back to. Malformed, code sign_in_failed, is the answer to a browser
// that has not begun this sign-in, whatever it brings.
func (s *Service) FinishAtProvider(ctx context.Context, in *user.CallbackInput) (*user.Redirect, error) {
	begun, err := s.takeSignIn(ctx, in.Cookie)
	if err != nil {
		return nil, err
	}
	if begun == nil || begun.Person != nil || begun.Provider != in.Provider {
		return nil, fault.New(fault.Malformed, "sign_in_failed", "the sign-in did not succeed; begin anew")
	}
	flow := provider.Flow{Provider: begun.Provider, State: begun.State, Nonce: begun.Nonce, Verifier: begun.Verifier}
	person, err := s.providers.Finish(ctx, flow, provider.Answer{Code: in.Code, State: in.State, Issuer: in.Issuer, Error: in.Error})
	if err != nil {
		return nil, err
	}
	cookie := randomText()
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := insertSignIn(tx, cookie, provider.Flow{Provider: begun.Provider}, begun.ReturnTo, s.now().Add(signInLife)); err != nil {
			return err
		}
		return s.sealed.storePerson(tx, cookie, person)
	})
	if err != nil {
		return nil, err
	}
	return &user.Redirect{Location: begun.ReturnTo, SetCookie: setSignInCookie(cookie), CacheControl: noStore}, nil
}

// FinishSignIn gives the tokens of who came back from a provider, and opens an account the first time. Conflict, code
// link_required, says that the e-mail address has one: LinkSignIn goes on from there.
func (s *Service) FinishSignIn(ctx context.Context, in *user.FinishSignInInput) (*user.TokensOutput, error) {
	return s.finish(ctx, in, func(tx *gorm.DB, p provider.Person, name string) (uuid.UUID, error) {
		email, ok := normalEmail(p.Email)
		if !ok || !p.EmailVerified {
			return uuid.Nil, fault.New(fault.Conflict, "email_unverified", "the provider does not vouch for an e-mail address")
		}
		a := account{
			ID: uuid.Must(uuid.NewV7()), PasswordHash: nobodysHash(), State: active, Roles: string(identity.Customer), CreatedAt: s.now(),
		}
		opened, err := s.sealed.openAccount(tx, a, email, nameOf(p.Name, email), contract.RequestIDFrom(ctx))
		if err != nil {
			return uuid.Nil, err
		}
		if !opened {
			return uuid.Nil, fault.New(fault.Conflict, "link_required", "there is an account with this e-mail address; show that it is yours by its password")
		}
		return a.ID, nil
	})
}

// LinkSignIn is FinishSignIn for somebody whose e-mail address has an account here, and who knows its password. Tries are
// counted as those of Login are.
func (s *Service) LinkSignIn(ctx context.Context, in *user.LinkInput) (*user.TokensOutput, error) {
	row, err := findSignIn(s.db.WithContext(ctx), in.Cookie, s.now())
	if err != nil {
		return nil, err
	}
	p, err := s.sealed.personOf(ctx, row, in.Cookie)
	if err != nil {
		return nil, err
	}
	email, _ := normalEmail(p.Email)
	buckets := s.bucketsOf(ctx, email, nil)
	if err := s.throttle(ctx, buckets); err != nil {
		return nil, err
	}
	claimed, err := s.prove(ctx, email, in.Body.Password)
	if err != nil {
		return nil, err
	}
	out, err := s.finish(ctx, &in.FinishSignInInput, func(tx *gorm.DB, again provider.Person, _ string) (uuid.UUID, error) {
		now, err := findAccount(tx, claimed.ID)
		if err == nil && (now.PasswordHash != claimed.PasswordHash || again != p) {
			err = invalidCredentials()
		}
		return claimed.ID, err
	})
	if err != nil {
		return nil, err
	}
	return out, s.succeed(ctx, buckets)
}

// finish uses up the sign-in that the browser shows and begins a session of its person. Whose account that is who has not
// been here before, newcomer says.
func (s *Service) finish(ctx context.Context, in *user.FinishSignInInput, newcomer func(tx *gorm.DB, p provider.Person, name string) (uuid.UUID, error)) (*user.TokensOutput, error) {
	var a account
	var g grant
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		now := s.now()
		row, err := findSignIn(tx, in.Cookie, now)
		if err != nil {
			return err
		}
		p, err := s.sealed.personOf(ctx, row, in.Cookie)
		if err != nil {
			return err
		}
		id, err := findIdentity(tx, p)
		if err != nil {
			return err
		}
		if id == uuid.Nil {
			if id, err = newcomer(tx, p, row.Provider); err != nil {
				return err
			}
			if err := insertIdentity(tx, p, row.Provider, id, now); err != nil {
				return err
			}
		}
		if err := deleteSignIn(tx, in.Cookie); err != nil {
			return err
		}
		if err := shareAccount(tx, id); err != nil { // as in Login
			return err
		}
		if a, err = findAccount(tx, id); err != nil {
			return err
		}
		if a.State != active {
			return fault.New(fault.Forbidden, "account_disabled", "the account is disabled")
		}
		g, err = s.begin(ctx, tx, id, row.Provider, in.Agent)
		return err
	})
	if err != nil {
		return nil, err
	}
	out, err := s.tokens(ctx, a, g)
	if err != nil {
		return nil, err
	}
	out.SetCookie = setSignInCookie("")
	return out, nil
}

// nameOf is what a newcomer is called: as the provider says, if it says something that can be shown.
func nameOf(said, email string) string {
	var w wrong
	if name := w.text("", said, 1, displayNameLen); w.err() == nil {
		return name
	}
	return string([]rune(email)[:min(displayNameLen, len([]rune(email)))])
}

// signIn is a row of sign_in.
type signIn struct {
	Provider, State, Nonce, Verifier, ReturnTo string
	Person                                     []byte
}

// personOf is whom the provider vouches for in row, which cookie names; Unauthenticated, code no_sign_in, while it has not.
func (s *sealed) personOf(ctx context.Context, row signIn, cookie string) (provider.Person, error) {
	if row.Person == nil {
		return provider.Person{}, errNoSignIn
	}
	return s.person.Open(ctx, rowOf(cookie), row.Person)
}

func (s *sealed) storePerson(tx *gorm.DB, cookie string, p provider.Person) error {
	return tx.Exec("UPDATE sign_in SET person = ? WHERE digest = ?", s.person.Seal(rowOf(cookie), p), digest(cookie)).Error
}

// rowOf is what the row that cookie names is called where it is sealed.
func rowOf(cookie string) string { return hex.EncodeToString(digest(cookie)) }

var errNoSignIn = fault.New(fault.Unauthenticated, "no_sign_in", "this browser has no sign-in to finish; begin anew")

const signInColumns = "provider, state, nonce, verifier, return_to, person"

// takeSignIn uses up the row that cookie names; nil where there is none.
func (s *Service) takeSignIn(ctx context.Context, cookie string) (*signIn, error) {
	var rows []signIn
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return tx.Raw("DELETE FROM sign_in WHERE digest = ? AND expires_at > ? RETURNING "+signInColumns, digest(cookie), s.now()).Scan(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// findSignIn gives the row that cookie names, and lets nobody else have it until the transaction ends.
func findSignIn(tx *gorm.DB, cookie string, now time.Time) (row signIn, err error) {
	err = postgres.Found(tx.Raw("SELECT "+signInColumns+" FROM sign_in WHERE digest = ? AND expires_at > ? FOR UPDATE", digest(cookie), now).Scan(&row), errNoSignIn)
	return row, err
}

func insertSignIn(tx *gorm.DB, cookie string, f provider.Flow, returnTo string, expires time.Time) error {
	return tx.Exec("INSERT INTO sign_in (digest, provider, state, nonce, verifier, return_to, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		digest(cookie), f.Provider, f.State, f.Nonce, f.Verifier, returnTo, expires).Error
}

func deleteSignIn(tx *gorm.DB, cookie string) error {
	return tx.Exec("DELETE FROM sign_in WHERE digest = ?", digest(cookie)).Error
}

// findIdentity is whose identity p is; uuid.Nil for a newcomer.
func findIdentity(tx *gorm.DB, p provider.Person) (uuid.UUID, error) {
	var row struct{ UserID uuid.UUID }
	err := tx.Raw("SELECT user_id FROM identity WHERE issuer = ? AND subject = ?", p.Issuer, p.Subject).Scan(&row).Error
	return row.UserID, err
}

func insertIdentity(tx *gorm.DB, p provider.Person, name string, id uuid.UUID, now time.Time) error {
	return tx.Exec("INSERT INTO identity (issuer, subject, user_id, provider, linked_at) VALUES (?, ?, ?, ?, ?)", p.Issuer, p.Subject, id, name, now).Error
}
