//go:build !linux

package local

import "syscall"

// attached: only Linux can tie a child's life to ours.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
