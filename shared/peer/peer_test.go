package peer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/httpapi"
	"souk/shared/identity"
	"souk/shared/mesh"
	"souk/shared/peer"
	"souk/shared/registry"
	"souk/shared/testkit/authority"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var domain = spiffeid.RequireTrustDomainFromString("11111111-2222-3333-4444-555555555555.consul")

func id(path string) *url.URL { return &url.URL{Scheme: "spiffe", Host: domain.Name(), Path: path} }

func idOf(service string) *url.URL { return id("/ns/default/dc/dc1/svc/" + service) }

// source is credentials that a test changes.
type source struct {
	held  atomic.Pointer[registry.Credentials]
	count uint64
}

func (s *source) Credentials() (*registry.Credentials, error) {
	if c := s.held.Load(); c != nil {
		return c, nil
	}
	return nil, registry.ErrNoCredentials
}

func (s *source) hold(cert *tls.Certificate, roots ...*authority.Authority) *source {
	b := x509bundle.New(domain)
	for _, a := range roots {
		b.AddX509Authority(a.Cert)
	}
	if old := s.held.Load(); old == nil || !old.Roots.Equal(b) {
		s.count++
	}
	s.held.Store(&registry.Credentials{Certificate: cert, Roots: b, Generation: s.count})
	return s
}

// process is a service of the shop.
type process struct {
	*source
	peers   *peer.Peers
	metrics *prometheus.Registry
	log     *logged
	addr    string
	taken   atomic.Int64 // connections
	served  atomic.Int64 // requests that came to the operation
}

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

type none struct{}

var ask = contract.Route[contract.None, contract.Body[none]]{
	ID: "lookup-products", Service: "product", Method: http.MethodPost, Path: "/internal/v1/products", Permission: identity.Internal,
	Summary: "Answers.",
}

func newProcess(t testing.TB, service string, s *source) *process {
	t.Helper()
	table, err := peer.Calls("")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{source: s, metrics: prometheus.NewRegistry(), log: &logged{}}
	log := slog.New(slog.NewJSONHandler(p.log, nil))
	p.peers = peer.New(peer.Config{Service: service, Calls: table, Source: s, Log: log, Metrics: p.metrics})
	api := httpapi.New(httpapi.Config{Service: service, Version: "test", Log: log, Metrics: p.metrics})
	api.AskPeers(p.peers.Admit)
	httpapi.Handle(api, ask, func(context.Context, *contract.None) (*contract.Body[none], error) {
		p.served.Add(1)
		return new(contract.Body[none]), nil
	})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	server := &http.Server{
		Handler: p.peers.Closing(api.Handler()), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p.taken.Add(1)
			return p.peers.Connected(ctx, c)
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(tls.NewListener(l, p.peers.Server())) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return p
}

// shop is one authority and a process of product.
func shop(t testing.TB) (*authority.Authority, *process) {
	t.Helper()
	house := authority.New()
	return house, newProcess(t, "product", new(source).hold(house.Leaf(idOf("product")), house))
}

// client is one that speaks TLS as conf says, a new connection for each request.
func client(conf *tls.Config) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
}

// answer is a response without its body, which has been read.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
	TLS        *tls.ConnectionState
}

// send posts to a path of p.
func (p *process) send(t testing.TB, c *http.Client, scheme, path string) (answer, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+p.addr+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.Status, resp.StatusCode, resp.Header, resp.TLS}, body, err
}

