package user

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"sort"
	"strings"

	"souk/shared/fault"
)

// breached holds, in order, the first five bytes of SHA-256 of each of 36707 passwords of ten and more characters that have
// leaked often, in lower case: those that are tried first. They come from the published lists of the sktorrent leak, of
// leaked passwords of more than eight characters, and of Django. Five bytes of each are a quarter of the text, are no list
// of passwords in a binary, and take a password for another once in thirty million.
//
//go:embed breached.bin
var breached []byte

const breachedBytes = 5

// isBreached reports whether password is one that is tried first, in whatever case.
func isBreached(password string) bool {
	sum := sha256.Sum256([]byte(strings.ToLower(password)))
	want := sum[:breachedBytes]
	at := func(i int) []byte { return breached[i*breachedBytes : (i+1)*breachedBytes] }
	n := len(breached) / breachedBytes
	i := sort.Search(n, func(i int) bool { return bytes.Compare(at(i), want) >= 0 })
	return i < n && bytes.Equal(at(i), want)
}

// goodPassword refuses a new password that anybody would try: Invalid, code breached_password.
func goodPassword(password, email string) error {
	if isBreached(password) || strings.EqualFold(password, email) {
		return fault.New(fault.Invalid, "breached_password", "this password is among those that are tried first; take another")
	}
	return nil
}
