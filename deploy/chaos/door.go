package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"souk/deploy/local"
	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"

	"github.com/google/uuid"
)

// door is the public door of the shop for one person. The zero token is nobody's.
type door struct {
	gateway *url.URL
	client  *http.Client
	token   string
}

// clientTime is a little more than the shop's own longest time for a request.
const clientTime = 12 * time.Second

func newDoor(gateway *url.URL) *door {
	d := &door{gateway: gateway}
	d.client = &http.Client{Transport: d, Timeout: clientTime}
	return d
}

// transport is everybody's: a browser keeps its connections, too.
var transport = &http.Transport{MaxIdleConnsPerHost: 64} //nolint:gochecknoglobals // never changes

// RoundTrip takes a call by service name through the public door: http://order/v1/… is …/api/v1/… at the gateway.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		r.URL.Path = "/api" + r.URL.Path
	}
	r.URL.Host, r.Host = d.gateway.Host, d.gateway.Host
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	return transport.RoundTrip(r)
}

const password = "correct horse battery staple"

// register opens an account and signs in.
func register(ctx context.Context, gateway *url.URL) (*door, uuid.UUID, error) {
	d := newDoor(gateway)
	in := new(user.RegisterInput)
	in.Body.Email, in.Body.Password, in.Body.DisplayName = "chaos-"+uuid.NewString()+"@souk.example", password, "Somebody"
	made, err := user.Register.Call(ctx, d.client, in)
	if err != nil {
		return nil, uuid.Nil, err
	}
	return d, made.Body.ID, d.signIn(ctx, in.Body.Email, password)
}

func (d *door) signIn(ctx context.Context, email, password string) error {
	in := new(user.LoginInput)
	in.Body.Email, in.Body.Password = email, password
	out, err := user.Login.Call(ctx, d.client, in)
	if err == nil {
		d.token = out.Body.AccessToken
	}
	return err
}

func admin(ctx context.Context, gateway *url.URL) (*door, error) {
	d := newDoor(gateway)
	return d, d.signIn(ctx, local.Admin, local.SeedPassword())
}

// verdict is what an answer says about what was asked for.
type verdict int

const (
	unknown verdict = iota // it may or may not have been done: ask again under the same key
	done
	refused // it was not done, and will not be
)

func (v verdict) String() string { return [...]string{"unknown", "done", "refused"}[v] }

// answer is what a client has seen.
type answer struct {
	at      time.Time
	verdict verdict
	text    string
}

// answered makes an answer of a status and an error.
func answered(status int, err error) answer {
	a := answer{at: time.Now()}
	switch {
	case err == nil && status == http.StatusAccepted:
		a.text = "202"
	case err == nil:
		a.verdict, a.text = done, fmt.Sprint(status)
	default:
		f := fault.Of(err)
		a.text = f.Problem().Code
		switch f.Kind {
		case fault.Conflict:
			// What passes is no refusal: somebody else is at it.
			if f.Code != "busy" && f.Code != "request_in_progress" {
				a.verdict = refused
			}
		case fault.Invalid, fault.Malformed, fault.NotFound, fault.Forbidden:
			a.verdict = refused
		case fault.Internal:
			a.text = "internal error"
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			a.verdict, a.text = unknown, "hung up"
		}
	}
	return a
}

func withKey(ctx context.Context, key string) context.Context { return contract.WithKey(ctx, key) }
