package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/encoding/protowire"
)

// signer has Consul's authority sign certificates for keys that are made here and never leave the process.
//
// The obvious way, the agent's /v1/agent/connect/ca/leaf/<service>, makes the key in the agent, keeps both in a cache, and
// gives them from there to whoever asks, whatever their token and even without one (as of Consul 1.22.7, whose cache knows
// entries by the name of the service alone; there is a test of it). Where several services share an agent, each could
// so become any other. So this is the way that Consul's own data planes go: a signing request over gRPC, of which this is the
// one call that is needed.
type signer struct {
	http  *http.Client
	url   string
	token func() string
	again func() // the token was refused
}

const signMethod = "/hashicorp.consul.connectca.ConnectCAService/Sign"

// newSigner asks the gRPC port of Consul's servers at addr, host:port or a URL; empty is port 8502 where its HTTP port is.
// TLS is what the environment of Consul's own programs says, where addr begins with https.
func newSigner(addr string, conf *api.Config, token *tokenFile) (*signer, error) {
	if addr == "" {
		at := conf.Address[strings.LastIndexByte(conf.Address, '/')+1:]
		host, _, err := net.SplitHostPort(at)
		if err != nil {
			host = at
		}
		addr = net.JoinHostPort(host, "8502")
	}
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	transport := &http.Transport{Protocols: new(http.Protocols), IdleConnTimeout: agentTimeout} // used once in a day
	if strings.HasPrefix(addr, "https://") {
		of := conf.TLSConfig
		of.CAFile = cmp.Or(os.Getenv(api.GRPCCAFileEnvName), of.CAFile)
		tls, err := api.SetupTLSConfig(&of)
		if err != nil {
			return nil, fmt.Errorf("configure TLS to Consul: %w", err)
		}
		transport.TLSClientConfig = tls
		transport.Protocols.SetHTTP2(true)
	} else {
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	s := &signer{http: &http.Client{Transport: transport}, url: addr + signMethod}
	s.token, s.again = func() string { return conf.Token }, func() {}
	if token != nil {
		s.token, s.again = token.get, func() { token.read() }
	}
	return s, nil
}

// request makes a key and a request for a certificate of it, both in PEM.
func request(service, domain, datacenter string) (key, csr string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	id := &url.URL{Scheme: "spiffe", Host: domain, Path: "/ns/default/dc/" + datacenter + "/svc/" + service}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("PRIVATE KEY", pkcs8), text("CERTIFICATE REQUEST", der), err
}

// sign gives the certificate, and what is between it and a root, in PEM.
func (s *signer) sign(ctx context.Context, csr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*agentTimeout)
	defer cancel()
	message := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), csr)
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...) //nolint:gosec // some hundred bytes
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(frame))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("X-Consul-Token", s.token())
	resp, err := s.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	// An error without an answer is told in the header.
	switch status := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status"), resp.Status); status {
	case "0":
		return certificateIn(answer)
	case "7", "16": // permission denied, unauthenticated
		s.again()
		fallthrough
	default:
		why, _ := url.PathUnescape(cmp.Or(resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message")))
		return "", fmt.Errorf("the authority does not sign: status %s: %s", status, why)
	}
}

// certificateIn is the second field of the message in a frame.
func certificateIn(frame []byte) (string, error) {
	errForm := errors.New("an answer of Consul's in an unknown form")
	if len(frame) < 5 || frame[0] != 0 {
		return "", errForm
	}
	for message := frame[5:]; len(message) > 0; {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", errForm
		}
		message = message[n:]
		if field == 2 && kind == protowire.BytesType {
			if text, n := protowire.ConsumeString(message); n >= 0 {
				return text, nil
			}
			return "", errForm
		}
		if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
			return "", errForm
		}
		message = message[n:]
	}
	return "", errForm
}
