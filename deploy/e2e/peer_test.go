package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
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
	"testing"
	"time"

	"souk/deploy/local"
	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/registry"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
)

// Attacks between services, on those that run. Each tells what was sent and what came back.

func attack(t *testing.T, what, came string) {
	t.Helper()
	t.Logf("attack: %-70s %s", what, came)
}

// insider is who has got hold of a service's token, and so of its certificate.
func insider(t *testing.T, service string) *local.Caller {
	t.Helper()
	c, err := shop.Call(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// knock sends a request to an address as conf says, on a connection of its own.
func knock(t *testing.T, conf *tls.Config, method, url, body string) (status int, problem fault.Problem, text string, err error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(contract.IdempotencyKey, uuid.NewString())
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, problem, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.Header.Get("Content-Type") == fault.ContentType {
		err = errors.Join(err, json.Unmarshal(b, &problem))
	}
	return resp.StatusCode, problem, strings.TrimSpace(string(b)), err
}

// inside are the instances that only services may call.
func inside() (list []local.Instance) {
	for _, in := range shop.Instances("") {
		if in.Service != "gateway" {
			list = append(list, in)
		}
	}
	return list
}

// Who has no certificate of the shop's authority, in TLS 1.3, says nothing that a service listens to.
func TestPeer_noServiceListensToStrangers(t *testing.T) {
	own := insider(t, "gateway")
	credentials, err := own.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	domain := credentials.Roots.TrustDomain().Name()
	for _, in := range inside() {
		status, _, text, err := knock(t, nil, http.MethodGet, "http://"+in.Addr+"/openapi.json", "")
		if err != nil || status != http.StatusBadRequest || text != "Client sent an HTTP request to an HTTPS server." {
			t.Errorf("%s answers plain HTTP: %d %s %v", in.Name, status, text, err)
		}
		attack(t, "plain HTTP to "+in.Name, fmt.Sprintf("%d %s", status, text))
		unchecked := func(certs ...tls.Certificate) *tls.Config {
			return &tls.Config{InsecureSkipVerify: true, Certificates: certs} //nolint:gosec // an attacker does not care
		}
		old := unchecked(*credentials.Certificate)
		old.MaxVersion = tls.VersionTLS12
		for what, conf := range map[string]*tls.Config{
			"no certificate":                 unchecked(),
			"the gateway's name, own CA":     unchecked(testkit.Forge(domain, "gateway")),
			"the gateway's certificate, 1.2": old,
		} {
			status, _, text, err := knock(t, conf, http.MethodGet, "https://"+in.Addr+"/openapi.json", "")
			if err == nil {
				t.Errorf("%s answers with %s: %d %.200s", in.Name, what, status, text)
			}
			attack(t, what+", to "+in.Name, fmt.Sprint(err))
		}
		if status, _, text, err := knock(t, own.Peers.Client(in.Service), http.MethodGet, "https://"+in.Addr+"/openapi.json", ""); err != nil || status != http.StatusOK {
			t.Errorf("%s does not answer the gateway: %d %.200s %v", in.Name, status, text, err)
		}
	}
}

// A service that has been taken over can call what it calls anyway, and nothing else.
func TestPeer_aServiceCallsWhatTheTableLetsIt(t *testing.T) {
	prepare := `{"gid":"` + uuid.Must(uuid.NewV7()).String() + `","branch":0,"action":"charge","payload":{}}`
	for _, tt := range []struct{ caller, callee, method, path, body string }{
		{"product", "payment", http.MethodPost, "/internal/v1/tx/prepare", prepare},
		{"order", "payment", http.MethodPost, "/internal/v1/tx/prepare", prepare},
		{"gateway", "payment", http.MethodPost, "/internal/v1/tx/prepare", prepare},
		{"gateway", "coordinator", http.MethodPost, "/internal/v1/transactions", "{}"},
		{"product", "coordinator", http.MethodPost, "/internal/v1/transactions", "{}"},
		{"user", "order", http.MethodGet, "/internal/v1/orders/" + uuid.NewString(), ""},
		{"product", "user", http.MethodGet, "/v1/users", ""},
		{"coordinator", "payment", http.MethodGet, "/v1/ledger/check", ""},
		{"payment", "product", http.MethodGet, "/v1/products", ""},
	} {
		to := shop.Instances(tt.callee)[0]
		refused := metric(t, to.Name, "mesh_peer_refused_total", `caller="`+tt.caller+`"`, `reason="table"`)
		status, problem, text, err := knock(t, insider(t, tt.caller).Peers.Client(tt.callee), tt.method, "https://"+to.Addr+tt.path, tt.body)
		if err != nil || status != http.StatusForbidden || problem.Code != contract.CallerRefused || problem.RequestID == "" {
			t.Errorf("%s calls %s of %s: %d %s %v", tt.caller, tt.path, tt.callee, status, text, err)
		}
		if now := metric(t, to.Name, "mesh_peer_refused_total", `caller="`+tt.caller+`"`, `reason="table"`); now != refused+1 {
			t.Errorf("%s has counted %.0f refusals of %s, want %.0f", to.Name, now, tt.caller, refused+1)
		}
		attack(t, tt.caller+"'s certificate: "+tt.method+" "+tt.callee+tt.path, fmt.Sprintf("%d %s", status, problem.Code))
	}
	log, err := os.ReadFile(shop.LogPath("payment-1"))
	if err != nil || !strings.Contains(string(log), `"msg":"caller refused"`) {
		t.Errorf("the log of payment does not tell: %v", err)
	}
}

// Product's token is good for product: it registers nobody else, gets nobody else's certificate, and nobody else's lies about.
func TestPeer_aTokenIsOneServices(t *testing.T) {
	consul := func(token string) *api.Client {
		client, err := (&testkit.ConsulServer{Addr: shop.Consul}).Client(token)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	product := token(t, "product")
	for who, token := range map[string]string{"product's token": product, "no token": ""} {
		client := consul(token)
		for what, err := range map[string]error{
			"registers payment":                     client.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "payment", Port: 1}),
			"takes payment-1 out":                   client.Agent().ServiceDeregister("payment-127.0.0.1-" + port(t, shop.Instances("payment")[0].Addr)),
			"replaces payment-1":                    client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "payment-127.0.0.1-" + port(t, shop.Instances("payment")[0].Addr), Name: "product", Port: 1}),
			"writes payment into the catalogue":     second(client.Catalog().Register(&api.CatalogRegistration{Node: "souk", Address: "127.0.0.1", Service: &api.AgentService{Service: "payment", Port: 1}}, nil)),
			"fetches payment's certificate and key": third(client.Agent().ConnectCALeaf("payment", nil)),
			"fetches user's certificate and key":    third(client.Agent().ConnectCALeaf("user", nil)),
			"makes a token":                         third(client.ACL().TokenCreate(&api.ACLToken{}, nil)),
			"changes the authority":                 second(client.Connect().CASetConfig(&api.CAConfig{Provider: "consul", Config: map[string]any{"PrivateKeyBits": 521}}, nil)),
		} {
			var status api.StatusError
			if !errors.As(err, &status) || status.Code != http.StatusForbidden {
				t.Errorf("%s %s: %v", who, what, err)
			}
			attack(t, who+" "+what, fmt.Sprint(err))
		}
	}
	// A certificate of payment, signed for a key of ours.
	reg, err := shop.Registry("product")
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	payment := reg.Identity("payment")
	if err := payment.Run(ctx); err != nil {
		t.Error(err)
	}
	_, err = payment.Credentials()
	if !errors.Is(err, registry.ErrNoCredentials) {
		t.Error("product's token has a certificate of payment signed")
	}
	attack(t, "product's token has a certificate of payment signed", fmt.Sprint(err))
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func token(t *testing.T, service string) string {
	t.Helper()
	b, err := os.ReadFile(shop.TokenPath(service))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Somebody who may do everything in Consul registers instances of payment that are not: they pass their checks, callers hear of them,
// and get nothing, while all checkouts succeed.
func TestPeer_aFakePaymentGetsNothing(t *testing.T) {
	var requests, connections atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			requests.Add(1)
			t.Errorf("the fake payment got %s %s", r.Method, r.URL.Path)
		}
		fmt.Fprintln(w, `{"state":"prepared"}`)
	})
	health := httptest.NewServer(handler)
	t.Cleanup(health.Close)
	own, err := insider(t, "product").Credentials()
	if err != nil {
		t.Fatal(err)
	}
	management, err := (&testkit.ConsulServer{Addr: shop.Consul}).Client(token(t, "management"))
	if err != nil {
		t.Fatal(err)
	}
	certs := map[string]*tls.Certificate{"with product's certificate": own.Certificate, "in plain HTTP": nil}
	forged := testkit.Forge(own.Roots.TrustDomain().Name(), "payment")
	certs["with a certificate of its own authority"] = &forged
	for what, cert := range certs {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				connections.Add(1)
			}
		}
		if cert == nil {
			server.Start()
		} else {
			server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert}
			server.StartTLS()
		}
		t.Cleanup(server.Close)
		number, err := strconv.Atoi(port(t, server.Listener.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		id := "payment-fake-" + port(t, server.Listener.Addr().String())
		if err := management.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: id, Name: "payment", Address: "127.0.0.1", Port: number, Meta: map[string]string{"weight": "10"},
			Check: &api.AgentServiceCheck{HTTP: health.URL + "/readyz", Interval: "1s", Timeout: "1s", Status: api.HealthPassing},
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = management.Agent().ServiceDeregister(id) })
		attack(t, "a payment that is not, "+what, "registered, passing")
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		known := 0.0
		for _, caller := range []string{"gateway-1", "coordinator-1"} {
			known = max(known, metric(t, caller, "mesh_resolver_instances", `callee="payment"`, `status="passing"`))
		}
		return known == 5
	})
	boss, ann := admin(t), customer(t, 1000_00)
	bowl := boss.goods(t, 10_00, 100)
	for range 20 {
		ann.topUp(t, 1_00)
		out, err := ann.pay(t.Context(), ann.place(t, bowl, 1).ID, uuid.NewString())
		if err != nil || out.Status != http.StatusOK {
			t.Fatalf("beside three fakes: %+v, %v", out, err)
		}
	}
	seen := metric(t, "coordinator-1", "mesh_peer_impostors_total", `callee="payment"`) + metric(t, "gateway-1", "mesh_peer_impostors_total", `callee="payment"`)
	attack(t, "20 top-ups and 20 checkouts beside them", fmt.Sprintf("all succeed; %d connections tried, %.0f found to be impostors, %d requests sent", connections.Load(), seen, requests.Load()))
	if connections.Load() == 0 || seen == 0 {
		t.Error("nobody tried the fakes, so this says nothing")
	}
	atRest(t)
}

