// Package authority signs certificates for tests. It is a package of its own, so that the tests of what testkit is made of
// can use it.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"time"
)

// Authority has a key and a certificate of its own, good for an hour. It may be used concurrently.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// New makes an authority that nobody has signed. It panics, as Leaf does, if the machine has no randomness.
func New() *Authority {
	a := &Authority{Cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}}
	own, key := a.sign(a.Cert)
	a.Cert, a.Key = own.Leaf, key
	return a
}

// Leaf is the certificate, with its Leaf, of a service that has the SPIFFE id; change makes of it what a test wants.
func (a *Authority) Leaf(id *url.URL, change ...func(*x509.Certificate)) *tls.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(c)
	}
	made, _ := a.sign(c)
	return made
}

// sign makes a key and a certificate for it, which the key itself signs as long as the authority has none.
func (a *Authority) sign(template *x509.Certificate) (*tls.Certificate, *ecdsa.PrivateKey) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	signer := a.Key
	if signer == nil {
		signer = key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.Cert, &key.PublicKey, signer))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}, key
}

func must[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}
