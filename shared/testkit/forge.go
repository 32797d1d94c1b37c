package testkit

import (
	"crypto/tls"
	"net/url"

	"souk/shared/testkit/authority"
)

// Forge makes what somebody makes who would be a service of the trust domain: a certificate with its name, signed by an authority
// of their own.
func Forge(domain, service string) tls.Certificate {
	return *authority.New().Leaf(&url.URL{Scheme: "spiffe", Host: domain, Path: "/ns/default/dc/dc1/svc/" + service})
}
