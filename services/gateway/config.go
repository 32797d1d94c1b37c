package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config is what the gateway reads from its environment. The zero value limits nothing, trusts nobody and answers no
// other origin.
type Config struct {
	// TrustedProxies are the networks whose word about the client is taken: load balancers of ours, which remove what
	// outsiders claim. The host that runs the client is never one.
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
	// CORSOrigins are the web origins whose pages may call us, such as https://shop.example.
	CORSOrigins []Origin `env:"CORS_ORIGINS"`
	// RateClient and RateUser are per second: of one client address, and of one user wherever they are.
	RateClient Rate `env:"RATE_CLIENT" envDefault:"100/200"`
	RateUser   Rate `env:"RATE_USER" envDefault:"50/100"`
	// RateLogin is per minute and client address: the tries at passwords.
	RateLogin Rate `env:"RATE_LOGIN" envDefault:"5/10"`
	// Timeout bounds a whole request. Zero is 10 s, and it is never more.
	Timeout time.Duration `env:"REQUEST_TIMEOUT" envDefault:"10s"`
	// MaxInflight is how many requests are answered at a time. Zero is what any service takes.
	MaxInflight int `env:"MAX_INFLIGHT" envDefault:"1024"`
}

// Rate is so many events in an interval, and so many at once: "100/200". The zero value, "0", is no limit.
type Rate struct{ Events, Burst int }

// UnmarshalText reads "events/burst", or "0".
func (r *Rate) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*r = Rate{}
		return nil
	}
	events, burst, _ := strings.Cut(string(text), "/")
	e, err1 := strconv.Atoi(events)
	b, err2 := strconv.Atoi(burst)
	if errors.Join(err1, err2) != nil || e < 1 || b < 1 {
		return fmt.Errorf(`%q is no rate: want events/burst, such as "100/200", or "0" for no limit`, text)
	}
	*r = Rate{Events: e, Burst: b}
	return nil
}

// Origin is a web origin: scheme, host and port.
type Origin string

// UnmarshalText accepts one origin, and no wildcard.
func (o *Origin) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != string(text) || strings.Contains(u.Host, "*") {
		return fmt.Errorf("%q is no origin: want https://host or https://host:port", text)
	}
	*o = Origin(text)
	return nil
}
