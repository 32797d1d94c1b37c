package testkit

import (
	"context"
	"os"
	"sync"
	"testing"
)

// Consul gives the address (host:port) of a Consul agent that every test of the process shares, so a test takes
// service names that nobody else would. Without an agent, and without the program to start one, the test fails.
func Consul(t testing.TB) string {
	t.Helper()
	agent, err := baseConsul()
	if err != nil {
		t.Fatalf("no Consul for this test: %v\nRun `make test`, which starts one, or set TEST_CONSUL_ADDR.", err)
	}
	return agent.Addr
}

// SecureConsul starts an agent with ACLs for this test alone, and stops it when the test ends. Token gives a service's
// token, Client(ManagementToken) may do everything.
func SecureConsul(t testing.TB) *ConsulServer {
	t.Helper()
	server, err := StartConsul(t.Context(), ConsulConfig{Management: ManagementToken})
	if err != nil {
		t.Fatalf("no Consul for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

// ManagementToken may do everything in an agent that SecureConsul has started.
const ManagementToken = "7d2f5a3e-0d5e-4b0e-9a57-2c1f6d8b4e90" //nolint:gosec // of an agent on loopback that lives for a moment

// baseConsul finds or starts the agent, once per process.
var baseConsul = sync.OnceValues(func() (*ConsulServer, error) { //nolint:gochecknoglobals // one per process
	if addr := os.Getenv("TEST_CONSUL_ADDR"); addr != "" {
		return &ConsulServer{Addr: addr}, nil
	}
	// Not the first caller's context: the agent serves the whole process.
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout) //nolint:forbidigo // see above
	defer cancel()
	return StartConsul(ctx, ConsulConfig{})
})
