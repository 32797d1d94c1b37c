package user

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/loop"
	"souk/shared/postgres"
	"souk/shared/telemetry"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	sessionLife = 30 * 24 * time.Hour // then the password is asked for again, however busy the session is
	idleLife    = 14 * 24 * time.Hour // a session that is not used for so long is over
	sweepEvery  = time.Hour           // ended sessions cost a few rows each until then

	tokenPrefix = "srt_" // so that a token that got somewhere it should not be can be found and recognised
)

// noStore keeps tokens out of every cache (RFC 6749, 5.1).
const noStore = "no-store"

// Login signs in with e-mail and password. Unauthenticated, code invalid_credentials, is all that anybody is told who
// does not get in: whether the account is unknown, the password wrong or the account disabled, in the same words and
// after the same work. Returns Exhausted, code too_many_tries, for one try too many (see allowance), and Unavailable, code
// overloaded, when too many sign in.
func (s *Service) Login(ctx context.Context, in *user.LoginInput) (*user.TokensOutput, error) {
	email, _ := normalEmail(in.Body.Email)
	device, err := s.knownDevice(ctx, in.Device, email)
	if err != nil {
		return nil, err
	}
	buckets := s.bucketsOf(ctx, email, device)
	if err := s.throttle(ctx, buckets); err != nil {
		return nil, err
	}
	claimed, err := s.prove(ctx, email, in.Body.Password)
	if err != nil {
		return nil, err
	}
	hash := claimed.PasswordHash
	var g grant
	var setCookie string
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) (err error) {
		// Under the lock that Disable takes: it comes before, and we see it, or after, and it ends this session too.
		if err := shareAccount(tx, claimed.ID); err != nil {
			return err
		}
		if claimed, err = findAccount(tx, claimed.ID); err != nil {
			return err
		}
		if claimed.State != active || claimed.PasswordHash != hash {
			return invalidCredentials()
		}
		if setCookie, err = rememberDevice(tx, in.Device, claimed.ID, s.now()); err != nil {
			return err
		}
		g, err = s.begin(ctx, tx, claimed.ID, byPassword, in.Agent)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.succeed(ctx, buckets); err != nil {
		return nil, err
	}
	out, err := s.tokens(ctx, claimed, g)
	if err != nil {
		return nil, err
	}
	out.SetCookie = setCookie
	return out, nil
}

// prove gives the account of an e-mail address, in normal form, to who knows its password. Whoever does not gets
// invalidCredentials, after the same work whether or not there is such an account.
func (s *Service) prove(ctx context.Context, email, password string) (account, error) {
	hash := s.nobody
	claimed, err := s.sealed.findByEmail(s.db.WithContext(ctx), email)
	if err == nil {
		hash = claimed.PasswordHash
	} else if !fault.Is(err, fault.NotFound) {
		return account{}, err
	}
	matches, err := s.passwords.Matches(ctx, password, hash)
	if err == nil && !matches {
		err = invalidCredentials()
	}
	return claimed, err
}

// begin begins a session of the account, on the device that calls itself agent.
func (s *Service) begin(ctx context.Context, tx *gorm.DB, id uuid.UUID, method, agent string) (grant, error) {
	now := s.now()
	g := newGrant(session{
		ID: uuid.Must(uuid.NewV7()), UserID: id, CreatedAt: now, ExpiresAt: now.Add(sessionLife),
		Method: method, Device: deviceOf(agent), Network: networkOf(ctx),
	}, nil, now)
	if err := insertSession(tx, g.session, now); err != nil {
		return grant{}, err
	}
	return g, insertToken(tx, g, now)
}

func invalidCredentials() error {
	return fault.New(fault.Unauthenticated, "invalid_credentials", "the e-mail address or the password is not right")
}

