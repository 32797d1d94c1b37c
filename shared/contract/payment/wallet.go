// Package payment is the wire of the payment service: what customers and who manages payments ask of it, what the payment
// provider tells it, and what it does as its branch of a transaction.
package payment

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// Wallet is what a person has in one currency. What is held belongs to payments that are being settled.
type Wallet struct {
	Currency  money.Currency `json:"currency" example:"USD"`
	Available money.Money    `json:"available" doc:"What can be spent"`
	Held      money.Money    `json:"held" doc:"What payments under way have set aside"`
}

// ByCurrency is the input of a route about the caller's wallet in one currency.
type ByCurrency struct {
	Currency string `path:"currency" minLength:"3" maxLength:"3" doc:"ISO 4217 code" example:"USD"`
}

// ListEntriesInput selects a page of a wallet's history.
type ListEntriesInput struct {
	ByCurrency
	contract.Paging
}

// Entry is one line of an account's history: one side of a movement whose entries sum to zero.
type Entry struct {
	MovementID uuid.UUID      `json:"movement_id" format:"uuid"`
	Kind       string         `json:"kind" enum:"top_up,capture,refund,credit" doc:"Why the money moved"`
	Reference  uuid.UUID      `json:"reference" format:"uuid" doc:"The top-up, payment, refund or transfer it moved for"`
	Amount     int64          `json:"amount" doc:"Integer minor units; below zero where money left the account"`
	Currency   money.Currency `json:"currency" example:"USD"`
	CreatedAt  time.Time      `json:"created_at"`
}

// The routes of wallets.
var (
	ListWallets = contract.Route[contract.None, contract.Body[contract.Page[Wallet]]]{
		ID: "list-wallets", Service: Service, Method: http.MethodGet, Path: "/v1/wallets",
		Permission: identity.SignedIn, Summary: "My wallets, at most one per currency",
	}
	GetWallet = contract.Route[ByCurrency, contract.Body[Wallet]]{
		ID: "get-wallet", Service: Service, Method: http.MethodGet, Path: "/v1/wallets/{currency}",
		Permission: identity.SignedIn, Summary: "My wallet in a currency; an empty one if nothing was ever in it",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
	ListWalletEntries = contract.Route[ListEntriesInput, contract.Body[contract.Page[Entry]]]{
		ID: "list-wallet-entries", Service: Service, Method: http.MethodGet, Path: "/v1/wallets/{currency}/entries",
		Permission: identity.SignedIn, Summary: "What moved in and out of my wallet, newest first",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
)
