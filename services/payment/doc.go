// Package payment owns the money of the shop: wallets, the charges, refunds, top-ups and transfers that move money in
// and out of them, and the double-entry ledger in which every movement is written down.
//
// # The ledger
//
// An account is a person's wallet in a currency, or one of the shop's own accounts in it:
//
//	card ──▶ clearing ──top_up──▶ wallet ──capture──▶ merchant
//	                                ▲  ◀───refund────────┘
//	         rewards ───credit──────┘
//
// Its balance is available plus held. A movement is two or more entries that sum to zero in each currency, and a balance
// is the sum of its account's entries; holding and releasing move nothing between accounts and write no entries. The
// invariants, each held by the database itself and not only by this code:
//
//   - entries of a movement sum to zero (a deferred constraint trigger);
//   - what is written is never changed (append-only triggers on movement, entry and payment_move);
//   - a thing moves money once (movement is unique by kind and reference);
//   - wallet and merchant never fall below zero, nor does anything held (CHECK);
//   - a payment's state tells how much of it is refunded (CHECK), and an order has one payment alive (unique index).
//
// That balances are the sums of entries is checked by CheckLedger. A person with the database owner's password can
// switch triggers off; nothing here defends against them.
//
// # A payment's life
//
//	            commit             refund             refund
//	authorized ────────▶ captured ────────▶ partially ────────▶ refunded
//	  │    ▲                 └─────────────▶ refunded
//	  │    │ the same checkout,   refund of all
//	  ▼    │ tried again
//	voided ┘
//
// A checkout whose transaction aborted for a passing reason is tried again under the same payment id; that is the one way
// back from voided, and the history shows it.
//
// Rows are locked in the order payment, wallet, account of the shop. The merchant's row is everybody's, so it is touched
// last in a transaction and is free again a commit later; that commit waits for no disk when it carries out a decision
// (shared/twopc says why it need not).
//
// # Top-ups
//
// A top-up is written down before the provider is asked, so that whatever happens to the answer somebody will look: the
// answer itself, the provider's signed webhook, or reconciliation, which asks about every top-up that stays pending. All
// three end in settle, which moves a top-up out of pending once. A charge that the provider has never seen when
// reconciliation asks is cancelled there by asking, so it cannot be made later, behind our back.
//
// Card numbers and CVCs pass through memory on their way to the provider, and are neither stored nor logged: what stays
// is the brand and the last four digits. The built-in provider is Sandbox; its test cards are told there.
package payment
