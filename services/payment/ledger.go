package payment

import (
	"context"
	"fmt"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/money"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// account names an account of the ledger.
type account struct {
	kind     string
	owner    uuid.UUID // Nil but for a wallet
	currency money.Currency
}

func walletOf(user uuid.UUID, c money.Currency) account { return account{payment.KindWallet, user, c} }

func shopAccount(kind string, c money.Currency) account { return account{kind: kind, currency: c} }

func (a account) String() string { return fmt.Sprintf("%s %s %s", a.kind, a.owner, a.currency) }

// The kinds of movement.
const (
	movedByTopUp   = "top_up"
	movedByCapture = "capture"
	movedByRefund  = "refund"
	movedByCredit  = "credit"
)

// movement is why money moves.
type movement struct {
	kind      string
	reference uuid.UUID // the thing it moves for
	gid       uuid.UUID // the distributed transaction it is part of; Nil where there is none
}

// leg is one account's side of a movement. What leaves an account that may not fall below zero leaves from what was
// held for it.
type leg struct {
	account account
	amount  int64 // minor units, below zero for what leaves
	held    bool
}

// post writes a movement down and changes the balances, in the order of legs: give the busiest account last. The entries
// go first, so that the accounts are locked for as short a time as can be.
func (s *Service) post(tx *gorm.DB, m movement, legs ...leg) error {
	if err := insertMovement(tx, m, contract.RequestIDFrom(tx.Statement.Context), s.now(), legs); err != nil {
		return fmt.Errorf("write down %s of %s: %w", m.kind, m.reference, err)
	}
	for _, l := range legs {
		change := addAvailable
		if l.held {
			change = addHeld
		}
		if err := change(tx, l.account, l.amount); err != nil {
			return fmt.Errorf("change %s: %w", l.account, err)
		}
	}
	return nil
}

// ListAccounts gives the accounts of the ledger with their balances. Returns Malformed for a foreign page token.
func (s *Service) ListAccounts(ctx context.Context, in *payment.ListAccountsInput) (*contract.Body[contract.Page[payment.Account]], error) {
	after, err := contract.After[accountCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	if in.Currency != "" {
		if _, err := money.ParseCurrency(in.Currency); err != nil {
			return nil, err
		}
	}
	rows, err := selectAccounts(s.db.WithContext(ctx), in.Kind, in.Currency, after, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r accountRow) payment.Account {
		a := payment.Account{Kind: r.Kind, Currency: r.Currency, Available: r.Available, Held: r.Held}
		if r.Owner != uuid.Nil {
			a.UserID = &r.Owner
		}
		return a
	}, func(r accountRow) any { return accountCursor{r.Kind, r.Owner, r.Currency} })
}

// CheckLedger adds the whole ledger up, in one statement and so at one moment. It reads every entry.
func (s *Service) CheckLedger(ctx context.Context, _ *contract.None) (*contract.Body[payment.LedgerCheck], error) {
	sums, err := sumLedger(s.db.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.LedgerCheck]{Body: payment.LedgerCheck{Currencies: sums}}, nil
}
