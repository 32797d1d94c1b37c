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
