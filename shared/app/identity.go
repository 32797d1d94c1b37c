package app

import (
	"context"
	"sync"
	"time"

	"souk/shared/contract/user"
	"souk/shared/identity"

	"github.com/golang-jwt/jwt/v5"
)

// remoteVerifier verifies with the keys that the user service publishes, heeds what it calls back, and asks it where a
// token must be good at the moment. The keys are fetched when the first token comes, so a service starts without the
// user service.
func (a *App) remoteVerifier() *identity.Verifier {
	keys := sync.OnceValues(func() (jwt.Keyfunc, error) {
		return identity.RemoteKeys(a.loopCtx, "http://user/.well-known/jwks.json", a.Mesh, a.Log)
	})
	v := identity.NewVerifier(func(t *jwt.Token) (any, error) {
		find, err := keys()
		if err != nil {
			return nil, err
		}
		return find(t)
	}, time.Now)
	v.Heed(a.feed)
	v.Ask(func(ctx context.Context, p identity.Principal) error {
		_, err := user.GetStanding.Call(ctx, a.Mesh, &user.StandingInput{User: p.UserID, Session: p.SessionID, Version: p.Version})
		return err
	})
	return v
}

func (a *App) revocations(ctx context.Context, after string) ([]identity.Revocation, string, error) {
	out, err := user.ListRevocations.Call(ctx, a.Mesh, &user.RevocationsInput{After: after})
	if err != nil {
		return nil, "", err
	}
	return out.Body.Items, out.Body.Next, nil
}

// VerifyWith has v verify the tokens, and heed what fetch tells: for the service that signs them. Call it before Serve.
func (a *App) VerifyWith(v *identity.Verifier, fetch identity.Fetch) {
	a.feed = identity.NewFeed(fetch, a.Now)
	v.Heed(a.feed)
	a.HTTP.VerifyWith(v)
}
