package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on, and gives it to nobody else: not to another caller, and
// on Linux not to another process that asks this function, for as long as this one lives. Safe for concurrent use. A
// stranger can still take it, so a caller that loses it must be ready to ask again.
//
// It draws from 20000 to 32000, below the range from which Linux takes the local ports of outgoing connections
// (32768 and up): a server that is stopped and started again must find its port free, and a port from that range may
// meanwhile have become the near end of some connection.
func FreePort(ctx context.Context) (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if PortFree(ctx, port) && reserve(ctx, port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port between 20000 and 32000 on 127.0.0.1")
}

// reservations are held open, or the collector would close them.
var reservations sync.Map //nolint:gochecknoglobals // of the process, as its ports are

// reserve claims port among all processes that use this package. The claim is a socket in Linux's abstract namespace: only
// one process can hold it, and it is gone with the process, however that ends.
func reserve(ctx context.Context, port int) bool {
	if runtime.GOOS != "linux" {
		_, taken := reservations.LoadOrStore(port, nil)
		return !taken
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fmt.Sprintf("@souk-port-%d", port))
	if err != nil {
		return false
	}
	reservations.Store(port, l)
	return true
}

// PortFree reports whether port can be listened on at 127.0.0.1 now.
func PortFree(ctx context.Context, port int) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
