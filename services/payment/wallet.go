package payment

import (
	"context"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/identity"
	"souk/shared/money"
)

// ListWallets gives the caller's wallets by currency. They are at most as many as the shop has currencies, so they are
// one page.
func (s *Service) ListWallets(ctx context.Context, _ *contract.None) (*contract.Body[contract.Page[payment.Wallet]], error) {
	rows, err := selectWallets(s.db.WithContext(ctx), identity.From(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, len(rows), accountRow.wallet, nil)
}

// GetWallet gives the caller's wallet in a currency; nothing was ever in it if there is no account. Returns Invalid for a
// currency the shop does not trade in.
func (s *Service) GetWallet(ctx context.Context, in *payment.ByCurrency) (*contract.Body[payment.Wallet], error) {
	c, err := money.ParseCurrency(in.Currency)
	if err != nil {
		return nil, err
	}
	row, err := findAccount(s.db.WithContext(ctx), walletOf(identity.From(ctx).UserID, c))
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.Wallet]{Body: row.wallet()}, nil
}

// ListEntries gives what moved in and out of the caller's wallet, newest first. Returns Invalid for a currency the shop
// does not trade in, Malformed for a foreign page token.
func (s *Service) ListEntries(ctx context.Context, in *payment.ListEntriesInput) (*contract.Body[contract.Page[payment.Entry]], error) {
	c, err := money.ParseCurrency(in.Currency)
	if err != nil {
		return nil, err
	}
	before, err := contract.After[entryCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := selectEntries(s.db.WithContext(ctx), walletOf(identity.From(ctx).UserID, c), before, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(r entryRow) payment.Entry {
		return payment.Entry{
			MovementID: r.MovementID, Kind: r.Why, Reference: r.Reference, Amount: r.Amount, Currency: r.Currency, CreatedAt: r.CreatedAt,
		}
	}, func(r entryRow) any { return entryCursor{r.ID} })
}

func (r accountRow) wallet() payment.Wallet {
	return payment.Wallet{
		Currency:  r.Currency,
		Available: money.Money{Amount: r.Available, Currency: r.Currency},
		Held:      money.Money{Amount: r.Held, Currency: r.Currency},
	}
}
