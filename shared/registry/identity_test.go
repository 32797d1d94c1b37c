package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"souk/shared/testkit"

	"github.com/hashicorp/consul/api"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// tokenOf makes a token of service, in a file.
func tokenOf(t *testing.T, consul *testkit.ConsulServer, service string) string {
	t.Helper()
	token, err := consul.Token(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), service)
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs the identity of service on a registry of its own until the test or end ends it.
func start(t *testing.T, service string, cfg Config, now func() time.Time) (i *Identity, end func()) {
	t.Helper()
	r, err := New(cfg, Deps{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	i, done := r.Identity(service), make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.Close()
	}
	t.Cleanup(end)
	return i, end
}

// has waits for credentials that are as wanted.
func has(t *testing.T, i *Identity, wanted func(*Credentials) bool) *Credentials {
	t.Helper()
	var c *Credentials
	testkit.Eventually(t, 2*soon, func() bool {
		var err error
		c, err = i.Credentials()
		return err == nil && wanted(c)
	})
	return c
}

func anyCredentials(*Credentials) bool { return true }

// A service is certified by the token that lets it register, and as nobody else; the authority changing its key, Consul going away,
// and a start without it, leave it with credentials that others believe.
func TestIdentity(t *testing.T) {
	t.Parallel()
	consul := testkit.SecureConsul(t)
	product, state := tokenOf(t, consul, "product"), t.TempDir()
	i, end := start(t, "product", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: product, StateDir: state}, nil)
	first := has(t, i, anyCredentials)
	id, _, err := x509svid.Verify([]*x509.Certificate{first.Certificate.Leaf}, first.Roots)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := ServiceOf(id); err != nil || name != "product" {
		t.Errorf("the certificate is of %s: %v", id, err)
	}

	impostor, _ := start(t, "payment", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: product}, nil)
	nobody, _ := start(t, "product", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: filepath.Join(state, "no-such-token")}, nil)

	file := filepath.Join(state, "identity", "product.json")
	testkit.Eventually(t, soon, func() bool { _, err := os.Stat(file); return err == nil })
	if info, err := os.Stat(file); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the copy on disk is %v (%v): it has a private key in it", info.Mode(), err)
	}

	// Nobody else can have the key: it was never in Consul. The agent's own way of giving certificates would have left it there for
	// everybody to take, as with the payment service here that goes that way.
	management, err := consul.Client(testkit.ManagementToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := management.Agent().ConnectCALeaf("payment", nil); err != nil {
		t.Fatal(err)
	}
	anonymous, err := consul.Client("")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := anonymous.Agent().ConnectCALeaf("product", nil); err == nil || !strings.Contains(err.Error(), "service:write") {
		t.Errorf("anybody can have a certificate of product: %v", err)
	}
	if _, _, err := anonymous.Agent().ConnectCALeaf("payment", nil); err != nil {
		t.Logf("Consul no longer gives away what is in the agent's cache: %v", err)
	}

	// The authority changes its key: there are new roots beside the old ones, and then a certificate of the new.
	rotate(t, consul)
	second := has(t, i, func(c *Credentials) bool {
		return c.Generation > first.Generation && !c.Certificate.Leaf.Equal(first.Certificate.Leaf)
	})
	if _, _, err := x509svid.Verify(chain(t, second), first.Roots); err != nil {
		t.Errorf("who has not heard of the new key yet does not believe its certificates: %v", err)
	}
	if _, _, err := x509svid.Verify([]*x509.Certificate{first.Certificate.Leaf}, second.Roots); err != nil {
		t.Errorf("the certificates of the old key are not believed any more: %v", err)
	}

	for what, i := range map[string]*Identity{"the token of another service": impostor, "no token": nobody} {
		if _, err := i.Credentials(); !errors.Is(err, ErrNoCredentials) {
			t.Errorf("with %s: got %v, want %v", what, err, ErrNoCredentials)
		}
	}

	// Consul goes away: the credentials stay, and the next life of the process begins with them.
	if err := consul.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := i.Credentials(); err != nil || c != second {
		t.Errorf("without Consul: %v", err)
	}
	end()
	reborn, _ := start(t, "product", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: product, StateDir: state}, nil)
	if c := has(t, reborn, anyCredentials); !c.Certificate.Leaf.Equal(second.Certificate.Leaf) || !c.Roots.Equal(second.Roots) {
		t.Error("it begins with other credentials than its last life ended with")
	}
	later := func() time.Time { return time.Now().Add(100 * time.Hour) }
	late, endLate := start(t, "product", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: product, StateDir: state}, later)
	other, endOther := start(t, "payment", Config{Addr: consul.Addr, GRPCAddr: consul.GRPC, TokenFile: product, StateDir: copyAs(t, file, "payment")}, nil)
	endAfter := time.Now().Add(2 * firstWait)
	testkit.Eventually(t, soon, func() bool { return time.Now().After(endAfter) })
	for what, i := range map[string]*Identity{"that have ended": late, "of another service": other} {
		if _, err := i.Credentials(); !errors.Is(err, ErrNoCredentials) {
			t.Errorf("credentials %s are used: %v", what, err)
		}
	}
	endLate()
	endOther()
}

// chain is the certificate and what is between it and a root.
func chain(t *testing.T, c *Credentials) (certs []*x509.Certificate) {
	t.Helper()
	for _, der := range c.Certificate.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

// copyAs gives a state folder in which the copy of credentials is another service's.
func copyAs(t *testing.T, file, service string) string {
	t.Helper()
	b, err := os.ReadFile(file) //nolint:gosec // the test's own
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "identity"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity", service+".json"), b, 0o600); err != nil { //nolint:gosec // the test's own
		t.Fatal(err)
	}
	return dir
}

// rotate has the authority make itself another key.
func rotate(t *testing.T, consul *testkit.ConsulServer) {
	t.Helper()
	client, err := consul.Client(testkit.ManagementToken)
	if err != nil {
		t.Fatal(err)
	}
	conf, _, err := client.Connect().CAGetConfig((&api.QueryOptions{}).WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	conf.Config["PrivateKeyBits"] = 384
	if _, err := client.Connect().CASetConfig(conf, (&api.WriteOptions{}).WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// A service may register itself and nobody else.
func TestKeep_onlyAsOneself(t *testing.T) {
	t.Parallel()
	consul := testkit.SecureConsul(t)
	token, err := consul.Token(t.Context(), "product")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token, service string
		want           int
	}{{token, "product", 0}, {token, "payment", http.StatusForbidden}, {"", "payment", http.StatusForbidden}, {"", "product", http.StatusForbidden}} {
		client, err := consul.Client(tt.token)
		if err != nil {
			t.Fatal(err)
		}
		g := newInstance(t, tt.service, 9)
		err = client.Agent().ServiceRegisterOpts(g.entry(), api.ServiceRegisterOpts{}.WithContext(t.Context()))
		var status api.StatusError
		if got := errors.As(err, &status); got != (tt.want != 0) || got && status.Code != tt.want {
			t.Errorf("registering %s: %v, want %d", tt.service, err, tt.want)
		}
		if tt.want != 0 && err != nil && !strings.Contains(err.Error(), "service:write") {
			t.Errorf("refused for another reason: %v", err)
		}
	}
}
