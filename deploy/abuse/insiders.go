package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"souk/deploy/local"
	"souk/shared/contract"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
)

// insiders are attacks from within the network: at the ports that only services may call, with what a service that has been taken
// over has, and through Consul.
func insiders() []attack {
	prepare := `{"gid":"` + uuid.Must(uuid.NewV7()).String() + `","branch":0,"action":"charge","payload":{}}`
	attacks := []attack{
		stranger("plain HTTP to the port of a service", func(*local.Caller) (*tls.Config, error) { return nil, nil }),
		stranger("TLS without a certificate", func(*local.Caller) (*tls.Config, error) { return unchecked(), nil }),
		stranger("TLS 1.2 with the gateway's certificate", func(c *local.Caller) (*tls.Config, error) {
			held, err := c.Credentials()
			if err != nil {
				return nil, err
			}
			conf := unchecked(*held.Certificate)
			conf.MaxVersion = tls.VersionTLS12
			return conf, nil
		}),
		stranger("the gateway's name in a certificate of another authority", func(c *local.Caller) (*tls.Config, error) {
			held, err := c.Credentials()
			if err != nil {
				return nil, err
			}
			return unchecked(testkit.Forge(held.Roots.TrustDomain().Name(), "gateway")), nil
		}),
	}
	for _, c := range []struct{ caller, callee, method, path, body string }{
		{"product", "payment", "POST", "/internal/v1/tx/prepare", prepare},
		{"order", "payment", "POST", "/internal/v1/tx/prepare", prepare},
		{"gateway", "payment", "POST", "/internal/v1/tx/prepare", prepare},
		{"product", "coordinator", "POST", "/internal/v1/transactions", "{}"},
		{"gateway", "coordinator", "POST", "/internal/v1/transactions", "{}"},
		{"user", "order", "GET", "/internal/v1/orders/" + uuid.NewString(), ""},
		{"product", "payment", "GET", "/internal/v1/letterbox", ""},
		{"product", "user", "GET", "/v1/users", ""},
		{"payment", "user", "POST", "/internal/v1/oauth/exchange", "{}"},
	} {
		attacks = append(attacks, attack{c.caller + " taken over, and calling " + c.callee + c.path, func(ctx context.Context, s *scene) outcome {
			as, err := s.shop.Call(ctx, c.caller)
			if err != nil {
				return outcome{got: err.Error()}
			}
			defer as.Close()
			status, text, err := knock(ctx, as.Peers.Client(c.callee), c.method, "https://"+s.shop.Instances(c.callee)[0].Addr+c.path, c.body)
			return outcome{
				c.method + " with the certificate of " + c.caller, fmt.Sprintf("%d %s %v", status, text, err),
				status == http.StatusForbidden && strings.Contains(text, contract.CallerRefused),
			}
		}})
	}
	for _, with := range []string{"product", ""} {
		attacks = append(attacks,
			consul(with, "registering payment", func(c *api.Client, _ string) error {
				return c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "payment", Port: 1})
			}),
			consul(with, "replacing an instance of payment", func(c *api.Client, id string) error {
				return c.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: "product", Port: 1})
			}),
			consul(with, "taking an instance of payment out", func(c *api.Client, id string) error { return c.Agent().ServiceDeregister(id) }),
			consul(with, "fetching payment's certificate and key", func(c *api.Client, _ string) error {
				_, _, err := c.Agent().ConnectCALeaf("payment", nil)
				return err
			}),
			consul(with, "making a token", func(c *api.Client, _ string) error {
				_, _, err := c.ACL().TokenCreate(&api.ACLToken{}, nil)
				return err
			}),
		)
	}
	return append(attacks,
		attack{"a certificate of payment signed for product's token", func(ctx context.Context, s *scene) outcome {
			reg, err := s.shop.Registry("product")
			if err != nil {
				return outcome{got: err.Error()}
			}
			defer reg.Close()
			asking, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			payment := reg.Identity("payment")
			err = payment.Run(asking)
			_, none := payment.Credentials()
			return outcome{"a signing request in payment's name, with product's token", fmt.Sprint(none), err == nil && errors.Is(none, registry.ErrNoCredentials)}
		}},
		attack{"instances of payment that are not, registered with Consul's own token", fakes},
	)
}

