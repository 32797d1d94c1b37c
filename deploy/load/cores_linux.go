package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// apart keeps customers and shop on processors of their own: the first is the customers', the others are the shop's. nil has
// them share whatever there is.
type apart struct{ first, others unix.CPUSet }

// split is nil if there are no two processors.
func split() *apart {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return nil
	}
	a := &apart{others: all}
	for cpu := 0; ; cpu++ {
		if all.IsSet(cpu) {
			a.first.Set(cpu)
			a.others.Clear(cpu)
			return a
		}
	}
}

// shops is how many processors the shop has.
func (a *apart) shops() int {
	if a == nil {
		return runtime.NumCPU()
	}
	return a.others.Count()
}

// shop has what is started from now on run where the shop does.
func (a *apart) shop() error {
	if a == nil {
		return nil
	}
	return move(&a.others)
}

// customers has this process, and what it starts from now on, run where the customers do.
func (a *apart) customers() error {
	if a == nil {
		return nil
	}
	runtime.GOMAXPROCS(a.first.Count())
	return move(&a.first)
}

// move moves all threads of this process. A new one, or a new process, is where the thread is that makes it.
func move(to *unix.CPUSet) error {
	for range 2 { // a thread that was made meanwhile is there at the second look
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, to); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("move thread %d: %w", id, err)
			}
		}
	}
	return nil
}

// String is part of fmt.Stringer.
func (a *apart) String() string {
	if a == nil {
		return "customers and shop share the processors"
	}
	return fmt.Sprintf("one processor is the customers', %d the shop's", a.shops())
}