// The authority changes its key while customers buy: nothing fails, and afterwards every service has a certificate of the new key.
func TestPeer_theAuthorityChangesItsKeyUnderLoad(t *testing.T) {
	boss, ann := admin(t), customer(t, 10_000_00)
	bowl := boss.goods(t, 1_00, 100_000)
	caller := insider(t, "gateway")
	before, err := caller.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	management, err := (&testkit.ConsulServer{Addr: shop.Consul}).Client(token(t, "management"))
	if err != nil {
		t.Fatal(err)
	}
	buying, stop := context.WithCancel(t.Context())
	var bought atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		together(4, func(int) {
			for buying.Err() == nil && !t.Failed() {
				out, err := ann.pay(t.Context(), ann.place(t, bowl, 1).ID, uuid.NewString())
				if err != nil || out.Status != http.StatusOK {
					t.Errorf("%+v, %v", out, err)
				}
				bought.Add(1)
			}
		})
	}()
	conf, _, err := management.Connect().CAGetConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.Config["PrivateKeyBits"] = 384
	if _, err := management.Connect().CASetConfig(conf, nil); err != nil {
		t.Fatal(err)
	}
	// Who speaks with a service sees the certificate that it has.
	renewed := func(in local.Instance) bool {
		conf := caller.Peers.Client(in.Service)
		conf.ClientSessionCache = nil
		conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", in.Addr)
		if err != nil {
			t.Errorf("%s: %v", in.Name, err)
			return false
		}
		defer conn.Close()
		leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		for _, root := range before.Roots.X509Authorities() {
			if leaf.CheckSignatureFrom(root) == nil {
				return false
			}
		}
		return true
	}
	for _, in := range inside() {
		testkit.Eventually(t, 30*time.Second, func() bool { return renewed(in) })
	}
	sold := bought.Load()
	testkit.Eventually(t, 30*time.Second, func() bool { return bought.Load() > sold+20 || t.Failed() })
	stop()
	<-ended
	attack(t, "the authority changes its key", fmt.Sprintf("%d checkouts meanwhile, none failed; every service has a certificate of the new key", bought.Load()))
	atRest(t)
}

