package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ErrNoCredentials says that this process cannot prove yet who it is: Consul has never answered, or refuses, and there is no
// copy on disk that is still valid.
var ErrNoCredentials = errors.New("no certificate from Consul yet")

// Credentials are what a process proves with who it is, and knows others by. They are not to be modified.
type Credentials struct {
	Certificate *tls.Certificate   // with its Leaf
	Roots       *x509bundle.Bundle // of the one trust domain there is
	Generation  uint64             // counts the changes of Roots
}

// Valid tells why nobody would believe the certificate at that time; nil if they would.
func (c *Credentials) Valid(now time.Time) error {
	if end := c.Certificate.Leaf.NotAfter; now.After(end) {
		return fmt.Errorf("the certificate ended at %s and Consul has not given another", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// Identity keeps the credentials of one service: a certificate that Consul's authority has signed for a key of ours, and
// that authority's roots. The roots are watched. The certificate is renewed after two thirds of its life (Consul gives 72
// hours) and when the authority changes its key. While Consul is silent the last credentials stand, as with everything here;
// a process that starts meanwhile has the copy that its last life kept.
//
// Its methods may be called concurrently.
type Identity struct {
	r       *Registry
	service string
	held    atomic.Pointer[Credentials] // nil until there is a certificate and roots
	changed chan struct{}               // there are other roots

	mu    sync.Mutex // guards the rest, and changes of held
	parts kept       // what held is made of, as far as it is known
	count uint64     // of the changes of its roots
}

// Identity of service, whose token ours must be: Consul signs only for who may register the service. There are no
// credentials before Run. Ask for it once.
func (r *Registry) Identity(service string) *Identity {
	i := &Identity{r: r, service: service, changed: make(chan struct{}, 1)}
	r.metrics.identity.Store(i)
	return i
}

// Credentials are the present ones. Returns ErrNoCredentials as long as there are none.
func (i *Identity) Credentials() (*Credentials, error) {
	if c := i.held.Load(); c != nil {
		return c, nil
	}
	return nil, ErrNoCredentials
}

// Run keeps the credentials until ctx ends, and then returns nil. Nothing it meets makes it stop or forget.
func (i *Identity) Run(ctx context.Context) error {
	defer i.r.signer.http.CloseIdleConnections()
	giveUp := time.AfterFunc(firstWait, i.recall)
	defer giveUp.Stop()
	var both sync.WaitGroup
	both.Go(func() { i.followRoots(ctx) })
	both.Go(func() { i.renew(ctx) })
	both.Wait()
	return nil
}

// followRoots asks for the authority's roots until ctx ends.
func (i *Identity) followRoots(ctx context.Context) {
	var index uint64
	for failures := 0; ctx.Err() == nil; {
		began := i.r.now()
		within, cancel := context.WithTimeout(ctx, answerWithin(healthWait))
		roots, meta, err := i.r.consul.Agent().ConnectCARoots((&api.QueryOptions{WaitIndex: index, WaitTime: healthWait}).WithContext(within))
		cancel()
		if err == nil {
			err = i.learn(roots)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			index = 0
			failures++
			i.failed(failures, "cannot watch the roots of certificates, keeping those there are", err)
			sleep(ctx, backoff(failures))
			continue
		}
		failures, index = 0, nextIndex(index, meta.LastIndex)
		sleep(ctx, minGap-i.r.now().Sub(began))
	}
}

func (i *Identity) failed(failures int, what string, err error) {
	if failures == 1 {
		i.r.log.Warn(what, "error", err)
	}
	i.recall()
}

// learn takes an answer.
func (i *Identity) learn(roots *api.CARootList) error {
	if roots.ActiveRootID == "" || len(roots.Roots) == 0 {
		return errors.New("there is no authority yet")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	next := i.parts
	next.TrustDomain, next.Active, next.Roots = roots.TrustDomain, roots.ActiveRootID, nil
	for _, root := range roots.Roots {
		next.Roots = append(next.Roots, root.RootCertPEM)
	}
	slices.Sort(next.Roots) // their order says nothing, and must not look like a change
	if err := i.take(next); err != nil {
		return err
	}
	select {
	case i.changed <- struct{}{}:
	default:
	}
	return nil
}

// renew has a certificate signed whenever one is due, until ctx ends.
func (i *Identity) renew(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		due := time.NewTimer(i.due())
		select {
		case <-ctx.Done():
		case <-i.changed:
		case <-due.C:
		}
		due.Stop()
		if i.due() > 0 || ctx.Err() != nil {
			continue
		}
		if i.held.Load() != nil {
			sleep(ctx, jitter(healWithin)) // the whole fleet has heard of the new roots in this moment
		}
		if err := i.sign(ctx); err != nil {
			if ctx.Err() == nil {
				failures++
				i.failed(failures, "cannot get a certificate signed, keeping the one there is", err)
				sleep(ctx, backoff(failures))
			}
			continue
		}
		failures = 0
	}
}

// due is when the next certificate is: at once without one, or with one of a key that is not the authority's any more.
func (i *Identity) due() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := i.held.Load()
	switch {
	case i.parts.Active == "": // nobody knows who is to sign
		return healthWait
	case c == nil || i.parts.SignedBy != i.parts.Active:
		return 0
	}
	life := c.Certificate.Leaf.NotAfter.Sub(c.Certificate.Leaf.NotBefore)
	return c.Certificate.Leaf.NotAfter.Add(-life / 3).Sub(i.r.now())
}

// sign has Consul sign a certificate for a new key.
func (i *Identity) sign(ctx context.Context) error {
	i.mu.Lock()
	domain, active := i.parts.TrustDomain, i.parts.Active
	i.mu.Unlock()
	centers, err := i.datacenters(ctx)
	if err != nil {
		return err
	}
	key, csr, err := request(i.service, domain, centers[0])
	if err != nil {
		return err
	}
	certificate, err := i.r.signer.sign(ctx, csr)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	next := i.parts
	next.Certificate, next.Key, next.SignedBy = certificate, key, active
	return i.take(next)
}

// datacenters are Consul's, ours first: its name is part of ours.
func (i *Identity) datacenters(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var list []string
	_, err := i.r.consul.Raw().Query("/v1/catalog/datacenters", &list, (&api.QueryOptions{}).WithContext(ctx))
	if err == nil && len(list) == 0 {
		err = errors.New("no datacenter is known to Consul")
	}
	return list, err
}

// take makes next what there is, and credentials of it once it is whole. i.mu is held.
func (i *Identity) take(next kept) error {
	if next.Certificate == "" || next.TrustDomain == "" {
		i.parts = next
		return nil
	}
	changed, err := i.hold(next)
	if err != nil {
		return err
	}
	if i.parts = next; !changed {
		return nil
	}
	i.r.log.Info("credentials renewed", "until", i.held.Load().Certificate.Leaf.NotAfter, "roots", len(next.Roots))
	if i.r.stateDir != "" {
		if err := write(i.path(), next); err != nil {
			i.r.log.Warn("cannot keep a copy of our credentials", "error", err)
		}
	}
	return nil
}

// hold makes k the credentials in use. It tells whether that changes anything. i.mu is held.
func (i *Identity) hold(k kept) (changed bool, err error) {
	c, err := k.credentials(i.service)
	if err != nil {
		return false, fmt.Errorf("credentials of %s that are of no use: %w", i.service, err)
	}
	old := i.held.Load()
	if old == nil || !old.Roots.Equal(c.Roots) {
		i.count++
	}
	if c.Generation = i.count; old != nil && old.Generation == c.Generation && old.Certificate.Leaf.Equal(c.Certificate.Leaf) {
		return false, nil
	}
	i.held.Store(c)
	return true, nil
}

// kept is what credentials are made of, in PEM, and their copy on disk.
type kept struct {
	Certificate string   `json:"certificate"` // and what is between it and a root
	Key         string   `json:"key"`
	SignedBy    string   `json:"signed_by"` // the authority's key that was active then
	TrustDomain string   `json:"trust_domain"`
	Active      string   `json:"active"`
	Roots       []string `json:"roots"`
}

// credentials reads them, and makes sure that they are the service's. Whether others believe them is theirs to say: their
// roots may be newer than ours.
func (k kept) credentials(service string) (*Credentials, error) {
	cert, err := tls.X509KeyPair([]byte(k.Certificate), []byte(k.Key))
	if err != nil {
		return nil, err
	}
	id, err := x509svid.IDFromCert(cert.Leaf)
	if err != nil {
		return nil, err
	}
	if name, err := ServiceOf(id); err != nil || name != service {
		return nil, fmt.Errorf("the certificate is of %s", id)
	}
	domain, err := spiffeid.TrustDomainFromString(k.TrustDomain)
	if err != nil {
		return nil, err
	}
	roots := x509bundle.New(domain)
	for _, pem := range k.Roots {
		parsed, err := x509bundle.Parse(domain, []byte(pem))
		if err != nil {
			return nil, err
		}
		for _, root := range parsed.X509Authorities() {
			roots.AddX509Authority(root)
		}
	}
	if roots.Empty() {
		return nil, errors.New("there are no roots")
	}
	return &Credentials{Certificate: &cert, Roots: roots}, nil
}

// path of the copy on disk. It has a private key in it, and is its owner's alone.
func (i *Identity) path() string {
	return filepath.Join(i.r.stateDir, "identity", i.service+".json")
}

// recall takes the copy on disk for want of an answer, unless there has been one.
func (i *Identity) recall() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.r.stateDir == "" || i.held.Load() != nil {
		return
	}
	b, err := os.ReadFile(i.path())
	if err != nil {
		return // there is none: the next answer is waited for
	}
	var k kept
	if err = json.Unmarshal(b, &k); err == nil {
		var c *Credentials
		if c, err = k.credentials(i.service); err == nil {
			err = c.Valid(i.r.now())
		}
	}
	if known := i.parts; err == nil && known.TrustDomain != "" {
		if k.Roots, k.Active = known.Roots, known.Active; k.TrustDomain != known.TrustDomain {
			err = fmt.Errorf("it is of %s and Consul is now %s", k.TrustDomain, known.TrustDomain)
		}
	}
	if err == nil {
		_, err = i.hold(k)
	}
	if err == nil {
		i.parts = k
	}
	if err != nil {
		i.r.log.Warn("cannot use the copy of our credentials", "error", err)
		return
	}
	i.r.log.Warn("Consul does not answer, using the copy of our credentials", "until", i.held.Load().Certificate.Leaf.NotAfter)
}

// ServiceOf is the service that a SPIFFE id of Consul's names: spiffe://<domain>/ns/default/dc/<datacenter>/svc/<service>.
func ServiceOf(id spiffeid.ID) (string, error) {
	part := strings.Split(id.Path(), "/")
	if len(part) != 7 || part[1] != "ns" || part[2] != "default" || part[3] != "dc" || part[5] != "svc" {
		return "", fmt.Errorf("%s is not the id of a service", id)
	}
	return part[6], nil
}
