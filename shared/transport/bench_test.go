package transport_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"souk/shared/transport"
)

// What an exchange with a server on this machine costs, with net/http's Transport and with a Pool, one and several at a time.
// The server is a process of its own: in one, the goroutines of both sides share threads, and wake fewer.
func BenchmarkExchange(b *testing.B) {
	cmd := exec.CommandContext(b.Context(), os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), beServer+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr = strings.TrimSpace(addr)
	standard := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	pool := &transport.Pool{Addr: addr, MaxIdle: 64}
	for _, n := range []int{1, 4, 32} {
		for _, by := range []struct {
			name string
			rt   http.RoundTripper
		}{{"standard", standard}, {"pool", pool}} {
			b.Run(fmt.Sprintf("%s/%d", by.name, n), func(b *testing.B) { exchange(b, by.rt, "http://"+addr, n) })
		}
	}
}

func exchange(b *testing.B, rt http.RoundTripper, url string, n int) {
	b.Helper()
	b.ReportAllocs()
	before := processor()
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			for range b.N/n + 1 {
				req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64((processor()-before).Nanoseconds())/1e3/float64(b.N), "client-cpu-us")
}

func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const beServer = "TRANSPORT_TEST_SERVER"

// answer is the server's process, until it is killed.
func answer() {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a process of its own
	if err != nil {
		return
	}
	fmt.Fprintln(os.Stdout, l.Addr())
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
}