// asService is the TLS of a service that holds cert, calling product.
func asService(t testing.TB, cert *tls.Certificate, roots ...*authority.Authority) *tls.Config {
	t.Helper()
	p := peer.New(peer.Config{Service: "any", Source: new(source).hold(cert, roots...), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	return p.Client("product")
}

// Whoever may call is answered, whoever may not gets a problem that says so, and the log and the metrics tell.
func TestAdmit_asksTheTable(t *testing.T) {
	t.Parallel()
	house, product := shop(t)
	for name, tt := range map[string]struct {
		caller, path string
		status       int
		code         string
	}{
		"a line that allows it":                   {"order", "/internal/v1/products", 200, ""},
		"a line that allows something else":       {"gateway", "/internal/v1/products", 403, contract.CallerRefused},
		"no line":                                 {"payment", "/internal/v1/products", 403, contract.CallerRefused},
		"nobody's certificate":                    {"souk", "/internal/v1/products", 403, contract.CallerRefused},
		"a path that is not there":                {"order", "/internal/v1/product", 404, "not_found"},
		"a path that is not there, for no friend": {"payment", "/internal/v1/product", 403, contract.CallerRefused},
		"a trick with the path":                   {"gateway", "/internal%2fv1/products", 404, "not_found"},
		"another trick":                           {"gateway", "/v1/../internal/v1/products", 404, "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body, err := product.send(t, client(asService(t, house.Leaf(idOf(tt.caller)), house)), "https", tt.path)
			if err != nil {
				t.Fatal(err)
			}
			var problem fault.Problem
			if err := json.Unmarshal(body, &problem); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if resp.StatusCode != tt.status || tt.code == contract.CallerRefused && problem.Code != tt.code {
				t.Fatalf("got %s %s, want %d %s", resp.Status, body, tt.status, tt.code)
			}
			if tt.status == http.StatusForbidden && (resp.Header.Get("Content-Type") != fault.ContentType || problem.RequestID == "") {
				t.Errorf("got %v %s, want a problem", resp.Header, body)
			}
		})
	}
	t.Cleanup(func() {
		if got := product.served.Load(); got != 1 {
			t.Errorf("%d requests came to the operation, want 1", got)
		}
		text := product.log.String()
		for _, want := range []string{`"msg":"caller refused","caller":"payment"`, `"caller":"order"`} {
			if !strings.Contains(text, want) {
				t.Errorf("the log does not say %s:\n%s", want, text)
			}
		}
		want := "# HELP mesh_peer_refused_total Callers refused, by their name (empty if it is not known) and why: certificate or table.\n" +
			"# TYPE mesh_peer_refused_total counter\n" +
			`mesh_peer_refused_total{caller="gateway",reason="table"} 1` + "\n" +
			`mesh_peer_refused_total{caller="payment",reason="table"} 2` + "\n" +
			`mesh_peer_refused_total{caller="souk",reason="table"} 1` + "\n"
		if err := testutil.GatherAndCompare(product.metrics, strings.NewReader(want), "mesh_peer_refused_total"); err != nil {
			t.Error(err)
		}
	})
}

// Nobody gets as far as a request without a certificate that the house has signed for a service, in TLS 1.3.
func TestServer_takesNoConnectionWithoutACertificate(t *testing.T) {
	t.Parallel()
	house, product := shop(t)
	stranger := authority.New()
	order := house.Leaf(idOf("order"))
	bare := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: certs} //nolint:gosec // an attacker does not care
	}
	old := bare(*order)
	old.MaxVersion = tls.VersionTLS12
	for name, conf := range map[string]*tls.Config{
		"no certificate":       bare(),
		"TLS 1.2":              old,
		"another authority":    bare(*stranger.Leaf(idOf("order"))),
		"signed by a service":  bare(tls.Certificate{Certificate: [][]byte{(&authority.Authority{Cert: order.Leaf, Key: order.PrivateKey.(*ecdsa.PrivateKey)}).Leaf(idOf("order")).Certificate[0], order.Certificate[0]}, PrivateKey: order.PrivateKey}),
		"it has ended":         bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
		"it has not begun":     bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })),
		"a host's name alone":  bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"order"} })),
		"two names":            bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.URIs = append(c.URIs, idOf("gateway")) })),
		"another trust domain": bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.URIs[0].Host = "elsewhere.consul" })),
		"not a service":        bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.URIs[0] = id("/agent/client/dc/dc1/id/order") })),
		"another namespace":    bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.URIs[0] = id("/ns/other/dc/dc1/svc/order") })),
		"an authority's":       bare(*house.Leaf(idOf("order"), func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if resp, body, err := product.send(t, client(conf), "https", ask.Path); err == nil {
				t.Errorf("got %s %s", resp.Status, body)
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		t.Parallel()
		resp, body, err := product.send(t, client(nil), "http", ask.Path)
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS") {
			t.Errorf("got %v %s %v", resp, body, err)
		}
	})
	t.Cleanup(func() {
		if got := product.served.Load(); got != 0 {
			t.Errorf("%d requests came to the operation", got)
		}
	})
}

