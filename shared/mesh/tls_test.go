package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates of services, which are named by SPIFFE ids as Consul's are.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}}
	a.cert, a.key = a.sign(t, a.cert)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func spiffe(service string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "souk", Path: "/svc/" + service}
}

// leaf is the certificate of a service. It has no name of a host in it.
func (a *authority) leaf(t *testing.T, service string) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{spiffe(service)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// expect verifies that the other side is service.
func (a *authority) expect(service string) func(tls.ConnectionState) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("no certificate")
		}
		peer := s.PeerCertificates[0]
		_, err := peer.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil && (len(peer.URIs) != 1 || *peer.URIs[0] != *spiffe(service)) {
			err = fmt.Errorf("the other side is %v, not %s", peer.URIs, service)
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrImpostor, err)
		}
		return err
	}
}

func (a *authority) config(own tls.Certificate, other string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies: the name in a certificate is not a host's
		VerifyConnection: a.expect(other),
	}
}

// Services know each other by their certificates: an instance of somebody else behind product's address, or of product
// signed by somebody else, is a failed connection, and the call goes to another instance. Nothing of it was sent.
func TestTLS(t *testing.T) {
	t.Parallel()
	house, stranger := newAuthority(t), newAuthority(t)
	order := house.leaf(t, "order")
	start := func(conf *tls.Config, seen *atomic.Int64) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1); r.Host != "product" {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		}))
		s.TLS = conf
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	var good, bad atomic.Int64
	real1 := start(house.config(house.leaf(t, "product"), "order"), &good)
	payment := start(house.config(house.leaf(t, "payment"), "order"), &bad)
	forged := start(house.config(stranger.leaf(t, "product"), "order"), &bad)
	payment2, forged2 := start(house.config(house.leaf(t, "payment"), "order"), &bad), start(house.config(stranger.leaf(t, "product"), "order"), &bad)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { bad.Add(1) }))
	t.Cleanup(plain.Close)
	closedToUs := start(house.config(house.leaf(t, "product"), "gateway"), &bad)

	for name, tt := range map[string]struct {
		servers []*httptest.Server
		ok      bool
	}{
		"the service":                    {[]*httptest.Server{real1}, true},
		"another service":                {[]*httptest.Server{payment}, false},
		"another authority":              {[]*httptest.Server{forged}, false},
		"one that does not expect us":    {[]*httptest.Server{closedToUs}, false},
		"another service beside the one": {[]*httptest.Server{payment, real1}, true},
		"many of them":                   {[]*httptest.Server{payment, forged, plain, payment2, forged2, real1}, true},
		"nobody else":                    {[]*httptest.Server{payment, forged, plain}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, addrs := &names{}, []string{}
			for _, s := range tt.servers {
				addrs = append(addrs, s.Listener.Addr().String())
			}
			n.list(addrs...)
			asked := ""
			m := New(Config{Caller: "order"}, Deps{Resolver: n, TLS: func(service string) *tls.Config {
				asked = service
				return house.config(order, service)
			}})
			t.Cleanup(m.Close)
			for range 5 {
				code, err := ask(t.Context(), m, http.MethodPost)
				if (code == http.StatusOK) != tt.ok {
					t.Fatalf("got %d, %v", code, err)
				}
				if err != nil && err.Kind != KindUnreachable && err.Kind != KindBroken {
					t.Errorf("got %v", err)
				}
			}
			if asked != "product" {
				t.Errorf("asked how to speak to %q", asked)
			}
		})
	}
	t.Cleanup(func() {
		if bad.Load() != 0 {
			t.Errorf("%d requests came to those who are not product", bad.Load())
		}
	})
}
