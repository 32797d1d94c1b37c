package user

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"souk/shared/postgres"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"gorm.io/gorm"
)

// opStore is op.Storage on our tables.
type opStore struct{ s *Service }

// CreateAuthRequest notes what a program asks for, whose client and redirect URI have been checked. Without PKCE by S256 it
// is refused, for every program.
func (o *opStore) CreateAuthRequest(ctx context.Context, in *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	switch n := len(in.CodeChallenge); {
	case in.ResponseType != oidc.ResponseTypeCode:
		return nil, oidc.ErrUnsupportedGrantType().WithDescription("only codes are given here")
	case in.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || n < 43 || n > 128:
		return nil, oidc.ErrInvalidRequest().WithDescription("a code_challenge of 43 to 128 characters with method S256 is required")
	case in.ResponseMode != "" && in.ResponseMode != oidc.ResponseModeQuery:
		return nil, oidc.ErrInvalidRequest().WithDescription("only response_mode query is supported")
	case len(in.State) > 500 || len(in.Nonce) > 500:
		return nil, oidc.ErrInvalidRequest().WithDescription("state and nonce have at most 500 characters")
	case slices.Contains(in.Prompt, oidc.PromptNone):
		return nil, oidc.ErrLoginRequired()
	}
	a := ask{
		ID: uuid.Must(uuid.NewV7()), ClientID: in.ClientID, RedirectURI: in.RedirectURI, State: in.State, Nonce: in.Nonce, Challenge: in.CodeChallenge,
	}
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		c, err := findClient(tx, in.ClientID)
		if err != nil {
			return err
		}
		a.Scopes = strings.Join(slices.DeleteFunc(slices.Clone([]string(in.Scopes)), func(scope string) bool { return !opClient{c}.IsScopeAllowed(scope) }), " ")
		return tx.Exec(`INSERT INTO oauth_request (id, client_id, redirect_uri, state, nonce, challenge, scopes, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			a.ID, a.ClientID, a.RedirectURI, a.State, a.Nonce, a.Challenge, a.Scopes, o.s.now().Add(askLife)).Error
	})
	return asCode(a), err
}

func asCode(a ask) op.AuthRequest {
	return opCode{&opRequest{ask: a, scopes: strings.Fields(a.Scopes)}}
}

// AuthRequestByID is a request that has no code yet.
func (o *opStore) AuthRequestByID(ctx context.Context, id string) (op.AuthRequest, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return nil, errNoRequest
	}
	var a ask
	err = postgres.Found(o.s.db.WithContext(ctx).Raw("SELECT "+askColumns+" FROM oauth_request WHERE id = ? AND code IS NULL AND expires_at > ?",
		parsed, o.s.now()).Scan(&a), errNoRequest)
	return asCode(a), err
}

// SaveAuthCode gives a request its code, once.
func (o *opStore) SaveAuthCode(ctx context.Context, id, code string) error {
	return postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		return postgres.Found(tx.Exec("UPDATE oauth_request SET code = ?, code_until = ? WHERE id = ? AND code IS NULL AND user_id IS NOT NULL",
			digest(code), o.s.now().Add(codeLife), id), errNoRequest)
	})
}

// AuthRequestByCode uses a code up, whatever comes of it: a program that does not know its verifier does not try again. A
// code that comes a second time has been copied, and ends what it was exchanged for, or will be.
func (o *opStore) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	var a ask
	var found bool
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		res := tx.Raw("UPDATE oauth_request SET used_at = ? WHERE code = ? AND used_at IS NULL AND code_until > ? RETURNING "+askColumns,
			now, digest(code), now).Scan(&a)
		if found = res.RowsAffected == 1; res.Error != nil || found {
			return res.Error
		}
		var replayed ask
		res = tx.Raw("UPDATE oauth_request SET replayed = true WHERE code = ? AND used_at IS NOT NULL RETURNING "+askColumns, digest(code)).Scan(&replayed)
		if res.Error != nil || res.RowsAffected == 0 {
			return res.Error
		}
		o.s.seen.reused.Inc()
		o.s.log.WarnContext(ctx, "an authorization code was used twice; what came of it is ended", "client", replayed.ClientID)
		_, _, err := endSessions(tx, "reuse", now, "id = ?", replayed.SessionID)
		return err
	})
	if err == nil && !found {
		err = errNoRequest
	}
	return asCode(a), err
}

// DeleteAuthRequest does nothing: a code is remembered for a day, to know it again.
func (*opStore) DeleteAuthRequest(context.Context, string) error { return nil }

// CreateAccessToken begins what a customer has let a program do, without a refresh token.
func (o *opStore) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, expires, err := o.CreateAccessAndRefreshTokens(ctx, r, "")
	return id, expires, err
}

// CreateAccessAndRefreshTokens begins what a customer has let a program do, or goes on with it for a refresh token, which it
// uses up by the statement that Refresh uses.
func (o *opStore) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, shown string) (id, refresh string, expires time.Time, err error) {
	request, ok := r.(*opRequest)
	if code, isCode := r.(opCode); isCode {
		request, ok = code.opRequest, true
	}
	if !ok {
		return "", "", time.Time{}, oidc.ErrUnsupportedGrantType()
	}
	id = randomText()
	var refused bool
	err = postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		expires, refused = now.Add(accessLife), false
		var g grant
		if request.refreshed == nil {
			if g, err = o.s.beginGrant(tx, request, now); err != nil {
				return err
			}
		} else {
			of, fresh, err := useToken(tx, digest(shown), request.ClientID, now)
			if err != nil {
				return err
			}
			if !fresh {
				refused = true // no error: what follows is to be committed
				return o.s.endReused(ctx, tx, shown, now)
			}
			if err := touchSession(tx, of.ID, networkOf(ctx), now); err != nil {
				return err
			}
			g = newGrant(of, digest(shown), now)
			if err := insertToken(tx, g, now); err != nil {
				return err
			}
		}
		refresh = g.token
		return tx.Exec("INSERT INTO oauth_token (digest, session_id, scopes, expires_at) VALUES (?, ?, ?, ?)",
			digest(opaquePrefix+id), g.session.ID, strings.Join(request.scopes, " "), expires).Error
	})
	if err == nil && refused {
		err = oidc.ErrInvalidGrant()
	}
	return id, refresh, expires, err
}

// beginGrant begins the session of a request whose code was shown, unless that was shown again meanwhile.
func (s *Service) beginGrant(tx *gorm.DB, r *opRequest, now time.Time) (grant, error) {
	if err := shareAccount(tx, *r.UserID); err != nil { // as in Login
		return grant{}, err
	}
	a, err := findAccount(tx, *r.UserID)
	if err != nil {
		return grant{}, err
	}
	c, err := findClient(tx, r.ClientID)
	if err != nil || a.State != active {
		return grant{}, errors.Join(err, oidc.ErrInvalidGrant())
	}
	g := newGrant(session{
		ID: uuid.Must(uuid.NewV7()), UserID: a.ID, CreatedAt: now, ExpiresAt: now.Add(sessionLife), Method: "program", Device: c.Name,
		ClientID: &c.ID, Scopes: strings.Join(r.scopes, " "),
	}, nil, now)
	if err := insertSession(tx, g.session, now); err != nil {
		return grant{}, err
	}
	err = postgres.Found(tx.Exec("UPDATE oauth_request SET session_id = ? WHERE id = ? AND NOT replayed", g.session.ID, r.ID), oidc.ErrInvalidGrant())
	if err != nil {
		return grant{}, err
	}
	return g, insertToken(tx, g, now)
}

// endReused ends the session of a refresh token that was used before, and says so.
func (s *Service) endReused(ctx context.Context, tx *gorm.DB, shown string, now time.Time) error {
	ended, err := revokeReused(tx, digest(shown), now)
	if err == nil && ended.ID != uuid.Nil {
		s.seen.reused.Inc()
		s.log.WarnContext(ctx, "a program's refresh token was used twice; its session is ended", "session", ended.ID, "user", ended.UserID)
	}
	return err
}

// TokenRequestByRefreshToken is what a refresh token stands for; it is used up when the new one is made.
func (o *opStore) TokenRequestByRefreshToken(ctx context.Context, shown string) (op.RefreshTokenRequest, error) {
	var r *opRequest
	err := postgres.InTx(ctx, o.s.db, func(tx *gorm.DB) error {
		now := o.s.now()
		var of session
		res := tx.Raw(`SELECT s.id, s.user_id, s.client_id, s.scopes, s.created_at, s.expires_at FROM session s JOIN refresh_token t ON t.session_id = s.id
			WHERE t.digest = ? AND t.used_at IS NULL AND t.expires_at > ? AND s.revoked_at IS NULL AND s.expires_at > ? AND s.client_id IS NOT NULL`,
			digest(shown), now, now).Scan(&of)
		if res.Error != nil {
			return res.Error
		}
		if res.RowsAffected == 0 {
			return o.s.endReused(ctx, tx, shown, now)
		}
		r = &opRequest{
			ask: ask{ClientID: *of.ClientID, UserID: &of.UserID, AuthTime: &of.CreatedAt}, refreshed: &of, scopes: strings.Fields(of.Scopes),
		}
		return nil
	})
	if err == nil && r == nil {
		err = op.ErrInvalidRefreshToken
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// TerminateSession ends all that a user has let a program do.
func (o *opStore) TerminateSession(ctx context.Context, userID, clientID string) error {
	id, err := uuid.Parse(userID)
	if err != nil {
		return err
	}
	_, err = o.s.end(ctx, "user_id = ? AND client_id = ?", id, clientID)
	return err
}

// RevokeToken ends the session of a program's token, whichever kind it is.
func (o *opStore) RevokeToken(ctx context.Context, token, _, clientID string) *oidc.Error {
	_, err := o.s.end(ctx, `client_id = ? AND (id = (SELECT session_id FROM refresh_token WHERE digest = ?) OR id = (SELECT session_id FROM oauth_token WHERE digest = ?))`,
		clientID, digest(token), digest(opaquePrefix+token))
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

// GetRefreshTokenInfo says whose a refresh token is.
func (o *opStore) GetRefreshTokenInfo(ctx context.Context, clientID, token string) (string, string, error) {
	var of session
	err := postgres.Found(o.s.db.WithContext(ctx).Raw(`SELECT s.id, s.user_id FROM session s JOIN refresh_token t ON t.session_id = s.id WHERE t.digest = ? AND s.client_id = ?`,
		digest(token), clientID).Scan(&of), op.ErrInvalidRefreshToken)
	return of.UserID.String(), token, err
}

// opKey is a key for ID tokens.
type opKey struct {
	id  string
	key any
}

func (k opKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k opKey) Algorithm() jose.SignatureAlgorithm          { return jose.ES256 }
func (k opKey) Use() string                                 { return "sig" }
func (k opKey) Key() any                                    { return k.key }
func (k opKey) ID() string                                  { return k.id }

// SigningKey signs ID tokens.
func (o *opStore) SigningKey(context.Context) (op.SigningKey, error) {
	k := o.s.idKeys.Load().active
	return opKey{k.id, k.private}, nil
}

// SignatureAlgorithms is ES256 alone.
func (*opStore) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet is the public halves.
func (o *opStore) KeySet(context.Context) ([]op.Key, error) {
	var keys []op.Key
	for id, k := range o.s.idKeys.Load().byID {
		keys = append(keys, opKey{id, k})
	}
	return keys, nil
}

// GetClientByClientID finds a client.
func (o *opStore) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := findClient(o.s.db.WithContext(ctx), id)
	return opClient{c}, err
}

// AuthorizeClientIDSecret is nil if secret is the client's.
func (o *opStore) AuthorizeClientIDSecret(ctx context.Context, id, secret string) error {
	c, err := findClient(o.s.db.WithContext(ctx), id)
	if err == nil && !c.knows(secret) {
		err = errNoClient
	}
	return err
}

// SetUserinfoFromToken tells a program what its user lets it know.
func (o *opStore) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	t, err := o.s.findOpaque(ctx, opaquePrefix+tokenID)
	if err != nil {
		return err
	}
	return o.tell(ctx, info, t.UserID, strings.Fields(t.Scopes))
}

// SetUserinfoFromRequest adds to an ID token what belongs into it.
func (o *opStore) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	id, err := uuid.Parse(r.GetSubject())
	if err != nil {
		return err
	}
	return o.tell(ctx, info, id, scopes)
}

func (o *opStore) tell(ctx context.Context, info *oidc.UserInfo, id uuid.UUID, scopes []string) error {
	a, err := findAccount(o.s.db.WithContext(ctx), id)
	if err != nil {
		return err
	}
	shown, err := o.s.sealed.show(ctx, a)
	if err != nil {
		return err
	}
	info.Subject = id.String()
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.Name = shown.DisplayName
	}
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email = shown.Email // nobody has verified it, so nothing is said of that
	}
	return nil
}

// SetIntrospectionFromToken tells a program about its own token.
func (o *opStore) SetIntrospectionFromToken(ctx context.Context, out *oidc.IntrospectionResponse, tokenID, _, clientID string) error {
	t, err := o.s.findOpaque(ctx, opaquePrefix+tokenID)
	if err != nil {
		return err
	}
	if t.ClientID != clientID {
		return errOpaque
	}
	out.Subject, out.ClientID, out.Scope = t.UserID.String(), t.ClientID, strings.Fields(t.Scopes)
	out.Expiration = oidc.FromTime(t.ExpiresAt)
	return nil
}

// SetUserinfoFromScopes is not called any more.
func (*opStore) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// GetPrivateClaimsFromScopes is for access tokens that say something; ours do not.
func (*opStore) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}

// GetKeyByIDAndClientID finds none: programs show secrets, not keys.
func (*opStore) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNoClient
}

// ValidateJWTProfileScopes allows none: see GetKeyByIDAndClientID.
func (*opStore) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrUnsupportedGrantType()
}

// Health is the service's own.
func (o *opStore) Health(ctx context.Context) error { return postgres.Ping(ctx, o.s.db) }
