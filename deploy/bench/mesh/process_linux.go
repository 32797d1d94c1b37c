package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processors are those that this process may run on.
func processors() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read which processors may be used: %w", err)
	}
	var list []int
	for n := 0; len(list) < set.Count(); n++ {
		if set.IsSet(n) {
			list = append(list, n)
		}
	}
	return list, nil
}

// startOn starts cmd on the given processors; none means all. A child inherits the processors of the thread that makes it,
// and Go's own count of them comes from there, too.
func startOn(cmd *exec.Cmd, on []int) error {
	if len(on) == 0 {
		return cmd.Start()
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := unix.SchedSetaffinity(0, setOf(on))
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// move puts a process and its children, with every thread they have, on the given processors.
func move(pid int, on []int) error {
	for _, p := range family(pid) {
		threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p), "task", "*"))
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, setOf(on)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %d: %w", p, err)
			}
		}
	}
	return nil
}

func setOf(list []int) *unix.CPUSet {
	var set unix.CPUSet
	for _, n := range list {
		set.Set(n)
	}
	return &set
}

// family is a process and its children.
func family(pid int) []int {
	list := []int{pid}
	id := strconv.Itoa(pid)
	b, _ := os.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
	for child := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(child); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// cpu is the processor time that a process and its children have used, in all threads they have.
func cpu(pid int) (time.Duration, error) {
	var total time.Duration
	for _, p := range family(pid) {
		threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p), "task", "*", "schedstat"))
		if err != nil {
			return 0, err
		}
		for _, t := range threads {
			b, err := os.ReadFile(t)
			if errors.Is(err, os.ErrNotExist) {
				continue // the thread has just ended
			}
			if err != nil {
				return 0, err
			}
			used, _, _ := strings.Cut(string(b), " ")
			n, err := strconv.ParseInt(used, 10, 64) // in nanoseconds; stat has hundredths of a second
			if err != nil {
				return 0, err
			}
			total += time.Duration(n)
		}
	}
	return total, nil
}

// rss is the memory of a process and its children that is in RAM, in KiB.
func rss(pid int) (float64, error) {
	var total float64
	for _, p := range family(pid) {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p), "statm"))
		if err != nil {
			return 0, err
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
		if err != nil {
			return 0, err
		}
		total += pages * float64(os.Getpagesize()) / 1024
	}
	return total, nil
}
