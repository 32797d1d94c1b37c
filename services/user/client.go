package user

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/url"
	"slices"
	"strings"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// meaningOf is what each scope lets a program do, in a customer's words; empty for a scope that is none.
func meaningOf(scope string) string {
	switch scope {
	case "openid":
		return "Know that it is you"
	case "profile":
		return "Know your name"
	case "email":
		return "Know your e-mail address"
	case "offline_access":
		return "Do so while you are away, until you end it"
	case "orders.read":
		return "See your orders"
	case "payments.read":
		return "See your payments"
	case "wishlists.read":
		return "See your wish lists"
	default:
		return ""
	}
}

// client is a row of oauth_client.
type client struct {
	ID           string
	Secret       []byte
	Name         string
	RedirectUris string
	Scopes       string
	CreatedAt    time.Time
}

func (c client) shown() user.Client {
	return user.Client{
		ID: c.ID, Name: c.Name, RedirectURIs: strings.Fields(c.RedirectUris), Scopes: strings.Fields(c.Scopes), Confidential: c.Secret != nil,
		CreatedAt: c.CreatedAt,
	}
}

// knows reports whether secret is the client's.
func (c client) knows(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return c.Secret != nil && subtle.ConstantTimeCompare(sum[:], c.Secret) == 1
}

// RegisterClient lets a program ask customers for access. Its secret is told once and kept as a digest.
func (s *Service) RegisterClient(ctx context.Context, in *user.RegisterClientInput) (*contract.Created[user.NewClient], error) {
	var w wrong
	name := w.text("body.name", in.Body.Name, 1, displayNameLen)
	for _, u := range in.Body.RedirectURIs {
		if !goodRedirect(u) {
			w.add("body.redirect_uris", "must be https, or http on the machine of who uses it, with nothing but host, path and query")
		}
	}
	if err := w.err(); err != nil {
		return nil, err
	}
	c := client{
		ID: "soc-" + uuid.NewString(), Name: name, RedirectUris: strings.Join(in.Body.RedirectURIs, " "), Scopes: strings.Join(in.Body.Scopes, " "),
		CreatedAt: s.now(),
	}
	secret := ""
	if in.Body.Confidential {
		secret = "scs_" + randomText()
		c.Secret = digest(secret)
	}
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return tx.Exec("INSERT INTO oauth_client (id, secret, name, redirect_uris, scopes, created_by, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			c.ID, postgres.Bytea(c.Secret), c.Name, c.RedirectUris, c.Scopes, identity.From(ctx).UserID, c.CreatedAt).Error
	})
	if err != nil {
		return nil, err
	}
	return &contract.Created[user.NewClient]{Location: "/api/v1/oauth/clients", Body: user.NewClient{Client: c.shown(), Secret: secret}}, nil
}

// goodRedirect reports whether a browser may be sent to u with a code.
func goodRedirect(u string) bool {
	p, err := url.Parse(u)
	if err != nil || p.Host == "" || p.User != nil || p.Fragment != "" || len(u) > 500 || strings.ContainsAny(u, " \\*#") || p.String() != u {
		return false
	}
	local := slices.Contains([]string{"localhost", "127.0.0.1", "[::1]"}, strings.TrimSuffix(p.Host, ":"+p.Port()))
	return p.Scheme == "https" || p.Scheme == "http" && local
}

// Clients lists the programs that may ask.
func (s *Service) Clients(ctx context.Context, _ *contract.None) (*contract.Body[contract.Page[user.Client]], error) {
	var rows []client
	err := s.db.WithContext(ctx).Raw("SELECT " + clientColumns + " FROM oauth_client WHERE removed_at IS NULL ORDER BY created_at DESC, id LIMIT 1000").Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	out := &contract.Body[contract.Page[user.Client]]{Body: contract.Page[user.Client]{Items: make([]user.Client, len(rows))}}
	for i, r := range rows {
		out.Body.Items[i] = r.shown()
	}
	return out, nil
}

