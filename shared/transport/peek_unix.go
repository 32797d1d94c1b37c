//go:build unix

package transport

import "syscall"

// peek looks whether there is anything to read, a byte or the end, without reading it.
func (l *line) peek(fd uintptr) bool {
	_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	l.silent = err == syscall.EAGAIN
	return true
}
