package payment

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// The kinds of account in the ledger. All but Wallet exist once per currency.
const (
	KindWallet   = "wallet"   // a person's money
	KindMerchant = "merchant" // what the shop has earned
	KindClearing = "clearing" // what the payment provider has taken from cards, as a negative balance
	KindRewards  = "rewards"  // what redeemed points have cost the shop, as a negative balance
)

// Account is an account of the ledger with its balance, which is available plus held.
type Account struct {
	Kind      string         `json:"kind" enum:"wallet,merchant,clearing,rewards"`
	UserID    *uuid.UUID     `json:"user_id,omitempty" format:"uuid" doc:"Whose wallet it is; absent for the shop's own accounts"`
	Currency  money.Currency `json:"currency" example:"USD"`
	Available int64          `json:"available" doc:"Integer minor units; clearing and rewards go below zero"`
	Held      int64          `json:"held" doc:"Integer minor units"`
}

// ListAccountsInput selects accounts.
type ListAccountsInput struct {
	contract.Paging
	Kind     string `query:"kind" enum:"wallet,merchant,clearing,rewards" doc:"Only accounts of this kind"`
	Currency string `query:"currency" maxLength:"3" doc:"Only accounts in this currency"`
}

// CurrencyCheck is the ledger of one currency added up. In a ledger that is right all three are zero.
type CurrencyCheck struct {
	Currency           money.Currency `json:"currency" example:"USD"`
	EntriesSum         int64          `json:"entries_sum" doc:"All entries"`
	AccountsSum        int64          `json:"accounts_sum" doc:"All balances"`
	MismatchedAccounts int64          `json:"mismatched_accounts" doc:"Accounts whose balance is not the sum of their entries"`
}

// LedgerCheck is the whole ledger added up.
type LedgerCheck struct {
	Currencies []CurrencyCheck `json:"currencies"`
}

// The routes of the ledger.
var (
	ListAccounts = contract.Route[ListAccountsInput, contract.Body[contract.Page[Account]]]{
		ID: "list-ledger-accounts", Service: Service, Method: http.MethodGet, Path: "/v1/ledger/accounts",
		Permission: identity.ViewLedger, Summary: "The accounts of the ledger, by kind, owner and currency",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
	CheckLedger = contract.Route[contract.None, contract.Body[LedgerCheck]]{
		ID: "check-ledger", Service: Service, Method: http.MethodGet, Path: "/v1/ledger/check",
		Permission: identity.ViewLedger, Summary: "Add the whole ledger up: every number is zero in a ledger that is right",
	}
)
