package seal

import (
	"github.com/tink-crypto/tink-go/v2/prf"
)

// indexBytes is how much of the function's output an index keeps. Two values share it by chance once in 2^64 rows.
const indexBytes = 16

// Index finds rows by a sealed value: it keeps what a keyed function (HMAC-SHA256, a key of its own per column) makes of the
// value. Without the key nobody can try values. Give it the value in the one form in which it is compared.
type Index struct {
	keys *Keys
	name string
}

// NewIndex declares an index of a sealed column. Call it before keys are loaded.
func NewIndex(keys *Keys, table, column string) *Index {
	i := &Index{keys: keys, name: indexes + table + "." + column}
	keys.wanted[i.name] = prf.HMACSHA256PRFKeyTemplate()
	return i
}

// Of is what the index has for text.
func (i *Index) Of(text string) Value {
	s, err := i.keys.set(i.name)
	if err != nil {
		return Value{err: err}
	}
	b, err := s.prf.ComputePrimaryPRF([]byte(text), indexBytes)
	return Value{b, err}
}
