package httpapi

import (
	"context"
	"log/slog"
	"testing"

	"souk/shared/contract"
	"souk/shared/identity"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// Whatever way something gets behind the server's port, it has a permission or the service does not serve.
func TestUndeclared_findsWhatIsNoOperation(t *testing.T) {
	t.Parallel()
	s := New(Config{Service: "test", Version: "test", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	Handle(s, contract.Route[contract.None, contract.None]{ID: "a", Method: "POST", Path: "/v1/a/{id}", Permission: identity.SignedIn},
		func(context.Context, *contract.None) (*contract.None, error) { return nil, nil })
	if err := s.Undeclared(); err != nil {
		t.Errorf("operations and their document: %v", err)
	}
	s.engine.GET("/v1/a/:id", func(*gin.Context) {}) // the same path, another method
	if err := s.Undeclared(); err == nil {
		t.Error("a handler without a permission was not found")
	}
}
