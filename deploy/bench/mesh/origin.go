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
	JWKS string          // what it answers for the keys of tokens
	Key  []byte          // PEM, as Cert and CA: of its TLS address, which only clients of that CA may call
	Cert []byte          //
	CA   []byte          //
	Slow []time.Duration // for each a further address, which takes so long to answer
}

// originPlaces are the addresses of the origin, host:port.
type originPlaces struct {
	Plain, TLS string
	Slow       []string
}

// answerBytes is about what a page of the catalogue's products, or an order, takes.
const answerBytes = 1 << 10

// serveOrigin is a service that costs next to nothing, so that what is measured is what stands before it.
func serveOrigin(ctx context.Context, in io.Reader, out io.Writer) error {
	var failed error
	return errors.Join(serveQuestions(in, out, func(p originPlan) (places originPlaces, err error) {
		serve := func(delay time.Duration, secure *tls.Config) string {
			l, listenErr := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if listenErr != nil {
				err = errors.Join(err, listenErr)
				return ""
			}
			addr := l.Addr().String()
			if secure != nil {
				l = tls.NewListener(l, secure)
			}
			server := &fasthttp.Server{Handler: answerAfter(delay, p.JWKS), NoDefaultServerHeader: true, IdleTimeout: 75 * time.Second}
			go func() { failed = server.Serve(l) }()
			return addr
		}
		cert, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			return places, err
		}
		clients := x509.NewCertPool()
		clients.AppendCertsFromPEM(p.CA)
		places.Plain = serve(0, nil)
		places.TLS = serve(0, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		})
		for _, d := range p.Slow {
			places.Slow = append(places.Slow, serve(d, nil))
		}
		return places, err
	}), failed)
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
