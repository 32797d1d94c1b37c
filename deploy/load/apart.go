package main

import (
	"fmt"
	"os"
	"runtime"

	"souk/deploy/proc"
)

// apart keeps customers and shop on processors of their own: the first is the customers', the others are the shop's. nil has
// them share whatever there is.
type apart struct{ first, others []int }

// split is nil if there are no two processors, or none can be chosen.
func split() *apart {
	all, err := proc.Processors()
	if err != nil || len(all) < 2 {
		return nil
	}
	return &apart{first: all[:1], others: all[1:]}
}

// shops is how many processors the shop has.
func (a *apart) shops() int {
	if a == nil {
		return runtime.NumCPU()
	}
	return len(a.others)
}

// shop has what is started from now on run where the shop does.
func (a *apart) shop() error {
	if a == nil {
		return nil
	}
	return proc.Move(os.Getpid(), a.others)
}

// customers has this process, and what it starts from now on, run where the customers do.
func (a *apart) customers() error {
	if a == nil {
		return nil
	}
	runtime.GOMAXPROCS(len(a.first))
	return proc.Move(os.Getpid(), a.first)
}

// String is part of fmt.Stringer.
func (a *apart) String() string {
	if a == nil {
		return "customers and shop share the processors"
	}
	return fmt.Sprintf("one processor is the customers', %d the shop's", a.shops())
}