// stranger knocks at every service as conf says, and must get no answer of any.
func stranger(name string, conf func(*local.Caller) (*tls.Config, error)) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		gateway, err := s.shop.Call(ctx, "gateway")
		if err != nil {
			return outcome{got: err.Error()}
		}
		defer gateway.Close()
		secure, err := conf(gateway)
		if err != nil {
			return outcome{got: err.Error()}
		}
		o := outcome{sent: "GET /openapi.json to every service", refused: true}
		for _, in := range s.shop.Instances("") {
			if in.Service == "gateway" {
				continue
			}
			scheme := "https://"
			if secure == nil {
				scheme = "http://"
			}
			status, text, err := knock(ctx, secure, "GET", scheme+in.Addr+"/openapi.json", "")
			o.got = fmt.Sprintf("%d %s %v", status, text, err)
			if err == nil && (secure != nil || status != http.StatusBadRequest || strings.Contains(text, "{")) {
				o.refused = false
				return o
			}
		}
		return o
	}}
}

func unchecked(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: certs} //nolint:gosec // an attacker does not care
}

// knock sends a request on a connection of its own.
func knock(ctx context.Context, conf *tls.Config, method, url, body string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(contract.IdempotencyKey, uuid.NewString())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, string(b), err
}

// client of the shop's Consul with the token of service; with none where that is empty.
func (s *scene) client(service string) (*api.Client, error) {
	token := []byte{}
	if service != "" {
		var err error
		if token, err = os.ReadFile(s.shop.TokenPath(service)); err != nil {
			return nil, err
		}
	}
	return (&testkit.ConsulServer{Addr: s.shop.Consul}).Client(string(token))
}

// consul tries what nobody with the token of service may.
func consul(service, what string, try func(c *api.Client, id string) error) attack {
	who := "no token"
	if service != "" {
		who = service + "'s token"
	}
	return attack{what + " with " + who, func(_ context.Context, s *scene) outcome {
		client, err := s.client(service)
		if err != nil {
			return outcome{got: err.Error()}
		}
		_, port, _ := net.SplitHostPort(s.shop.Instances("payment")[0].Addr)
		err = try(client, "payment-127.0.0.1-"+port)
		var status api.StatusError
		return outcome{"a request to Consul with " + who, fmt.Sprint(err), errors.As(err, &status) && status.Code == http.StatusForbidden}
	}}
}

// fakes has whoever may do everything in Consul register three more of payment, and the victim go on buying.
func fakes(ctx context.Context, s *scene) outcome {
	var came atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			came.Add(1)
		}
		fmt.Fprintln(w, "{}")
	})
	health := httptest.NewServer(handler)
	defer health.Close()
	product, err := s.shop.Call(ctx, "product")
	if err != nil {
		return outcome{got: err.Error()}
	}
	defer product.Close()
	held, err := product.Credentials()
	if err != nil {
		return outcome{got: err.Error()}
	}
	forged := testkit.Forge(held.Roots.TrustDomain().Name(), "payment")
	management, err := s.client("management")
	if err != nil {
		return outcome{got: err.Error()}
	}
	for _, certs := range [][]tls.Certificate{nil, {*held.Certificate}, {forged}} {
		server := httptest.NewUnstartedServer(handler)
		if certs == nil {
			server.Start()
		} else {
			server.TLS = &tls.Config{Certificates: certs, ClientAuth: tls.RequestClientCert}
			server.StartTLS()
		}
		defer server.Close()
		_, text, _ := net.SplitHostPort(server.Listener.Addr().String())
		port, _ := strconv.Atoi(text)
		g := &api.AgentServiceRegistration{
			ID: "payment-fake-" + text, Name: "payment", Address: "127.0.0.1", Port: port,
			Check: &api.AgentServiceCheck{HTTP: health.URL + "/readyz", Interval: "1s", Timeout: "1s", Status: api.HealthPassing},
		}
		if err := management.Agent().ServiceRegister(g); err != nil {
			return outcome{got: err.Error()}
		}
		defer func() { _ = management.Agent().ServiceDeregister(g.ID) }()
	}
	failed := 0
	const purchases = 30 // callers hear of the fakes within the first few
	for range purchases {
		a := s.send(ctx, request{method: "GET", path: "/api/v1/wallets/USD", token: s.victim.token})
		if a.status != http.StatusOK {
			failed++
		}
		order := s.send(ctx, request{method: "POST", path: "/api/v1/orders", token: s.victim.token, body: `{"lines":[{"product_id":"` + s.product + `","quantity":1}]}`})
		if a := s.send(ctx, request{method: "POST", path: "/api/v1/orders/" + order.field("id") + "/pay", token: s.victim.token}); a.status != http.StatusOK {
			failed++
		}
	}
	return outcome{
		"registrations of three, plain, with product's certificate, and forged",
		fmt.Sprintf("%d requests at the fakes; %d of %d purchases failed", came.Load(), failed, purchases), came.Load() == 0 && failed == 0,
	}
}