// RemoveClient ends all that a program was let do, and lets it ask no more.
func (s *Service) RemoveClient(ctx context.Context, in *user.RemoveClientInput) (*contract.None, error) {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		now := s.now()
		err := postgres.Found(tx.Exec("UPDATE oauth_client SET removed_at = ? WHERE id = ? AND removed_at IS NULL", now, in.ID),
			fault.New(fault.NotFound, "no_such_client", "there is no such program"))
		if err != nil {
			return err
		}
		_, _, err = endSessions(tx, "client", now, "client_id = ?", in.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}

const clientColumns = "id, secret, name, redirect_uris, scopes, created_at"

var errNoClient = fault.New(fault.NotFound, "no_such_client", "there is no such program")

func findClient(tx *gorm.DB, id string) (c client, err error) {
	err = postgres.Found(tx.Raw("SELECT "+clientColumns+" FROM oauth_client WHERE id = ? AND removed_at IS NULL", id).Scan(&c), errNoClient)
	return c, err
}

// ask is a row of oauth_request.
type ask struct {
	ID          uuid.UUID
	ClientID    string
	RedirectURI string
	State       string
	Nonce       string
	Challenge   string
	Scopes      string
	UserID      *uuid.UUID
	AuthTime    *time.Time
	SessionID   *uuid.UUID
}

const (
	askLife   = 10 * time.Minute // for a customer to sign in and decide
	codeLife  = time.Minute
	askMemory = 24 * time.Hour // then a code that comes again is unknown
)

const askColumns = "id, client_id, redirect_uri, state, nonce, challenge, scopes, user_id, auth_time, session_id"

var errNoRequest = fault.New(fault.NotFound, "no_such_request", "nobody asks that, or not any more")

// openAsk is the request id that nobody has answered yet.
func (s *Service) openAsk(tx *gorm.DB, id uuid.UUID) (a ask, err error) {
	err = postgres.Found(tx.Raw("SELECT "+askColumns+" FROM oauth_request WHERE id = ? AND user_id IS NULL AND expires_at > ? FOR UPDATE", id, s.now()).Scan(&a), errNoRequest)
	return a, err
}

// OAuthRequest shows a customer what a program asks for.
func (s *Service) OAuthRequest(ctx context.Context, in *contract.ByID) (*contract.Body[user.OAuthRequest], error) {
	var out user.OAuthRequest
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		a, err := s.openAsk(tx, in.ID)
		if err != nil {
			return err
		}
		c, err := findClient(tx, a.ClientID)
		if err != nil {
			return err
		}
		to, err := url.Parse(a.RedirectURI)
		if err != nil {
			return err
		}
		out = user.OAuthRequest{Client: c.Name, RedirectHost: to.Host, Scopes: []user.ScopeMeaning{}}
		for _, scope := range strings.Fields(a.Scopes) {
			out.Scopes = append(out.Scopes, user.ScopeMeaning{Scope: scope, Meaning: meaningOf(scope)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.OAuthRequest]{Body: out}, nil
}

// ApproveOAuthRequest notes that the caller lets the program do what it asks for, and says where the browser gets its code.
func (s *Service) ApproveOAuthRequest(ctx context.Context, in *contract.ByID) (*contract.Body[user.Elsewhere], error) {
	who := identity.From(ctx)
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := s.openAsk(tx, in.ID); err != nil {
			return err
		}
		at := who.AuthTime
		if at.IsZero() {
			at = s.now()
		}
		return tx.Exec("UPDATE oauth_request SET user_id = ?, auth_time = ? WHERE id = ?", who.UserID, at, in.ID).Error
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Elsewhere]{Body: user.Elsewhere{Location: s.publicURL + authorizePath + "/callback?id=" + in.ID.String()}}, nil
}

// DenyOAuthRequest sends the browser back with nothing.
func (s *Service) DenyOAuthRequest(ctx context.Context, in *contract.ByID) (*contract.Body[user.Elsewhere], error) {
	var to *url.URL
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		a, err := s.openAsk(tx, in.ID)
		if err != nil {
			return err
		}
		if to, err = url.Parse(a.RedirectURI); err != nil {
			return err
		}
		q := to.Query()
		q.Set("error", "access_denied")
		if a.State != "" {
			q.Set("state", a.State)
		}
		to.RawQuery = q.Encode()
		return tx.Exec("DELETE FROM oauth_request WHERE id = ?", in.ID).Error
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Elsewhere]{Body: user.Elsewhere{Location: to.String()}}, nil
}

// ExchangeToken gives the gateway the token that services take for a program's opaque one: its user's, narrowed to what a
// customer may do of what they let the program do.
func (s *Service) ExchangeToken(ctx context.Context, in *user.ExchangeInput) (*contract.Body[user.Exchanged], error) {
	t, err := s.findOpaque(ctx, in.Body.Token)
	if err != nil {
		return nil, err
	}
	a, err := findAccount(s.db.WithContext(ctx), t.UserID)
	if err != nil {
		return nil, err
	}
	if a.State != active {
		return nil, errOpaque
	}
	p := a.principal()
	p.SessionID, p.Client, p.Scopes = t.SessionID, t.ClientID, strings.Fields(t.Scopes)
	p.Roles = slices.DeleteFunc(p.Roles, func(r identity.Role) bool { return r != identity.Customer })
	p.Location, p.Clearance = "", 0
	key := s.keys.Load().active
	access, err := identity.Sign(p, key.private, key.id, s.now())
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Exchanged]{Body: user.Exchanged{AccessToken: access}}, nil
}

var errOpaque = fault.New(fault.Unauthenticated, "invalid_token", "the access token is not valid")

// opaqueToken is a row of oauth_token with its session.
type opaqueToken struct {
	SessionID uuid.UUID
	UserID    uuid.UUID
	ClientID  string
	Scopes    string
	ExpiresAt time.Time
}

// findOpaque is what a program's token stands for; Unauthenticated, code invalid_token, if it is not good.
func (s *Service) findOpaque(ctx context.Context, token string) (t opaqueToken, err error) {
	now := s.now()
	err = postgres.Found(s.db.WithContext(ctx).Raw(`SELECT t.session_id, s.user_id, s.client_id, t.scopes, t.expires_at
		FROM oauth_token t JOIN session s ON s.id = t.session_id JOIN oauth_client c ON c.id = s.client_id
		WHERE t.digest = ? AND t.expires_at > ? AND s.revoked_at IS NULL AND s.expires_at > ? AND c.removed_at IS NULL`,
		digest(token), now, now).Scan(&t), errOpaque)
	return t, err
}
