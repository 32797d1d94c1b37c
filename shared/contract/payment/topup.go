package payment

import (
	"log/slog"
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// The bounds of one top-up, in minor units.
const (
	MinTopUp = 1
	MaxTopUp = 1_000_000_00
)

// Card is a payment card on its way to the provider. It is never stored, and prints as *** wherever it is printed.
type Card struct {
	Number   string `json:"number" pattern:"^[0-9]{12,19}$" maxLength:"19" doc:"Digits only" example:"4242424242424242"`
	ExpMonth int    `json:"exp_month" minimum:"1" maximum:"12" example:"12"`
	ExpYear  int    `json:"exp_year" minimum:"2000" maximum:"2100" example:"2040"`
	CVC      string `json:"cvc" pattern:"^[0-9]{3,4}$" maxLength:"4" example:"123"`
}

// String hides the card from fmt.
func (Card) String() string { return "***" }

// GoString hides the card from fmt's %#v.
func (Card) GoString() string { return "***" }

// LogValue hides the card from slog.
func (Card) LogValue() slog.Value { return slog.StringValue("***") }

// TopUpInput puts money from a card into the caller's wallet.
type TopUpInput struct {
	ByCurrency
	Body struct {
		Amount money.Money `json:"amount" doc:"1 to 100000000 minor units of the wallet's currency"`
		Card   Card        `json:"card"`
	}
}

// TopUp is a top-up and what became of it.
type TopUp struct {
	ID          uuid.UUID   `json:"id" format:"uuid"`
	Amount      money.Money `json:"amount"`
	Status      string      `json:"status" enum:"pending,succeeded,failed"`
	CardBrand   string      `json:"card_brand" example:"visa"`
	CardLast4   string      `json:"card_last4" example:"4242"`
	FailureCode string      `json:"failure_code,omitempty" doc:"Why it failed: card_declined, or timed_out when the provider never had the charge" example:"card_declined"`
	CreatedAt   time.Time   `json:"created_at"`
	SettledAt   *time.Time  `json:"settled_at,omitempty" doc:"When it succeeded or failed"`
}

// ListTopUpsInput selects a page of the caller's top-ups.
type ListTopUpsInput struct{ contract.Paging }

// WebhookSignature is the header in which the provider signs an event: t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">.
const WebhookSignature = "Souk-Signature"

// WebhookInput is an event as the provider sent it: the signature is of its very bytes, so nobody parses them before it is
// verified. That is why the document says octets and not JSON.
type WebhookInput struct {
	Signature string `header:"Souk-Signature" maxLength:"200" doc:"t=<unix seconds>,v1=<hex HMAC-SHA256 of t, a dot, and the body>"`
	RawBody   []byte
}

// Event is the body of a webhook. The provider sends it until it is acknowledged.
type Event struct {
	ID        uuid.UUID   `json:"id"`
	Type      string      `json:"type"` // EventSucceeded or EventFailed; others are acknowledged and ignored
	Reference uuid.UUID   `json:"reference"`
	Amount    money.Money `json:"amount"`
}

// The types of event that mean something to us.
const (
	EventSucceeded = "charge.succeeded"
	EventFailed    = "charge.failed"
)

// WebhookResult says what an acknowledged event did.
type WebhookResult struct {
	Result string `json:"result" enum:"applied,duplicate,ignored" doc:"ignored: we know of no such top-up, or it is settled already"`
}

// The routes of top-ups.
var (
	CreateTopUp = contract.Route[TopUpInput, contract.Created[TopUp]]{
		ID: "create-top-up", Service: Service, Method: http.MethodPost, Path: "/v1/wallets/{currency}/top-ups", Status: http.StatusCreated,
		Permission: identity.PlaceOrder, Keyed: true, Fresh: true,
		Summary: "Top up my wallet from a card. Test cards of the sandbox: 4242424242424242 succeeds, 4000000000000002 is declined, " +
			"4000000000000341 answers pending and succeeds a second or two later, 4000000000000259 gets no answer and fails later; " +
			"any other number is declined",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "card_declined", "The card was declined; nothing was taken from it"),
			contract.Refuse(fault.Conflict, "timed_out", "The provider never had the charge; nothing was taken from the card"),
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
			contract.Refuse(fault.Invalid, "currency_mismatch", "A wallet is topped up in its own currency"),
			contract.Refuse(fault.Invalid, "invalid_amount", "The amount is out of bounds"),
			contract.Refuse(fault.Invalid, "invalid_card", "This is not a valid card"),
		},
	}
	ListTopUps = contract.Route[ListTopUpsInput, contract.Body[contract.Page[TopUp]]]{
		ID: "list-top-ups", Service: Service, Method: http.MethodGet, Path: "/v1/top-ups",
		Permission: identity.SignedIn, Summary: "My top-ups, newest first",
	}
	GetTopUp = contract.Route[contract.ByID, contract.Body[TopUp]]{
		ID: "get-top-up", Service: Service, Method: http.MethodGet, Path: "/v1/top-ups/{id}",
		Permission: identity.SignedIn, Summary: "A top-up of mine",
	}
	ReceiveWebhook = contract.Route[WebhookInput, contract.Body[WebhookResult]]{
		ID: "receive-payment-webhook", Service: Service, Method: http.MethodPost, Path: "/v1/webhooks/payments",
		Permission: identity.Public, Summary: "For the payment provider: tell what became of a charge, as a signed JSON event",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Malformed, "invalid_event", "The body is not an event"),
			contract.Refuse(fault.Unauthenticated, "invalid_signature", "The event is not signed by the payment provider"),
			contract.Refuse(fault.Unauthenticated, "signature_expired", "The event was signed too long ago"),
			contract.Refuse(fault.Conflict, "amount_mismatch", "The charge was asked for with another amount"),
		},
	}
)
