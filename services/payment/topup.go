package payment

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/loop"
	"souk/shared/money"
	"souk/shared/postgres"
	"souk/shared/telemetry"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Why a top-up failed.
const (
	cardDeclined = "card_declined"
	timedOut     = "timed_out" // the provider never had the charge
)

// TopUp takes money from a card into the caller's wallet. The answer is pending where the provider gave none in time, or
// says that a webhook will tell. Returns Invalid for an amount, a currency or a card that cannot be, and Conflict with the
// top-up's failure code where it failed; the failed top-up stays to be seen.
func (s *Service) TopUp(ctx context.Context, in *payment.TopUpInput) (*contract.Created[payment.TopUp], error) {
	amount, card := in.Body.Amount, in.Body.Card
	if err := checkTopUp(in.Currency, amount); err != nil {
		return nil, err
	}
	if err := checkCard(card, s.now()); err != nil {
		return nil, err
	}
	return idempotency.Steps(ctx, s.db, func(r idempotency.Request) (*contract.Created[payment.TopUp], bool, error) {
		t, err := s.beginTopUp(ctx, topUpRow{
			ID: r.ID("top-up"), UserID: identity.From(ctx).UserID, Money: amount,
			CardBrand: brand(card.Number), CardLast4: last4(card.Number),
		})
		if err != nil {
			return nil, false, err
		}
		if t.Status == payment.Pending {
			if t, err = s.chargeCard(ctx, t, card); err != nil {
				return nil, false, err
			}
		}
		if t.Status == payment.Failed {
			return nil, false, fault.New(fault.Conflict, t.FailureCode, "the top-up failed; nothing was taken from the card")
		}
		return &contract.Created[payment.TopUp]{Location: "/api/v1/top-ups/" + t.ID.String(), Body: t.view()}, true, nil
	})
}

func checkTopUp(currency string, amount money.Money) error {
	c, err := money.ParseCurrency(currency)
	if err != nil {
		return err
	}
	if amount.Currency != c {
		return fault.New(fault.Invalid, "currency_mismatch", "a wallet is topped up in its own currency").
			With(fault.Field{Pointer: "body.amount.currency", Detail: "must be " + currency})
	}
	if amount.Amount < payment.MinTopUp || amount.Amount > payment.MaxTopUp {
		return fault.New(fault.Invalid, "invalid_amount", "the amount cannot be topped up").
			With(fault.Field{Pointer: "body.amount.amount", Detail: fmt.Sprintf("must be %d to %d", payment.MinTopUp, payment.MaxTopUp)})
	}
	return nil
}

// beginTopUp writes a pending top-up down, or gives the one that an earlier try of the same request left.
func (s *Service) beginTopUp(ctx context.Context, t topUpRow) (topUpRow, error) {
	t.Status, t.CreatedAt = payment.Pending, s.now()
	t.NextCheckAt = t.CreatedAt.Add(s.cfg.ReconcileAfter)
	var known topUpRow
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := insertTopUp(tx, t); err != nil {
			return err
		}
		var err error
		known, err = findTopUp(tx, t.ID)
		return err
	})
	if err != nil {
		return t, err
	}
	if known.UserID != t.UserID || known.Money != t.Money || known.CardLast4 != t.CardLast4 {
		return t, keyReused()
	}
	return known, nil
}

// keyReused refuses a key under which an earlier request, that was refused or is not finished, asked for something else.
func keyReused() error {
	return fault.New(fault.Invalid, "idempotency_key_reused", "this Idempotency-Key was used for another request")
}

// chargeCard asks the provider, and settles what it says. An answer that does not come leaves the top-up pending.
func (s *Service) chargeCard(ctx context.Context, t topUpRow, card payment.Card) (topUpRow, error) {
	asking, cancel := context.WithTimeout(ctx, s.cfg.ProviderTimeout)
	defer cancel()
	outcome, err := s.provider.Charge(asking, t.ID, t.Money, card)
	if err != nil {
		if ctx.Err() != nil {
			return t, fault.New(fault.Deadline, "", "the card was not answered for in time").Because(err)
		}
		s.log.WarnContext(ctx, "the provider gave no answer to a charge", "top_up", t.ID, "error", err)
		telemetry.Note(ctx, slog.String("provider", "unanswered"))
		return t, nil
	}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := s.settle(tx, t.ID, outcome); err != nil {
			return err
		}
		t, err = findTopUp(tx, t.ID)
		return err
	})
	return t, err
}

