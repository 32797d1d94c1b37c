//go:build !linux

package proc

import (
	"errors"
	"syscall"
)

// attached: only Linux can tie a child's life to ours.
func attached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

var errLinux = errors.New("it takes Linux to keep processes to processors")

func affinity() ([]int, error)     { return nil, errLinux }
func setAffinity(int, []int) error { return errLinux }
