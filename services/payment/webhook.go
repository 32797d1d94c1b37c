package payment

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// signatureLife is how old, or how far ahead of our clock, a signed event may be.
const signatureLife = 5 * time.Minute

// secretBytes is the length of a webhook secret that is made here: that of the hash it keys.
const secretBytes = sha256.Size

// sign is the value of payment.WebhookSignature for body, sent at t.
func sign(secret, body []byte, t time.Time) string {
	at := strconv.FormatInt(t.Unix(), 10)
	return "t=" + at + ",v1=" + hex.EncodeToString(signature(secret, at, body))
}

func signature(secret []byte, at string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.", at)
	mac.Write(body)
	return mac.Sum(nil)
}

// verify checks the signature of body, and only then looks at how old it is. Several v1 may be given, as a provider does
// that changes its secret.
func verify(secret []byte, header string, body []byte, now time.Time) error {
	var at string
	var given [][]byte
	for part := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			at = value
		case "v1":
			if b, err := hex.DecodeString(value); err == nil {
				given = append(given, b)
			}
		}
	}
	want, good := signature(secret, at, body), false
	for _, g := range given {
		good = hmac.Equal(g, want) || good
	}
	sec, err := strconv.ParseInt(at, 10, 64)
	if !good || err != nil {
		return fault.New(fault.Unauthenticated, "invalid_signature", "the event is not signed by the payment provider")
	}
	if age := now.Sub(time.Unix(sec, 0)); age.Abs() > signatureLife {
		return fault.New(fault.Unauthenticated, "signature_expired", "the event was signed too long ago; sign it again")
	}
	return nil
}

// What an event did.
const (
	applied   = "applied"
	duplicate = "duplicate"
	ignored   = "ignored"
)

// ReceiveWebhook takes in an event of the provider. An event that is known, of a type or a charge that is not, or that
// comes after the top-up was settled, is acknowledged and changes nothing. Returns Unauthenticated for a signature that
// is wrong or old, Malformed for a body that is no event, and Conflict for one that tells of another amount than was asked
// for.
func (s *Service) ReceiveWebhook(ctx context.Context, in *payment.WebhookInput) (*contract.Body[payment.WebhookResult], error) {
	if err := verify(s.cfg.WebhookSecret, in.Signature, in.RawBody, s.now()); err != nil {
		return nil, err
	}
	var e payment.Event
	if err := json.Unmarshal(in.RawBody, &e); err != nil || e.ID == uuid.Nil {
		return nil, fault.New(fault.Malformed, "invalid_event", "the body is not an event").Because(err)
	}
	var result string
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		result, err = s.apply(tx, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.WebhookResult]{Body: payment.WebhookResult{Result: result}}, nil
}

func (s *Service) apply(tx *gorm.DB, e payment.Event) (string, error) {
	ctx := tx.Statement.Context
	first, err := insertEvent(tx, e.ID, s.now())
	if err != nil || !first {
		return duplicate, err
	}
	var outcome Outcome
	switch e.Type {
	case payment.EventSucceeded:
		outcome = Succeeded
	case payment.EventFailed:
		outcome = Declined
	default:
		return ignored, nil
	}
	t, err := findTopUp(tx, e.Reference)
	if fault.Is(err, fault.NotFound) {
		s.log.WarnContext(ctx, "the provider tells of a charge we never asked for", "event", e.ID, "reference", e.Reference)
		return ignored, nil
	}
	if err != nil {
		return "", err
	}
	if t.Money != e.Amount {
		s.log.ErrorContext(ctx, "the provider tells of another amount", "event", e.ID, "top_up", t.ID)
		return "", fault.New(fault.Conflict, "amount_mismatch", "the charge was asked for with another amount")
	}
	settled, err := s.settle(tx, t.ID, outcome)
	if err != nil || settled {
		return applied, err
	}
	if (t.Status == payment.Succeeded) != (outcome == Succeeded) {
		s.log.ErrorContext(ctx, "the provider contradicts how a top-up was settled", "event", e.ID, "top_up", t.ID, "status", t.Status)
	}
	return ignored, nil
}
