package gateway_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
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
