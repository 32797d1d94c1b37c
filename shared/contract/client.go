package contract

import (
	"context"
	"net/netip"
)

// ClientAddress is the header in which the gateway says from which address a request came. From outside nobody can send it.
const ClientAddress = "X-Internal-Client"

type clientKey struct{}

// WithClient returns a context of a request that came from addr, as ClientAddress says it.
func WithClient(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, clientKey{}, addr)
}

// ClientFrom is the address that the request of ctx came from; the zero Addr where that is not known.
func ClientFrom(ctx context.Context) netip.Addr {
	s, _ := ctx.Value(clientKey{}).(string)
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
