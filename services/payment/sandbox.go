package payment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"souk/shared/contract/payment"
	"souk/shared/loop"
	"souk/shared/money"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// The test cards of the sandbox. Every other number is declined; 4000000000000002 is meant for that. Any expiry in the
// future and any CVC will do.
const (
	cardSucceeds = "4242424242424242"
	cardLate     = "4000000000000341" // answers that it is processing; a webhook tells a second or two later that it succeeded
	cardTimesOut = "4000000000000259" // gives no answer, and no charge is made
)

// SandboxConfig is how the sandbox behaves. The zero value of a duration is its default.
type SandboxConfig struct {
	Secret []byte        // that its webhooks are signed with; required
	Late   time.Duration // how late the late card is; 1.2 s
}

const defaultLate = 1200 * time.Millisecond

// SandboxDeps are what a Sandbox works with; all are required.
type SandboxDeps struct {
	DB   *gorm.DB
	Mesh *http.Client // to send webhooks
	Now  func() time.Time
	Log  *slog.Logger
}

// Sandbox is a payment provider that takes no money. It remembers its charges in a table of its own, by reference and
// without any card data, so it keeps its word over restarts, and any number of instances are one provider. Its Run must be
// running for its webhooks to be sent. It is safe for concurrent use.
type Sandbox struct {
	cfg  SandboxConfig
	deps SandboxDeps
}

// NewSandbox makes a sandbox provider.
func NewSandbox(cfg SandboxConfig, deps SandboxDeps) *Sandbox {
	if cfg.Late == 0 {
		cfg.Late = defaultLate
	}
	return &Sandbox{cfg: cfg, deps: deps}
}

// Charge does what the number of card says.
func (b *Sandbox) Charge(ctx context.Context, reference uuid.UUID, amount money.Money, card payment.Card) (Outcome, error) {
	now := b.deps.Now()
	c := sandboxCharge{Reference: reference, Money: amount, Status: Declined, CreatedAt: now}
	switch card.Number {
	case cardTimesOut:
		<-ctx.Done()
		return "", fmt.Errorf("charge %s: %w", reference, ctx.Err())
	case cardSucceeds:
		c.Status = Succeeded
	case cardLate:
		id, due := uuid.Must(uuid.NewV7()), now.Add(b.cfg.Late)
		c.Status, c.EventID, c.DueAt = Processing, &id, &due
	}
	return b.remember(ctx, c)
}

// Recall tells what became of a charge; one that has not come is cancelled.
func (b *Sandbox) Recall(ctx context.Context, reference uuid.UUID) (Outcome, error) {
	return b.remember(ctx, sandboxCharge{Reference: reference, Status: Cancelled, CreatedAt: b.deps.Now()})
}

// remember writes c down, unless its reference is known, and gives what is true of the reference from now on.
func (b *Sandbox) remember(ctx context.Context, c sandboxCharge) (outcome Outcome, err error) {
	err = postgres.InTx(ctx, b.deps.DB, func(tx *gorm.DB) error {
		if err := insertSandboxCharge(tx, c); err != nil {
			return err
		}
		outcome, err = sandboxOutcome(tx, c.Reference)
		return err
	})
	return outcome, err
}

// Sending webhooks: how often the sandbox looks for due ones, how many it takes at once, how long it waits for each to be
// acknowledged, and the longest pause before it sends one again. One that is being sent is not due to another instance.
const (
	sendEvery   = 250 * time.Millisecond
	sendAtOnce  = 20
	sendTimeout = 5 * time.Second
	maxPause    = time.Minute
)

// Run sends webhooks as they come due, each until it is acknowledged, until ctx ends.
func (b *Sandbox) Run(ctx context.Context) error {
	return loop.Every(ctx, sendEvery, b.deps.Log, "send webhooks", b.SendDue)
}

// SendDue sends the webhooks that are due, once each.
func (b *Sandbox) SendDue(ctx context.Context) error {
	due, err := claimWebhooks(b.deps.DB.WithContext(ctx), b.deps.Now(), maxPause, sendAtOnce)
	if err != nil {
		return err
	}
	var failed error
	for _, c := range due {
		if err := b.send(ctx, c); err != nil {
			failed = errors.Join(failed, fmt.Errorf("webhook of %s, attempt %d: %w", c.Reference, c.Attempts, err))
			continue
		}
		failed = errors.Join(failed, acknowledgeWebhook(b.deps.DB.WithContext(ctx), c.Reference))
	}
	return failed
}

func (b *Sandbox) send(ctx context.Context, c sandboxCharge) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	body, err := json.Marshal(payment.Event{
		ID: *c.EventID, Type: payment.EventSucceeded, Reference: c.Reference, Amount: c.Money,
	})
	if err != nil {
		return err
	}
	url := "http://" + payment.Service + payment.ReceiveWebhook.Path
	req, err := http.NewRequestWithContext(ctx, payment.ReceiveWebhook.Method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(payment.WebhookSignature, sign(b.cfg.Secret, body, b.deps.Now()))
	resp, err := b.deps.Mesh.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	return nil
}