// settle moves a pending top-up to its end, and the money with it, and reports whether it did: who comes second, by
// whatever way, changes nothing.
func (s *Service) settle(tx *gorm.DB, id uuid.UUID, outcome Outcome) (bool, error) {
	status, code := payment.Succeeded, ""
	switch outcome {
	case Processing:
		return false, nil
	case Succeeded:
	case Declined:
		status, code = payment.Failed, cardDeclined
	case Cancelled:
		status, code = payment.Failed, timedOut
	default:
		return false, fmt.Errorf("settle top-up %s: the provider says %q", id, outcome)
	}
	t, first, err := finishTopUp(tx, id, status, code, s.now())
	if err != nil || !first || status == payment.Failed {
		return first, err
	}
	return true, s.post(tx, movement{kind: movedByTopUp, reference: id},
		leg{account: walletOf(t.UserID, t.Currency), amount: t.Amount},
		leg{account: shopAccount(payment.KindClearing, t.Currency), amount: -t.Amount})
}

// ListTopUps gives the caller's top-ups, newest first. Returns Malformed for a foreign page token.
func (s *Service) ListTopUps(ctx context.Context, in *payment.ListTopUpsInput) (*contract.Body[contract.Page[payment.TopUp]], error) {
	before, err := contract.After[timeCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := selectTopUps(s.db.WithContext(ctx), identity.From(ctx).UserID, before, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), topUpRow.view, func(r topUpRow) any { return timeCursor{r.CreatedAt, r.ID} })
}

// GetTopUp gives a top-up of the caller. Returns NotFound for anybody else's.
func (s *Service) GetTopUp(ctx context.Context, in *contract.ByID) (*contract.Body[payment.TopUp], error) {
	t, err := findTopUpOf(s.db.WithContext(ctx), in.ID, identity.From(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.TopUp]{Body: t.view()}, nil
}

// Reconciliation: how often it looks, and at how many top-ups at once.
const (
	reconcileEvery  = time.Second
	reconcileAtOnce = 50
)

// RunReconciliation asks the provider about top-ups that stay pending, until ctx ends.
func (s *Service) RunReconciliation(ctx context.Context) error {
	return loop.Every(ctx, reconcileEvery, s.log, "reconcile top-ups", s.Reconcile)
}

// Reconcile asks once about the top-ups that are due, and settles what the provider says of them. Each is due again
// ReconcileAfter later, so that instances share the work and one that cannot be settled holds up no other.
func (s *Service) Reconcile(ctx context.Context) error {
	ids, err := claimTopUps(s.db.WithContext(ctx), s.now(), s.cfg.ReconcileAfter, reconcileAtOnce)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.reconcile(ctx, id); err != nil {
			s.log.WarnContext(ctx, "reconcile top-up", "top_up", id, "error", err)
		}
	}
	return nil
}

func (s *Service) reconcile(ctx context.Context, id uuid.UUID) error {
	asking, cancel := context.WithTimeout(ctx, s.cfg.ProviderTimeout)
	defer cancel()
	outcome, err := s.provider.Recall(asking, id)
	if err != nil {
		return err
	}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		_, err := s.settle(tx, id, outcome)
		return err
	})
}

func (r topUpRow) view() payment.TopUp {
	return payment.TopUp{
		ID: r.ID, Amount: r.Money, Status: r.Status, CardBrand: r.CardBrand, CardLast4: r.CardLast4,
		FailureCode: r.FailureCode, CreatedAt: r.CreatedAt, SettledAt: r.SettledAt,
	}
}
