package payment_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	payments "souk/services/payment"
	"souk/shared/contract/payment"
	"souk/shared/identity"
	"souk/shared/postgres"
	"souk/shared/testkit"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// signed is the header of a body signed at a time with a secret, made as the contract says and not by our own code.
func signed(body string, at time.Time, secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

func (f *shop) webhook(t *testing.T, e payment.Event, at time.Time, secret []byte) *testkit.Answer {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return f.rawWebhook(t, string(body), signed(string(body), at, secret))
}

func (f *shop) rawWebhook(t *testing.T, body, signature string) *testkit.Answer {
	t.Helper()
	return f.Do(t, testkit.Request{Method: "POST", Path: "/v1/webhooks/payments", Body: body, Header: http.Header{payment.WebhookSignature: {signature}}})
}

// pending makes a top-up that waits for its webhook.
func (f *shop) pending(t *testing.T, token string, amount int64) payment.TopUp {
	t.Helper()
	var made payment.TopUp
	f.post(t, token, "/v1/wallets/USD/top-ups", topUpBody(usd(amount), late)).Into(t, 201, &made)
	return made
}

func TestWebhook_isBelievedOnlyWhenSignedAndFresh(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	made := f.pending(t, token, 300)
	event := payment.Event{ID: uuid.New(), Type: payment.EventSucceeded, Reference: made.ID, Amount: usd(300)}
	encoded, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	body, now := string(encoded), f.clock.now()
	right := signed(body, now, secret)
	t.Run("cases", func(t *testing.T) { // what comes after looks at what they have left
		for name, c := range map[string]struct {
			body, signature string
			status          int
			code            string
		}{
			"none":           {body, "", 401, "invalid_signature"},
			"nonsense":       {body, "sha1=abc", 401, "invalid_signature"},
			"no time":        {body, right[len("t=1234567890,"):], 401, "invalid_signature"},
			"another secret": {body, signed(body, now, []byte("guess")), 401, "invalid_signature"},
			"another body":   {body + " ", right, 401, "invalid_signature"},
			"another time":   {body, "t=2" + right[3:], 401, "invalid_signature"},
			"not a time":     {body, signedAt(body, "soon"), 401, "invalid_signature"},
			"old":            {body, signed(body, now.Add(-301*time.Second), secret), 401, "signature_expired"},
			"early":          {body, signed(body, now.Add(time.Hour), secret), 401, "signature_expired"},
			"not JSON":       {"hello", signed("hello", now, secret), 400, "invalid_event"},
			"no event":       {"{}", signed("{}", now, secret), 400, "invalid_event"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f.rawWebhook(t, c.body, c.signature).Problem(t, c.status, c.code)
			})
		}
	})
	if n := f.count(t, "SELECT count(*) FROM provider_event"); n != 0 {
		t.Errorf("%d events were taken in, want none", n)
	}
	f.wantWallet(t, token, 0, 0)
	f.rawWebhook(t, body, right+",v1=00ff").Into(t, 200, nil) // while a secret is changed, two signatures are given
	f.wantWallet(t, token, 300, 0)
}

func signedAt(body, at string) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s", at, body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

func TestWebhook_isAppliedOnceAndInAnyOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	made, other := f.pending(t, token, 300), f.pending(t, token, 50)
	event := func(kind string, reference uuid.UUID, amount int64) payment.Event {
		return payment.Event{ID: uuid.New(), Type: kind, Reference: reference, Amount: usd(amount)}
	}
	succeeded := event(payment.EventSucceeded, made.ID, 300)
	for name, c := range []struct {
		event payment.Event
		want  string
	}{
		{event("charge.looked_at", made.ID, 300), "ignored"},
		{event(payment.EventSucceeded, uuid.New(), 300), "ignored"},
		{succeeded, "applied"},
		{succeeded, "duplicate"},
		{event(payment.EventSucceeded, made.ID, 300), "ignored"},
		{event(payment.EventFailed, made.ID, 300), "ignored"},
		{event(payment.EventFailed, other.ID, 50), "applied"},
		{event(payment.EventSucceeded, other.ID, 50), "ignored"},
	} {
		var got payment.WebhookResult
		f.webhook(t, c.event, f.clock.now(), secret).Into(t, 200, &got)
		if got.Result != c.want {
			t.Errorf("%d: got %s, want %s", name, got.Result, c.want)
		}
	}
	f.wantWallet(t, token, 300, 0)
	f.wantLedgerRight(t)
}

func TestWebhook_ofAnotherAmountIsRefusedAndNotForgotten(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	_, token := f.customer(t)
	made := f.pending(t, token, 300)
	e := payment.Event{ID: uuid.New(), Type: payment.EventSucceeded, Reference: made.ID, Amount: usd(30000)}
	f.webhook(t, e, f.clock.now(), secret).Problem(t, 409, "amount_mismatch")
	f.wantWallet(t, token, 0, 0)
	e.Amount = usd(300)
	f.webhook(t, e, f.clock.now(), secret).Into(t, 200, nil)
	f.wantWallet(t, token, 300, 0)
}

func TestWebhookSecret_isOneForAllInstances(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	// It is from before secrets were sealed.
	old := bytes.Repeat([]byte{7}, 32)
	if err := f.db.Exec("INSERT INTO webhook_secret (secret) VALUES (?)", postgres.Bytea(old)).Error; err != nil {
		t.Fatal(err)
	}
	got := make([]string, 8)
	instances := make([]*payments.Sealed, len(got))
	for i := range instances {
		instances[i] = f.sealed(t)
	}
	parallel(len(got), func(i int) {
		s, err := instances[i].WebhookSecret(t.Context(), "")
		if err != nil {
			t.Error(err)
		}
		got[i] = string(s)
	})
	for _, s := range got {
		if s != string(old) {
			t.Errorf("got %x, want %x", s, old)
		}
	}
	if s, err := instances[0].WebhookSecret(t.Context(), "configured"); err != nil || string(s) != "configured" {
		t.Errorf("got %s %v, want what is configured", s, err)
	}
	var plain int64
	if err := f.db.Raw("SELECT count(*) FROM webhook_secret WHERE secret IS NOT NULL").Scan(&plain).Error; err != nil || plain != 0 {
		t.Errorf("%d secrets are in the clear, %v", plain, err)
	}

	// And one that is new.
	if err := f.db.Exec("DELETE FROM webhook_secret").Error; err != nil {
		t.Fatal(err)
	}
	parallel(len(got), func(i int) {
		s, err := instances[i].WebhookSecret(t.Context(), "")
		if err != nil {
			t.Error(err)
		}
		got[i] = string(s)
	})
	for _, s := range got {
		if s != got[0] || len(s) != 32 || s == string(old) {
			t.Errorf("got %x and %x, want one new secret of 32 bytes", s, got[0])
		}
	}
}

// signer is a key that signs access tokens.
type signer struct{ key *ecdsa.PrivateKey }

func newKey(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

func (s signer) verifier() *identity.Verifier {
	return identity.NewVerifier(func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil }, time.Now)
}

func (s signer) token(t *testing.T, roles ...identity.Role) string {
	t.Helper()
	token, err := identity.Sign(identity.Principal{UserID: uuid.New(), Roles: roles, SessionID: uuid.New()}, s.key, "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func sprint(format string, v any) string { return fmt.Sprintf(format, v) }

// anonymous is a problem without what names the request.
func anonymous(a *testkit.Answer) string {
	var p map[string]any
	_ = json.Unmarshal(a.Body, &p)
	delete(p, "request_id")
	delete(p, "instance")
	b, _ := json.Marshal(p)
	return fmt.Sprint(a.Status, string(b))
}
