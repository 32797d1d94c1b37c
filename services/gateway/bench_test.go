package gateway_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"souk/services/gateway"
	"souk/shared/httpapi"
	"souk/shared/registry"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkHop measures what the gateway adds: the same request sent to a service, and through the gateway, over loopback
// and one at a time. The difference of the medians (p50-us) is the hop; the bar is 250 µs. With a token a signature is
// verified on the way.
func BenchmarkHop(b *testing.B) {
	service := httpapi.New(httpapi.Config{
		Service: "product", Version: "bench", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	service.Fallback(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[],"next_page_token":""}`)
	}))
	upstream := httptest.NewServer(service.Handler())
	defer upstream.Close()
	limits := gateway.Config{
		RateClient: gateway.Rate{Events: 1 << 30, Burst: 1 << 30}, RateUser: gateway.Rate{Events: 1 << 30, Burst: 1 << 30},
		CORSOrigins: []gateway.Origin{"https://shop.example"},
	}
	e := setupAt(b, limits, addresses{"product": {registry.Instance{ID: "1", Addr: upstream.Listener.Addr().String()}}})
	e.log.discard = true

	b.Run("direct", func(b *testing.B) { measure(b, upstream.URL+"/v1/products", "") })
	b.Run("gateway", func(b *testing.B) { measure(b, e.url+"/api/v1/products", "") })
	b.Run("gateway-token", func(b *testing.B) { measure(b, e.url+"/api/v1/products", e.token(b, uuid.New(), 0)) })
}

func measure(b *testing.B, url, token string) {
	b.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		resp, err := transport.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		times = append(times, time.Since(start))
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1e3, "p99-us")
}

// BenchmarkRefuse measures what it costs the processor (cpu-us/op, both ends of the connection) to tell a customer to come
// back: by the gateway; by a server of net/http's that knows nothing else to say; and by one that reads and writes, and knows no
// HTTP, which is what the connection and the asking cost.
func BenchmarkRefuse(b *testing.B) {
	e := setupAt(b, gateway.Config{CORSOrigins: []gateway.Origin{"https://shop.example"}}, addresses{})
	e.log.discard = true
	e.gateway.Shut()
	request := []byte("GET /api/v1/products?page_size=20&q=tea HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\n" +
		"Authorization: Bearer " + e.token(b, uuid.New(), 0) + "\r\n\r\n")
	text := strings.Repeat("x", 400)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, text)
	}))
	defer plain.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		in := make([]byte, len(request))
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() { // one after the other
			for _, err := io.ReadFull(conn, in); err == nil; _, err = io.ReadFull(conn, in) {
				_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 400\r\n\r\n"+text)
			}
		}
	}()
	for _, by := range []struct{ name, address string }{
		{"gateway", strings.TrimPrefix(e.url, "http://")}, {"net-http", plain.Listener.Addr().String()}, {"no-http", l.Addr().String()},
	} {
		b.Run(by.name, func(b *testing.B) { ask(b, by.address, request) })
	}
}

func ask(b *testing.B, address string, request []byte) {
	b.Helper()
	conn, err := net.Dial("tcp", address) //nolint:noctx // to this process
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r, before := bufio.NewReader(conn), processorTime()
	b.ReportAllocs()
	for range b.N {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			b.Fatal(resp, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime()-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