// A caller gives no request to an instance that is not of the service it calls.
func TestClient_callsNobodyElse(t *testing.T) {
	t.Parallel()
	house, stranger := authority.New(), authority.New()
	var seen atomic.Int64
	for name, cert := range map[string]*tls.Certificate{
		"another service":   house.Leaf(idOf("payment")),
		"another authority": stranger.Leaf(idOf("product")),
		"it has ended":      house.Leaf(idOf("product"), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"a longer name":     house.Leaf(idOf("product-2")),
		"a host's name":     house.Leaf(idOf("product"), func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"product"} }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelWarn)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert}
			server.StartTLS()
			t.Cleanup(server.Close)
			p := &process{addr: server.Listener.Addr().String()}
			if resp, _, err := p.send(t, client(asService(t, house.Leaf(idOf("order")), house)), "https", ask.Path); err == nil {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	t.Cleanup(func() {
		if seen.Load() != 0 {
			t.Errorf("%d requests came to those who are not product", seen.Load())
		}
	})
}

// Without credentials of its own a process neither calls nor is called; once it has them it does both, with nothing restarted.
func TestPeers_withoutCredentials(t *testing.T) {
	t.Parallel()
	house := authority.New()
	late, caller := new(source), new(source)
	product := newProcess(t, "product", late)
	p := peer.New(peer.Config{Service: "order", Source: caller, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	c := client(p.Client("product"))
	for i, give := range []func(){func() {}, func() { late.hold(house.Leaf(idOf("product")), house) }, func() { caller.hold(house.Leaf(idOf("order")), house) }} {
		give()
		_, _, err := product.send(t, c, "https", ask.Path)
		if done := i == 2; done != (err == nil) {
			t.Errorf("with %d of 2 credentials: %v", i, err)
		}
	}
}

// The second connection with an instance resumes the session of the first, which is cheaper, but only under the same roots; and it is
// verified all the same.
func TestClient_resumesUnderTheSameRoots(t *testing.T) {
	t.Parallel()
	house, product := shop(t)
	next := authority.New()
	caller := new(source).hold(house.Leaf(idOf("order")), house)
	p := peer.New(peer.Config{Service: "order", Source: caller, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	conf := p.Client("product")
	connect := func() bool {
		t.Helper()
		resp, body, err := product.send(t, client(conf), "https", ask.Path)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %s", err, body)
		}
		return resp.TLS.DidResume
	}
	for _, step := range []struct {
		what   string
		do     func()
		resume bool
	}{
		{"the first", func() {}, false},
		{"the second", func() {}, true},
		{"after a new certificate", func() { product.hold(house.Leaf(idOf("product")), house) }, true},
		{"after the callee's roots changed", func() { product.hold(house.Leaf(idOf("product")), house, next) }, false},
		{"once more", func() {}, true},
		{"after the caller's roots changed", func() { caller.hold(house.Leaf(idOf("order")), house, next) }, false},
	} {
		step.do()
		if got := connect(); got != step.resume {
			t.Errorf("%s: resumed is %v, want %v", step.what, got, step.resume)
		}
	}
	// The house is trusted no more: neither a session nor a certificate of its time opens anything.
	product.hold(next.Leaf(idOf("product")), next)
	if resp, _, err := product.send(t, client(conf), "https", ask.Path); err == nil {
		t.Errorf("got %s", resp.Status)
	}
}

// While certificates and the authority itself are renewed again and again, each call gets its answer at its first try; and connections
// do not outlive the roots that they were made under.
func TestPeers_renewUnderLoad(t *testing.T) {
	t.Parallel()
	house, product := shop(t)
	caller := new(source).hold(house.Leaf(idOf("order")), house)
	p := peer.New(peer.Config{Service: "order", Source: caller, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	m := mesh.New(mesh.Config{Caller: "order", Tries: 1}, mesh.Deps{
		Resolver: instances{{ID: "product-1", Addr: product.addr}}, TLS: p.Client, Metrics: prometheus.NewRegistry(),
	})
	t.Cleanup(m.Close)
	calling, stop := context.WithCancel(t.Context())
	var (
		all   sync.WaitGroup
		calls atomic.Int64
	)
	for range 4 {
		all.Go(func() {
			for calling.Err() == nil {
				if _, err := ask.Call(t.Context(), m.Client(), new(contract.None)); err != nil {
					t.Error(err)
					return
				}
				calls.Add(1)
			}
		})
	}
	const turns = 10
	for range turns {
		next := authority.New()
		for _, step := range []func(){ // as Consul does it: first everybody knows the new roots, then the certificates follow
			func() { product.hold(house.Leaf(idOf("product")), house, next) },
			func() { caller.hold(house.Leaf(idOf("order")), house, next) },
			func() { product.hold(next.Leaf(idOf("product")), house, next) },
			func() { caller.hold(next.Leaf(idOf("order")), house, next) },
			func() { product.hold(next.Leaf(idOf("product")), next) },
			func() { caller.hold(next.Leaf(idOf("order")), next) },
		} {
			step()
			for before := calls.Load(); calls.Load() < before+20 && !t.Failed(); {
				if _, err := ask.Call(t.Context(), m.Client(), new(contract.None)); err != nil {
					t.Fatal(err)
				}
			}
		}
		house = next
	}
	stop()
	all.Wait()
	if product.taken.Load() < turns {
		t.Errorf("%d connections for %d authorities", product.taken.Load(), turns)
	}
	t.Logf("%d calls on %d connections, %d authorities", calls.Load(), product.taken.Load(), turns)
}

// instances is a resolver that never changes.
type instances []registry.Instance

func (i instances) Instances(context.Context, string) ([]registry.Instance, error) { return i, nil }

func TestCalls(t *testing.T) {
	t.Parallel()
	table, err := peer.Calls("bench coordinator /internal/v1/transactions # its own line")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		caller, callee, route string
		want                  bool
	}{
		{"order", "user", "/.well-known/jwks.json", true}, // everybody
		{"order", "user", "/v1/users/me", false},
		{"gateway", "user", "/v1/users/{id}", true},
		{"gateway", "user", "/internal/v1/tx/prepare", false},
		{"gateway", "gateway", "/v1/orders", false},
		{"coordinator", "user", "/internal/v1/tx/prepare", true},
		{"order", "payment", "/internal/v1/tx/prepare", false}, // only the coordinator has branches prepared
		{"product", "coordinator", "/internal/v1/transactions", false},
		{"product", "coordinator", "/internal/v1/transactions/resolve", true},
		{"bench", "coordinator", "/internal/v1/transactions", true},
		{"bench", "coordinator", "/internal/v1/transactions/resolve", false},
		{"", "coordinator", "/internal/v1/transactions", false},
		{"*", "coordinator", "/internal/v1/transactions", false},
	} {
		if got := table.May(tt.caller, tt.callee, tt.route); got != tt.want {
			t.Errorf("%s calls %s of %s: got %v, want %v", tt.caller, tt.route, tt.callee, got, tt.want)
		}
	}
	got := table.Unused("product", []string{"/internal/v1/products", "/internal/v1/forgotten", "/internal/v1/tx/prepare", "/v1/products"})
	if len(got) != 1 || got[0] != "/internal/v1/forgotten" {
		t.Errorf("nobody may call %q", got)
	}
	for _, bad := range []string{"order product", "order product internal/v1/products", "order product /a all"} {
		if _, err := peer.Calls(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What a request costs more than one that nobody asks about.
func BenchmarkAdmit(b *testing.B) {
	house := authority.New()
	table, err := peer.Calls("")
	if err != nil {
		b.Fatal(err)
	}
	p := peer.New(peer.Config{
		Service: "payment", Calls: table, Source: new(source).hold(house.Leaf(idOf("payment")), house),
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	r := httptest.NewRequestWithContext(p.Connected(b.Context(), nil), http.MethodPost, "/internal/v1/tx/prepare", http.NoBody)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{house.Leaf(idOf("coordinator")).Leaf}}
	h := p.Closing(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := p.Admit(r, "/internal/v1/tx/prepare"); err != nil {
			panic(fmt.Sprint(err))
		}
	}))
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
