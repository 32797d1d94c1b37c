//go:build crashpoints

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var passed atomic.Int64 //nolint:gochecknoglobals // a process dies once

// At kills the process if its environment says so.
func At(point string) {
	where, nth, _ := strings.Cut(os.Getenv("SOUK_CRASH_AT"), ":")
	if where != point {
		return
	}
	if n, _ := strconv.ParseInt(nth, 10, 64); passed.Add(1) < n { // no number is the first time
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; nothing may happen any more
}
