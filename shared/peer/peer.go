// Package peer is how services of the shop know each other: mutual TLS 1.3 with certificates of Consul's authority, and the
// table of who may call what (calls.table).
//
// A caller knows whom it calls by name, and lets no instance have a request whose certificate does not have that name: not
// one that somebody else has registered, and not one of another authority. A callee takes no connection without a
// certificate of the authority, and answers 403 to whoever may not call the route by the table. Which person a request is
// for, and what that person may do, is not decided here: a service's certificate opens routes, and never an order.
//
// The name is in a SPIFFE id, spiffe://<domain>/ns/default/dc/<datacenter>/svc/<service>; names of hosts play no part.
//
// # When credentials change
//
// Each handshake takes the credentials of that moment, so a renewal needs no restart and disturbs no connection. A connection
// whose other side could not make it again today, because its certificate has ended or the roots have changed, is closed in
// good order after its next answer. A TLS session is resumed only under the roots under which it was made.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/mesh"
	"souk/shared/registry"
	"souk/shared/telemetry"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source has the credentials of this process; *registry.Identity is one. It may be called concurrently.
type Source interface {
	Credentials() (*registry.Credentials, error)
}

// Config says who we are; all fields are required but Now.
type Config struct {
	Service string
	Calls   Table
	Source  Source
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time // nil means time.Now
}

// Peers are the services around this one. Its methods may be called concurrently.
type Peers struct {
	cfg       Config
	refused   *prometheus.CounterVec
	impostors *prometheus.CounterVec
}

// New panics when the metrics are already registered.
func New(cfg Config) *Peers {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Peers{
		cfg: cfg,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_peer_refused_total", Help: "Callers refused, by their name (empty if it is not known) and why: certificate or table.",
		}, []string{"caller", "reason"}),
		impostors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_peer_impostors_total", Help: "Connections to an instance that could not prove to be of the service called.",
		}, []string{"callee"}),
	}
	cfg.Metrics.MustRegister(p.refused, p.impostors)
	return p
}

// Client is how to speak with one instance of service: as ourselves, and with that service alone. Sessions are resumed with
// the instance; make another Client for another.
func (p *Peers) Client(service string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: service,
		NextProtos: []string{"http/1.1"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.certificate()
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, on resumption as well: the name in a certificate is not a host's
		VerifyConnection: func(s tls.ConnectionState) error {
			name, err := p.verify(s)
			if err == nil && name != service {
				err = fmt.Errorf("this is %s, not %s", name, service)
			}
			if err != nil && !errors.Is(err, registry.ErrNoCredentials) {
				p.impostors.WithLabelValues(service).Inc()
				p.cfg.Log.Warn("an instance is not who it says", "callee", service, "error", err)
				err = fmt.Errorf("%w: %w", mesh.ErrImpostor, err)
			}
			return err
		},
		ClientSessionCache: &sessions{tls.NewLRUClientSessionCache(4), p},
	}
}

// Server is how to take calls: from whoever has a certificate of the authority. Admit asks the table.
func (p *Peers) Server() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"http/1.1"},
		ClientAuth:     tls.RequireAnyClientCert, // which VerifyConnection verifies
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			name, err := p.verify(s)
			if err != nil {
				p.refused.WithLabelValues(name, "certificate").Inc()
			}
			return err
		},
	}
	c.WrapSession = func(s tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
		state.Extra = append(state.Extra, []byte(p.under()))
		return c.EncryptTicket(s, state)
	}
	c.UnwrapSession = func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
		state, err := c.DecryptTicket(ticket, s)
		if err != nil || state == nil || len(state.Extra) == 0 || string(state.Extra[len(state.Extra)-1]) != p.under() {
			return nil, err
		}
		return state, nil
	}
	return c
}

func (p *Peers) certificate() (*tls.Certificate, error) {
	c, err := p.cfg.Source.Credentials()
	if err != nil {
		return nil, err
	}
	return c.Certificate, nil
}

// verify gives the service that is on the other side.
func (p *Peers) verify(s tls.ConnectionState) (string, error) {
	c, err := p.cfg.Source.Credentials()
	if err != nil {
		return "", err
	}
	id, _, err := x509svid.Verify(s.PeerCertificates, c.Roots, x509svid.WithTime(p.cfg.Now()))
	if err != nil {
		return "", err
	}
	return registry.ServiceOf(id)
}

// generation counts the changes of the roots; 0 is none.
func (p *Peers) generation() uint64 {
	c, err := p.cfg.Source.Credentials()
	if err != nil {
		return 0
	}
	return c.Generation
}

// under names the present roots.
func (p *Peers) under() string { return "roots " + strconv.FormatUint(p.generation(), 10) + " " }

// sessions forgets those that were made under other roots.
type sessions struct {
	kept tls.ClientSessionCache
	of   *Peers
}

func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.kept.Get(s.of.under() + key)
}

func (s *sessions) Put(key string, state *tls.ClientSessionState) {
	s.kept.Put(s.of.under()+key, state)
}

// link is what is known of a connection. Its requests come one after the other.
type link struct {
	generation uint64 // of the roots when it came, or earlier ones than it was verified by
	caller     string // empty until the first request
	until      time.Time
}

type linkKey struct{}

// Connected is for the ConnContext of an http.Server on Server.
func (p *Peers) Connected(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, linkKey{}, &link{generation: p.generation()})
}

// Admit asks the table whether the other side of r's connection may call the route, a template; an empty one is a path at
// which there is nothing, and whoever may call us may know that. Returns a Forbidden fault.
func (p *Peers) Admit(r *http.Request, route string) error {
	l, ok := r.Context().Value(linkKey{}).(*link)
	if !ok || r.TLS == nil {
		return fault.New(fault.Forbidden, contract.CallerRefused, "services call each other over mutual TLS")
	}
	if l.caller == "" { // the handshake has verified the certificate
		id, err := x509svid.IDFromCert(r.TLS.PeerCertificates[0])
		if err == nil {
			l.caller, err = registry.ServiceOf(id)
		}
		if err != nil {
			return err
		}
		l.until = r.TLS.PeerCertificates[0].NotAfter
	}
	telemetry.Note(r.Context(), slog.String("caller", l.caller))
	if t := p.cfg.Calls; t.May(l.caller, p.cfg.Service, route) || route == "" && t.Knows(l.caller, p.cfg.Service) {
		return nil
	}
	p.refused.WithLabelValues(l.caller, "table").Inc()
	p.cfg.Log.WarnContext(r.Context(), "caller refused", "caller", l.caller, "route", route)
	return fault.New(fault.Forbidden, contract.CallerRefused, "%s does not take this call from %s", p.cfg.Service, l.caller)
}

// Closing asks the clients of next to connect again where today they would have to prove themselves in another way than
// they did.
func (p *Peers) Closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l, ok := r.Context().Value(linkKey{}).(*link); ok && l.caller != "" {
			if p.generation() != l.generation || p.cfg.Now().After(l.until) {
				w.Header().Set("Connection", "close")
			}
		}
		next.ServeHTTP(w, r)
	})
}
