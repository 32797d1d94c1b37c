package local

import "syscall"

// attached ties a child's life to ours. The kernel sends the signal when the thread that made the child ends, so
// that thread must live as long as the child: see spawn.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