// A service that starts while Consul is away has the certificate of its last life: it takes calls and makes them.
func TestPeer_aStartWithoutConsul(t *testing.T) {
	boss, ann := admin(t), customer(t, 100_00)
	bowl := boss.goods(t, 10_00, 10)
	if err := shop.Kill(t.Context(), "consul"); err != nil {
		t.Fatal(err)
	}
	revive(t, "consul")
	for _, name := range []string{"order-1", "coordinator-1"} {
		if err := shop.Kill(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := shop.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 30*time.Second, func() bool {
		for _, in := range shop.Instances("") {
			if status, _, _, err := knock(t, nil, http.MethodGet, "http://"+in.Admin+"/readyz", ""); err != nil || status != http.StatusOK {
				return false
			}
		}
		return true
	})
	placed := ann.place(t, bowl, 1)
	if paid, err := ann.pay(t.Context(), placed.ID, uuid.NewString()); err != nil || paid.Status != http.StatusOK {
		t.Errorf("without Consul: %+v, %v", paid, err)
	}
	if err := shop.Start(t.Context(), "consul"); err != nil {
		t.Fatal(err)
	}
	for _, in := range shop.Instances("") {
		if err := shop.WaitReady(t.Context(), in.Name); err != nil {
			t.Error(err)
		}
	}
	atRest(t)
}
