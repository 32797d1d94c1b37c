package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"souk/deploy/local"
	"souk/deploy/proc"
	"souk/shared/identity"
	"souk/shared/registry"

	"github.com/google/uuid"
)

const (
	// A path for which a token is needed, so that a 200 says that it was verified.
	originPath  = "/v1/orders"
	gatewayPath = "/api/v1/orders"
	users       = 64 // who send requests, a token each
)

// The instances of the balance phase: mesh.md's S2.
var delays = []time.Duration{8 * time.Millisecond, 8 * time.Millisecond, 500 * time.Millisecond} //nolint:gochecknoglobals // never changes

// rig is everything that is measured, and what is around it.
type rig struct {
	dir     string      // the shop's, with the log of every request
	shop    *local.Shop // the gateway, plain and with mutual TLS to the services behind it, and Consul
	caller  *local.Caller
	order   *local.Caller // who the origin is
	user    *local.Caller
	key     *ecdsa.PrivateKey
	origin  *role
	at      originPlaces
	load    *role
	tokens  []string
	proxies []*proxy // the gateway first
	edge    []int    // the processors of a proxy
	rest    []int    // and of everything around it

	stopKeeping context.CancelFunc
	kept        sync.WaitGroup
}

func setUp(ctx context.Context, log io.Writer) (_ *rig, err error) {
	r := &rig{stopKeeping: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.tearDown(context.WithoutCancel(ctx)))
		}
	}()
	all, err := proc.Processors()
	if err != nil {
		return nil, err
	}
	if len(all) < 2 {
		return nil, errors.New("this benchmark needs two processors")
	}
	r.edge, r.rest = all[:1], all[1:]
	if r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", "souk-bench-"); err != nil {
		return nil, err
	}
	r.shop, err = local.Up(ctx, local.Config{
		RunDir: r.dir, Log: log, NoSeed: true,
		Instances: map[string]int{"gateway": 2, "order": 0, "user": 0, "product": 0, "payment": 0, "coordinator": 0},
		Env: func(name string) []string {
			if name == "gateway-1" { // as its neighbours are
				return append(gatewayEnv(1), "MTLS=off")
			}
			return gatewayEnv(1)
		},
	})
	if err != nil {
		return nil, err
	}
	if err := r.startOrigin(ctx); err != nil {
		return nil, err
	}
	if err := r.register(ctx); err != nil {
		return nil, err
	}
	if r.tokens, err = r.sign(users); err != nil {
		return nil, err
	}
	if err := r.startProxies(ctx, log); err != nil {
		return nil, err
	}
	r.load, err = startRole(ctx, "load", r.rest)
	return r, err
}

// gatewayEnv is the gateway's environment: limits are on, and out of the way.
func gatewayEnv(processors int) []string {
	return []string{"RATE_CLIENT=1000000/1000000", "RATE_USER=1000000/1000000", "GOMAXPROCS=" + strconv.Itoa(processors)}
}

func (r *rig) startOrigin(ctx context.Context) (err error) {
	if r.origin, err = startRole(ctx, "origin", r.rest); err != nil {
		return err
	}
	jwks, err := publicKeys(&r.key.PublicKey)
	if err != nil {
		return err
	}
	if _, err := r.shop.Join(ctx, "bench"); err != nil {
		return err
	}
	known := map[string]pair{}
	for service, c := range map[string]**local.Caller{"bench": &r.caller, "order": &r.order, "user": &r.user} {
		if *c, err = r.shop.Call(ctx, service); err != nil {
			return err
		}
		credentials, err := (*c).Credentials()
		if err != nil {
			return err
		}
		key, err := x509.MarshalPKCS8PrivateKey(credentials.Certificate.PrivateKey)
		if err != nil {
			return err
		}
		known[service] = pair{credentials.Certificate.Certificate, key}
	}
	return r.origin.do(originPlan{JWKS: jwks, Known: known, Slow: delays}, &r.at)
}

// register makes the origin the order service, and the user service whose keys verify tokens.
func (r *rig) register(ctx context.Context) (err error) {
	host, port, err := net.SplitHostPort(r.at.Both)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	keeping, stop := context.WithCancel(ctx)
	r.stopKeeping = stop
	for service, c := range map[string]*local.Caller{"order": r.order, "user": r.user} {
		r.kept.Go(func() {
			_ = c.Registry.Keep(keeping, registry.Registration{Service: service, Host: host, Port: number, AdminPort: number}) // the registration is sound
		})
	}
	return nil
}

func (r *rig) startProxies(ctx context.Context, log io.Writer) error {
	for i, in := range r.shop.Instances("gateway") {
		name := []string{"gateway", "gateway+mtls"}[i]
		r.proxies = append(r.proxies, &proxy{name: name, addr: in.Addr, path: gatewayPath, pid: in.PID, stop: func() error { return nil }})
		if err := proc.Move(in.PID, r.edge); err != nil {
			return err
		}
	}
	for _, start := range []func() (*proxy, error){
		func() (*proxy, error) { return startCaddy(ctx, r.root(), r.dir, r.at.Both, r.edge, log) },
		func() (*proxy, error) { return startNginx(ctx, r.dir, r.at.Both, r.edge, log) },
	} {
		p, err := start()
		if err != nil {
			return err
		}
		r.proxies = append(r.proxies, p)
	}
	for _, p := range r.proxies[:2] {
		if err := answers(ctx, "http://"+p.addr+gatewayPath, r.tokens[0]); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) root() string {
	root, err := local.Root()
	if err != nil {
		return "." // Up has found it, or we would not be here
	}
	return root
}

// sign makes the tokens of n new users.
func (r *rig) sign(n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		p := identity.Principal{UserID: uuid.New(), SessionID: uuid.New(), Roles: []identity.Role{identity.Customer}}
		var err error
		if tokens[i], err = identity.Sign(p, r.key, keyID, time.Now()); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

const keyID = "bench"

// publicKeys is the JWKS that has key.
func publicKeys(key *ecdsa.PublicKey) (string, error) {
	point, err := key.Bytes()
	if err != nil {
		return "", fmt.Errorf("encode the key of tokens: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString
	b, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": keyID, "x": text(point[1:33]), "y": text(point[33:]),
	}}})
	return string(b), err
}

func (r *rig) tearDown(ctx context.Context) (err error) {
	r.stopKeeping()
	r.kept.Wait()
	for _, c := range []*local.Caller{r.caller, r.order, r.user} {
		if c != nil {
			c.Close()
		}
	}
	for _, p := range r.proxies {
		err = errors.Join(err, p.stop())
	}
	for _, role := range []*role{r.load, r.origin} {
		if role != nil {
			err = errors.Join(err, role.stop())
		}
	}
	if r.shop != nil {
		err = errors.Join(err, r.shop.Down(ctx))
	}
	if err == nil && r.dir != "" {
		err = os.RemoveAll(r.dir)
	}
	return err
}
