package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process names one process of this machine beyond doubt, as long as it was made after the same boot.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, from /proc
}

// identify reads the start time of pid.
func identify(pid int) (Process, error) {
	_, _, start, err := procStat(pid)
	if err != nil {
		return Process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Process{PID: pid, Start: start}, nil
}

// Alive reports whether the process still runs. A dead one that nobody has reaped yet does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	state, threads, start, err := procStat(p.PID)
	if err != nil || start != p.Start {
		return false
	}
	// While other threads are still on their way out, the process has its files, and its port.
	return threads > 1 || state != 'Z' && state != 'X'
}

// signal sends sig unless the process is gone.
func (p Process) signal(sig syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// stop sends sig, waits up to patience for the end, and then kills.
func (p Process) stop(ctx context.Context, sig syscall.Signal, patience time.Duration) (killed bool, err error) {
	if err := p.signal(sig); err != nil {
		return false, err
	}
	if p.gone(ctx, patience) {
		return false, nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return true, err
	}
	if !p.gone(context.WithoutCancel(ctx), 5*time.Second) {
		return true, fmt.Errorf("process %d survives SIGKILL", p.PID)
	}
	return true, nil
}

// gone waits up to patience, or until ctx is over, for the end of the process.
func (p Process) gone(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, 10*time.Millisecond, func() bool { return !p.Alive() })
}

// rssMiB is the memory of the process that is in RAM, from /proc.
func (p Process) rssMiB() (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil {
		return 0, fmt.Errorf("measure process %d: %w", p.PID, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0, fmt.Errorf("measure process %d: %w", p.PID, err)
			}
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("measure process %d: it has no memory", p.PID)
}

// procStat reads the state letter, the number of threads and the start time of a process.
func procStat(pid int) (state byte, threads int, start uint64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, 0, err
	}
	// "pid (name) S ...": the name may hold spaces and brackets, so count from the last one.
	end := strings.LastIndexByte(string(b), ')')
	fields := strings.Fields(string(b[end+1:]))
	const threadsField, startField = 20 - 3, 22 - 3 // fields 20 and 22 of proc(5), counted from the state, field 3
	if end < 0 || len(fields) <= startField {
		return 0, 0, 0, errors.New("/proc has an unknown format")
	}
	threads, err = strconv.Atoi(fields[threadsField])
	if err != nil {
		return 0, 0, 0, err
	}
	start, err = strconv.ParseUint(fields[startField], 10, 64)
	return fields[0][0], threads, start, err
}

// bootID names the current boot of this machine.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("the launcher needs Linux's /proc: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// poll calls done until it is true or ctx is over, and reports which.
func poll(ctx context.Context, every time.Duration, done func() bool) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
