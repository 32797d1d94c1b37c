//go:build crashpoints

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var passed atomic.Int64 //nolint:gochecknoglobals // a process dies once

// At kills the process if its environment says so.
func At(point string) {
	where, nth, _ := strings.Cut(os.Getenv("SOUK_CRASH_AT"), ":")
	if where != point || !on() {
		return
	}
	if n, _ := strconv.ParseInt(nth, 10, 64); passed.Add(1) < n { // no number is the first time
		return
	}
	fmt.Fprintf(os.Stdout, `{"time":%q,"level":"INFO","msg":"crash point","point":%q}`+"\n", time.Now().UTC().Format(time.RFC3339Nano), point)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; nothing may happen any more
}

// on reports whether there are faults at this time: while the file SOUK_FAULTS_WHILE names is there, or always.
func on() bool {
	file := os.Getenv("SOUK_FAULTS_WHILE")
	if file == "" {
		return true
	}
	_, err := os.Stat(file)
	return err == nil
}
