//go:build !unix

package transport

// peek takes every connection for a good one. What is sent on one that is not is sent again where that is harmless.
func (l *line) peek(uintptr) bool {
	l.silent = true
	return true
}
