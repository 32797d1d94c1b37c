package user

import (
	"strings"
	"time"

	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// accounts reads account rows; what follows it narrows them to some.
const accounts = `SELECT a.id, a.sealed_email, a.sealed_name, a.password_hash, a.state, a.av, a.location, a.clearance, a.created_at,
	(SELECT coalesce(string_agg(r.role, ',' ORDER BY r.role), '') FROM account_role r WHERE r.user_id = a.id AND ` + stillValid + `) AS roles,
	(SELECT min(r.valid_until) FROM account_role r WHERE r.user_id = a.id AND ` + stillValid + `) AS roles_until FROM account a `

// stillValid is true of a row r of account_role that has not ended.
const stillValid = "(r.valid_until IS NULL OR r.valid_until > now())"

var errNoUser = fault.New(fault.NotFound, "no_such_user", "there is no such user")

// findAccount gives the account id; NotFound, code no_such_user, where there is none.
func findAccount(tx *gorm.DB, id uuid.UUID) (a account, err error) {
	err = postgres.Found(tx.Raw(accounts+"WHERE a.id = ?", id).Scan(&a), errNoUser)
	return a, err
}

// findByEmail gives the account with an e-mail address in its normal form.
func (s *sealed) findByEmail(tx *gorm.DB, email string) (a account, err error) {
	err = postgres.Found(tx.Raw(accounts+"WHERE a.email_index = ?", s.byEmail.Of(email)).Scan(&a), errNoUser)
	return a, err
}

// searchAtOnce is how many accounts a search opens before it reads on.
const searchAtOnce = 500

// listPeople gives up to limit people whose e-mail address begins with q, the newest first, after the cursor if there is
// one. The database cannot tell how a sealed address begins, so a search opens one after the other: about a second for
// half a million.
func (s *sealed) listPeople(tx *gorm.DB, q string, after *byID, limit int) ([]user.User, error) {
	people, q := []user.User{}, strings.ToLower(q)
	atOnce := limit
	if q != "" {
		atOnce = max(limit, searchAtOnce)
	}
	for {
		rows, err := listAccounts(tx, after, atOnce)
		if err != nil {
			return nil, err
		}
		for _, a := range rows {
			u, err := s.show(tx.Statement.Context, a)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(u.Email, q) {
				people = append(people, u)
			}
			if len(people) == limit {
				return people, nil
			}
		}
		if len(rows) < atOnce {
			return people, nil
		}
		after = &byID{rows[len(rows)-1].ID}
	}
}

func listAccounts(tx *gorm.DB, after *byID, limit int) (rows []account, err error) {
	where, args := "", []any{}
	if after != nil {
		where, args = "WHERE a.id < ?", append(args, after.ID)
	}
	err = tx.Raw(accounts+where+" ORDER BY a.id DESC LIMIT ?", append(args, limit)...).Scan(&rows).Error
	return rows, err
}

// openAccount stores a new account with its roles and an empty points account, and reports whether it did: it does not
// where the id or the e-mail address is taken.
func (s *sealed) openAccount(tx *gorm.DB, a account, email, name, request string) (bool, error) {
	id := a.ID.String()
	res := tx.Exec(`INSERT INTO account (id, sealed_email, email_index, password_hash, sealed_name, state, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		a.ID, s.email.Seal(id, email), s.byEmail.Of(email), a.PasswordHash, s.name.Seal(id, name), a.State, a.CreatedAt, a.CreatedAt)
	if res.Error != nil || res.RowsAffected == 0 {
		return false, res.Error
	}
	if err := insertRoles(tx, a.ID, a.roles(), nil, a.CreatedAt); err != nil {
		return false, err
	}
	if err := tx.Exec("INSERT INTO points_account (user_id) VALUES (?)", a.ID).Error; err != nil {
		return false, err
	}
	return true, record(tx, a.ID, change{what: "state", became: string(a.State), by: a.ID, request: request, at: a.CreatedAt})
}

func insertRoles(tx *gorm.DB, id uuid.UUID, roles []identity.Role, by *uuid.UUID, at time.Time) error {
	for _, r := range roles {
		if err := tx.Exec("INSERT INTO account_role (user_id, role, granted_by, granted_at) VALUES (?, ?, ?, ?)", id, r, by, at).Error; err != nil {
			return err
		}
	}
	return nil
}

func (s *sealed) rename(tx *gorm.DB, id uuid.UUID, name string, at time.Time) error {
	return postgres.Found(tx.Exec("UPDATE account SET sealed_name = ?, updated_at = ? WHERE id = ?", s.name.Seal(id.String(), name), at, id), errNoUser)
}

// change is a row of account_history.
type change struct {
	what, was, became string
	by                uuid.UUID
	request           string
	at                time.Time
}

func record(tx *gorm.DB, id uuid.UUID, c change) error {
	return tx.Exec("INSERT INTO account_history (id, user_id, changed, was, became, actor, request_id, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		uuid.Must(uuid.NewV7()), id, c.what, c.was, c.became, c.by, c.request, c.at).Error
}

func storeState(tx *gorm.DB, id uuid.UUID, to state, c change) error {
	if err := postgres.Found(tx.Exec("UPDATE account SET state = ?, updated_at = ? WHERE id = ?", to, c.at, id), errNoUser); err != nil {
		return err
	}
	return record(tx, id, c)
}

func storeRoles(tx *gorm.DB, id uuid.UUID, roles []identity.Role, c change) error {
	if err := tx.Exec("DELETE FROM account_role WHERE user_id = ?", id).Error; err != nil {
		return err
	}
	if err := insertRoles(tx, id, roles, &c.by, c.at); err != nil {
		return err
	}
	return record(tx, id, c)
}

// lockAccounts locks the accounts until the transaction ends, in the order of their ids. One that does not exist is
// passed over. Read them afterwards: a statement that waits for a lock has read the roles before it waited.
func lockAccounts(tx *gorm.DB, ids ...uuid.UUID) error {
	return tx.Exec("SELECT 1 FROM account WHERE id IN ? ORDER BY id FOR NO KEY UPDATE", ids).Error
}

// shareAccount lets nobody change the account until the transaction ends, and shares that with others who want the same.
func shareAccount(tx *gorm.DB, id uuid.UUID) error {
	return tx.Exec("SELECT 1 FROM account WHERE id = ? FOR SHARE", id).Error
}

func insertSession(tx *gorm.DB, s session, now time.Time) error {
	return tx.Exec("INSERT INTO session (id, user_id, method, device, network, client_id, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		s.ID, s.UserID, s.Method, s.Device, s.Network, s.ClientID, s.Scopes, now, s.ExpiresAt).Error
}

func insertToken(tx *gorm.DB, g grant, now time.Time) error {
	return tx.Exec("INSERT INTO refresh_token (digest, session_id, parent, issued_at, expires_at) VALUES (?, ?, ?, ?, ?)",
		digest(g.token), g.session.ID, g.parent, now, g.expires).Error
}

// useToken uses up the token with that digest, and gives its session, if the token is fresh and the session lives.
// client is whose the token must be, empty for the shop's own: a program that could bring its token to our own refresh would
// be let do everything. It is one statement, so that of two that come at once the second waits for the first, and then finds the token used.
func useToken(tx *gorm.DB, shown postgres.Bytea, client string, now time.Time) (s session, ok bool, err error) {
	res := tx.Raw(`UPDATE refresh_token t SET used_at = ? FROM session s
		WHERE t.digest = ? AND t.used_at IS NULL AND t.expires_at > ?
		AND s.id = t.session_id AND s.revoked_at IS NULL AND s.expires_at > ? AND coalesce(s.client_id, '') = ?
		RETURNING s.id, s.user_id, s.method, s.created_at, s.expires_at`, now, shown, now, now, client).Scan(&s)
	return s, res.RowsAffected == 1, res.Error
}

func touchSession(tx *gorm.DB, id uuid.UUID, network string, now time.Time) error {
	return tx.Exec("UPDATE session SET used_at = ?, network = ? WHERE id = ?", now, network, id).Error
}

// listSessions gives up to limit live sessions of the user, the newest first, after the cursor if there is one.
func listSessions(tx *gorm.DB, of uuid.UUID, after *byID, now time.Time, limit int) (rows []session, err error) {
	where, args := "", []any{of, now}
	if after != nil {
		where, args = "AND id < ?", append(args, after.ID)
	}
	err = tx.Raw(`SELECT id, user_id, method, device, network, created_at, used_at, expires_at FROM session
		WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ? `+where+" ORDER BY id DESC LIMIT ?", append(args, limit)...).Scan(&rows).Error
	return rows, err
}

func storePassword(tx *gorm.DB, id uuid.UUID, hash string, c change) error {
	if err := postgres.Found(tx.Exec("UPDATE account SET password_hash = ?, updated_at = ? WHERE id = ?", hash, c.at, id), errNoUser); err != nil {
		return err
	}
	return record(tx, id, c)
}

// revokeReused ends the session of a token that was used before, and gives it; the zero session where the token is
// unknown or unused, or its session has ended already.
func revokeReused(tx *gorm.DB, shown postgres.Bytea, now time.Time) (session, error) {
	s, _, err := endSessions(tx, "reuse", now, "id = (SELECT session_id FROM refresh_token WHERE digest = ? AND used_at IS NOT NULL)", shown)
	return s, err
}

func revokeSession(tx *gorm.DB, shown postgres.Bytea, now time.Time) error {
	_, _, err := endSessions(tx, "logout", now, "id = (SELECT session_id FROM refresh_token WHERE digest = ?)", shown)
	return err
}

func revokeSessionsOf(tx *gorm.DB, id uuid.UUID, reason string, now time.Time) error {
	return tx.Exec("UPDATE session SET revoked_at = ?, revoked_for = ? WHERE user_id = ? AND revoked_at IS NULL", now, reason, id).Error
}