// Refresh gives new tokens for a refresh token, and uses it up. Everything that keeps it from doing so is
// Unauthenticated, code invalid_refresh_token.
//
// A token that comes a second time has been copied: either the thief or its owner used it before. Which of the two, we
// cannot know, so the session ends for both, and the owner signs in again. That is so as well for a client that sends
// one token twice at the same moment: exactly one of the two requests gets new tokens, the other finds the token used,
// and by that ends the session that the new tokens belong to. It is meant so. A moment of grace, in which a second use
// is forgiven, would be as good for the thief, and nothing tells a race from a theft. Clients therefore refresh one at
// a time, and sign in again after an answer that got lost; and the route has no key, so that nobody on the way repeats
// it. The session's access tokens are called back with it.
func (s *Service) Refresh(ctx context.Context, in *user.RefreshTokenInput) (*user.TokensOutput, error) {
	shown := digest(in.Body.RefreshToken)
	var a account
	var g grant
	var reused session
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		reused = session{}
		now := s.now()
		of, ok, err := useToken(tx, shown, "", now)
		if err != nil {
			return err
		}
		if !ok {
			// No error: the end of the session is to be committed.
			reused, err = revokeReused(tx, shown, now)
			return err
		}
		if a, err = findAccount(tx, of.UserID); err != nil {
			return err
		}
		if err := touchSession(tx, of.ID, networkOf(ctx), now); err != nil {
			return err
		}
		g = newGrant(of, shown, now)
		return insertToken(tx, g, now)
	})
	switch {
	case err != nil:
		return nil, err
	case reused.ID != uuid.Nil:
		telemetry.Note(ctx, slog.Bool("refresh_token_reused", true))
		s.seen.reused.Inc()
		s.log.WarnContext(ctx, "a refresh token was used twice; its session is ended", "session", reused.ID, "user", reused.UserID)
		return nil, invalidRefreshToken()
	case g.token == "":
		return nil, invalidRefreshToken()
	}
	return s.tokens(ctx, a, g)
}

func invalidRefreshToken() error {
	return fault.New(fault.Unauthenticated, "invalid_refresh_token", "the refresh token is not valid; sign in again")
}

// Logout ends the session that the refresh token belongs to, used up or not. Of a token that belongs to none it says
// nothing: after it there is no such session either way.
func (s *Service) Logout(ctx context.Context, in *user.RefreshTokenInput) (*contract.None, error) {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return revokeSession(tx, digest(in.Body.RefreshToken), s.now())
	})
	if err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}

// byPassword is the method of a session that began with a password. Others are named after the identity provider.
const byPassword = "password"

// session is a row of session.
type session struct {
	ID        uuid.UUID
	UserID    uuid.UUID
	Method    string
	Device    string
	Network   string
	ClientID  *string // whose program; nil is the shop's own
	Scopes    string  // what it was let do, separated by spaces
	CreatedAt time.Time
	UsedAt    *time.Time
	ExpiresAt time.Time
}

// grant is a refresh token that is being given out.
type grant struct {
	session session
	token   string         // as only its holder will know it
	parent  postgres.Bytea // digest of the token it was given for; nil at login
	expires time.Time
}

func newGrant(of session, parent postgres.Bytea, now time.Time) grant {
	expires := now.Add(idleLife)
	if of.ExpiresAt.Before(expires) {
		expires = of.ExpiresAt
	}
	return grant{session: of, token: tokenPrefix + randomText(), parent: parent, expires: expires}
}

func digest(token string) postgres.Bytea {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// tokens are what a gets for g: the refresh token and an access token with the roles of this moment.
func (s *Service) tokens(ctx context.Context, a account, g grant) (*user.TokensOutput, error) {
	p := a.principal()
	p.SessionID, p.AuthTime, p.Methods = g.session.ID, g.session.CreatedAt, []string{"pwd"}
	if g.session.Method != byPassword {
		p.Methods = []string{"fed"}
	}
	key := s.keys.Load().active
	access, err := identity.Sign(p, key.private, key.id, s.now())
	if err != nil {
		return nil, err
	}
	u, err := s.sealed.show(ctx, a)
	if err != nil {
		return nil, err
	}
	return &user.TokensOutput{CacheControl: noStore, Body: user.Tokens{
		AccessToken: access, TokenType: "Bearer", ExpiresIn: int64(p.TokenLife(s.now()).Seconds()),
		RefreshToken: g.token, User: u,
	}}, nil
}

// Sweep forgets sessions that have expired, every hour, until ctx ends.
func (s *Service) Sweep(ctx context.Context) error {
	return loop.Every(ctx, sweepEvery, s.log, "forget expired sessions", s.ForgetExpired)
}

// ForgetExpired forgets the sessions that have expired by now, with their tokens, tries at passwords that count no more, and
// what was called back so long ago that no token is left of it.
func (s *Service) ForgetExpired(ctx context.Context) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := tx.Exec("DELETE FROM session WHERE expires_at < ?", s.now()).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM oauth_request WHERE expires_at < ?", s.now().Add(-askMemory)).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM oauth_token WHERE expires_at < ?", s.now()).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM sign_in WHERE expires_at < ?", s.now()).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM login_bucket WHERE at < ?", s.now().Add(-longestCount)).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM device WHERE used_at < ?", s.now().Add(-deviceLife)).Error; err != nil {
			return err
		}
		return tx.Exec("DELETE FROM revocation WHERE at < ?", s.now().Add(-identity.RevocationLife)).Error
	})
}
