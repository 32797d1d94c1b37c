package user

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"souk/shared/fault"

	"golang.org/x/text/unicode/norm"
)

// wrong collects what is wrong with a request, so that all of it can be said at once. The zero value is nothing.
type wrong struct{ fields []fault.Field }

func (w *wrong) add(pointer, detail string) {
	w.fields = append(w.fields, fault.Field{Pointer: pointer, Detail: detail})
}

// err is nil where nothing was wrong.
func (w *wrong) err() error {
	if len(w.fields) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "", "the request has fields that cannot be right").With(w.fields...)
}

// text is s as the shop keeps what people call things: NFC, without space around it, and of at least shortest and at
// most longest characters. The schema has looked at the length of what was sent; this is the length of what is kept.
func (w *wrong) text(pointer, s string, shortest, longest int) string {
	s = normal(s)
	switch n := utf8.RuneCountInString(s); {
	case n < shortest:
		w.add(pointer, "must not be empty")
	case n > longest:
		w.add(pointer, fmt.Sprintf("must have at most %d characters", longest))
	case !printable(s):
		w.add(pointer, "must not have control characters")
	}
	return s
}

func normal(s string) string { return norm.NFC.String(strings.TrimSpace(s)) }

// printable reports whether s can be shown, and stored: PostgreSQL takes no NUL and no broken UTF-8.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// maxEmail is the longest address that mail can be sent to (RFC 5321, with erratum 1690), in bytes.
const maxEmail = 254

// normalEmail is the one form of an e-mail address in which it is kept and compared, and whether it is an address at
// all. The part before the @ is lower-cased too: no provider in use tells Alice@ from alice@, and people type both.
func normalEmail(s string) (string, bool) {
	s = norm.NFC.String(strings.ToLower(normal(s)))
	parsed, err := mail.ParseAddress(s)
	// Only the bare address: no name before it, no quotes, and a domain that has a dot and is no bracketed number.
	ok := err == nil && parsed.Address == s && len(s) <= maxEmail && printable(s)
	if ok {
		_, domain, _ := strings.Cut(s, "@")
		ok = strings.Contains(domain, ".") && !strings.ContainsAny(s, " \"[]<>()")
	}
	return s, ok
}
