package testkit

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on. Safe for concurrent use; nothing reserves the port,
// so a caller that loses it to somebody else must be ready to ask again.
//
// It draws from 20000 to 32000, below the range from which Linux takes the local ports of outgoing connections
// (32768 and up): a server that is stopped and started again must find its port free, and a port from that range may
// meanwhile have become the near end of some connection.
func FreePort(ctx context.Context) (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if PortFree(ctx, port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port between 20000 and 32000 on 127.0.0.1")
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
