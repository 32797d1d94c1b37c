// Package user is the user service: who has an account, how they prove it, what they may do, where they live, and how
// many reward points they have.
//
// # What it owns
//
// Accounts and their roles (account.go, admin.go), sessions and the tokens that keep them (session.go), password hashes
// (password.go), how often they are tried (throttle.go), who signs in with another provider (foreign.go, package provider),
// the programs of other people that customers let act for them (client.go, and oauth.go, where the shop is their OAuth provider),
// the keys that sign access tokens (key.go), addresses (address.go), and reward points, which are moved
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
// # Tokens that are called back
//
// Whatever takes from somebody what their access token says (logout, a disabled account, other roles, another password, a
// session ended from the list, a refresh token used twice, a signing key withdrawn) leaves a row in revocation, in the same
// transaction. Every process that verifies tokens asks for new rows every two seconds (identity.Feed), and refuses those
// tokens within five; what moves money, and what only staff may do, asks at the moment (GetStanding), and is not done while
// nobody answers.
//
// # Other people's programs
//
// What a customer lets a program do is a session of theirs: it is in their list, rotates its refresh tokens, and ends, as any
// other. Its access tokens are opaque; the gateway swaps them, for two minutes, for tokens that say whose program it is and
// for what. With those a program does what its scopes name and nothing else (identity.Principal.Within), and never more than a
// customer may, whoever let it.
//
// # Limits
//
// Registration tells whether an address has an account, until there is a mailbox to answer to instead; how often somebody
// may ask is limited (throttle.go). Somebody who opens an account with another's address keeps that address from them: they
// cannot get into it, and whoever owns the address signs in with a provider only once it is given up.
package user
