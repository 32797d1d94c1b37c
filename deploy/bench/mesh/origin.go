package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"souk/shared/contract/user"

	"github.com/valyala/fasthttp"
)

// originPlan says what the origin is to be.
type originPlan struct {
	JWKS  string          // what it answers for the keys of tokens
	Known map[string]pair // its certificates, by the service that it is
	Slow  []time.Duration // for each a further address, which takes so long to answer
}

// pair is a certificate and its key, as DER.
type pair struct {
	Chain [][]byte
	Key   []byte
}

// originPlaces are the addresses of the origin, host:port.
type originPlaces struct {
	Both string // plain, and mutual TLS with whoever begins like that
	Slow []string
}

// answerBytes is about what a page of the catalogue's products, or an order, takes.
const answerBytes = 1 << 10

// serveOrigin is a service that costs next to nothing, so that what is measured is what stands before it.
func serveOrigin(ctx context.Context, in io.Reader, out io.Writer) error {
	var failed error
	return errors.Join(serveQuestions(in, out, func(p originPlan) (places originPlaces, err error) {
		conf, err := p.secure()
		if err != nil {
			return places, err
		}
		serve := func(delay time.Duration) string {
			l, listenErr := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if listenErr != nil {
				err = errors.Join(err, listenErr)
				return ""
			}
			server := &fasthttp.Server{Handler: answerAfter(delay, p.JWKS), NoDefaultServerHeader: true, IdleTimeout: 75 * time.Second}
			go func() { failed = server.Serve(either{l, conf}) }()
			return l.Addr().String()
		}
		places.Both = serve(0)
		for _, d := range p.Slow {
			places.Slow = append(places.Slow, serve(d))
		}
		return places, err
	}), failed)
}

// secure is the TLS of a service, which is the one that its client asks for.
func (p originPlan) secure() (*tls.Config, error) {
	certs := map[string]*tls.Certificate{}
	for service, pair := range p.Known {
		key, err := x509.ParsePKCS8PrivateKey(pair.Key)
		if err != nil {
			return nil, err
		}
		certs[service] = &tls.Certificate{Certificate: pair.Chain, PrivateKey: key}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return certs[h.ServerName], nil },
	}, nil
}

// either takes plain connections and those that begin with TLS.
type either struct {
	net.Listener
	conf *tls.Config
}

// Accept is part of net.Listener.
func (l either) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &undecided{Conn: c, conf: l.conf}, nil
}

const handshake = 22 // the type of the first record of TLS

// undecided is a connection of which nothing has been read yet. One goroutine uses it.
type undecided struct {
	net.Conn
	conf *tls.Config
	is   net.Conn
}

// Read is part of net.Conn.
func (c *undecided) Read(p []byte) (int, error) {
	if c.is == nil {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.Conn, first); err != nil {
			return 0, err
		}
		c.is = &begun{c.Conn, first}
		if first[0] == handshake {
			c.is = tls.Server(c.is, c.conf)
		}
	}
	return c.is.Read(p)
}

// Write is part of net.Conn. A server has read before it writes.
func (c *undecided) Write(p []byte) (int, error) { return c.is.Write(p) }

// begun is a connection some of which has been read.
type begun struct {
	net.Conn
	first []byte
}

// Read is part of net.Conn.
func (c *begun) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func answerAfter(delay time.Duration, jwks string) fasthttp.RequestHandler {
	body, err := json.Marshal(map[string]any{"items": []string{strings.Repeat("x", answerBytes)}, "next_page_token": ""})
	if err != nil {
		panic(fmt.Errorf("text is JSON: %w", err))
	}
	return func(c *fasthttp.RequestCtx) {
		if delay > 0 {
			<-time.After(delay)
		}
		c.SetContentType("application/json")
		if string(c.Path()) == "/.well-known/jwks.json" {
			c.SetBodyString(jwks)
			return
		}
		if string(c.Path()) == user.ListRevocations.Path { // or no token would be good
			c.SetBodyString(`{"items":[],"next":""}`)
			return
		}
		c.SetBody(body)
	}
}
