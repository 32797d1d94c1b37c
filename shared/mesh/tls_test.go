package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"souk/shared/testkit/authority"
)

func spiffe(service string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "souk", Path: "/svc/" + service}
}

// expect verifies that the other side is service.
func expect(a *authority.Authority, service string) func(tls.ConnectionState) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
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

func config(a *authority.Authority, own *tls.Certificate, other string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*own},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies: the name in a certificate is not a host's
		VerifyConnection: expect(a, other),
	}
}

// Services know each other by their certificates: an instance of somebody else behind product's address, or of product
// signed by somebody else, is a failed connection, and the call goes to another instance. Nothing of it was sent.
func TestTLS(t *testing.T) {
	t.Parallel()
	house, stranger := authority.New(), authority.New()
	order := house.Leaf(spiffe("order"))
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
	real1 := start(config(house, house.Leaf(spiffe("product")), "order"), &good)
	payment := start(config(house, house.Leaf(spiffe("payment")), "order"), &bad)
	forged := start(config(house, stranger.Leaf(spiffe("product")), "order"), &bad)
	payment2, forged2 := start(config(house, house.Leaf(spiffe("payment")), "order"), &bad), start(config(house, stranger.Leaf(spiffe("product")), "order"), &bad)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { bad.Add(1) }))
	t.Cleanup(plain.Close)
	closedToUs := start(config(house, house.Leaf(spiffe("product")), "gateway"), &bad)

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
				return config(house, order, service)
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
