package proc

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attached ties a child's life to ours. The kernel sends the signal when the thread that made the child ends, so that thread
// must live as long as the child: see start.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func affinity() (list []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	for n := 0; len(list) < set.Count(); n++ {
		if set.IsSet(n) {
			list = append(list, n)
		}
	}
	return list, nil
}

// setAffinity keeps a thread to processors; 0 is the calling thread.
func setAffinity(thread int, on []int) error {
	var set unix.CPUSet
	for _, n := range on {
		set.Set(n)
	}
	return unix.SchedSetaffinity(thread, &set)
}
