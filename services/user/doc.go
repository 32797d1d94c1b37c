// Package user is the user service: who has an account, how they prove it, what they may do, where they live, and how
// many reward points they have.
//
// # What it owns
//
// Accounts and their roles (account.go, admin.go), sessions and the tokens that keep them (session.go), password hashes
// (password.go), the keys that sign access tokens (key.go), addresses (address.go), and reward points, which are moved
// only as branches of transactions (points.go, participant.go).
//
// # What always holds
//
//   - An e-mail address, in its normal form, has one account.
//   - Nothing a client sends at registration makes it more than a customer. Roles are changed by an admin, on another's
//     account, and by nobody else; so there is always an admin left.
//   - Passwords and refresh tokens are stored only as digests, and are in no log.
//   - A refresh token is good once. Its second use, whoever's, ends the session (see Refresh).
//   - A disabled account has no live session.
//   - Points: available + held is the sum of the history; held is the sum of what branches in doubt have set aside; no
//     two spends together take more than there was. Only take_back leaves available below zero.
//
// # Limits
//
// An access token cannot be called back: somebody disabled, or with a role less, keeps what the token says until it
// expires (identity.AccessTokenLife). What this service lets an admin do to accounts is not decided by the token alone:
// it looks at the admin's own account, in the same transaction. Registration tells whether an address has an account.
package user
