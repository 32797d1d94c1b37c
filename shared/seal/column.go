package seal

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
)

// Place says where a sealed column is.
type Place struct {
	Domain string // whose keys seal it: what is leaked together, and rotated together
	Table  string
	Column string
	Key    string // the column that names the row, a uuid or a text; empty is "id"
	Brief  bool   // its rows do not live long: keys rewrap leaves them alone
}

// place is where a column is, among which keys.
type place struct {
	Place
	keys *Keys
	ad   string // all of the associated data but the row
}

// Column is a column that is sealed in the database. T is what is in it: a string and bytes are taken as they are,
// anything else as JSON. It is safe for concurrent use.
type Column[T any] struct{ place }

// NewColumn declares a sealed column. Call it before keys are loaded.
func NewColumn[T any](keys *Keys, at Place) *Column[T] {
	if at.Key == "" {
		at.Key = "id"
	}
	p := place{Place: at, keys: keys, ad: keys.service + "|" + at.Table + "|" + at.Column + "|"}
	keys.wanted[at.Domain] = aead.AES256GCMKeyTemplate()
	keys.columns = append(keys.columns, p)
	return &Column[T]{p}
}

// Value is a sealed value, or an index of one, on its way into a query. What went wrong in making it is the query's error.
type Value struct {
	bytes []byte
	err   error
}

// Value is part of driver.Valuer.
func (v Value) Value() (driver.Value, error) { return v.bytes, v.err }

// Bytes are for elsewhere than a query.
func (v Value) Bytes() ([]byte, error) { return v.bytes, v.err }

// Seal seals what goes into the column of row.
func (c *Column[T]) Seal(row string, content T) Value {
	plain, err := encode(content)
	if err != nil {
		return Value{err: fmt.Errorf("seal %s%s: %w", c.ad, row, err)}
	}
	return c.seal(row, plain)
}

// Open gives what is sealed in the column of row. Its error is Internal: the value was sealed elsewhere, or was tampered
// with, or the keys are not those of this database.
func (c *Column[T]) Open(ctx context.Context, row string, sealed []byte) (content T, err error) {
	plain, err := c.open(ctx, row, sealed)
	if err == nil {
		err = decode(plain, &content)
	}
	if err != nil {
		return content, fmt.Errorf("open %s%s: %w", c.ad, row, err)
	}
	return content, nil
}

func (p *place) seal(row string, plain []byte) Value {
	s, err := p.keys.set(p.Domain)
	if err != nil {
		return Value{err: err}
	}
	sealed, err := s.aead.Encrypt(plain, []byte(p.ad+row))
	return Value{sealed, err}
}

// open opens with the keys we have, and, if it was not sealed with one of them, with those that there are.
func (p *place) open(ctx context.Context, row string, sealed []byte) ([]byte, error) {
	s, err := p.keys.set(p.Domain)
	if err != nil {
		return nil, err
	}
	if id, ok := keyID(sealed); ok && !s.ids[id] {
		if s, err = p.keys.newer(ctx, p.Domain); err != nil {
			return nil, err
		}
	}
	return s.aead.Decrypt(sealed, []byte(p.ad+row))
}

// newer looks for keys that we have not seen yet.
func (k *Keys) newer(ctx context.Context, name string) (*set, error) {
	ctx, cancel := context.WithTimeout(ctx, missTime)
	defer cancel()
	if err := k.look(ctx); err != nil {
		return nil, err
	}
	return k.set(name)
}

// prefixBytes is how long Tink's prefix is: a 1, and the id of the key.
const prefixBytes = 5

// keyID is the id of the key that something was sealed with.
func keyID(sealed []byte) (uint32, bool) {
	if len(sealed) < prefixBytes || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:prefixBytes]), true
}

// prefix is what a value begins with that was sealed with the set's primary key.
func (s *set) prefix() []byte { return binary.BigEndian.AppendUint32([]byte{1}, s.primary) }

func encode(content any) ([]byte, error) {
	switch c := content.(type) {
	case string:
		return []byte(c), nil
	case []byte:
		return c, nil
	}
	return json.Marshal(content)
}

func decode(plain []byte, content any) error {
	switch c := content.(type) {
	case *string:
		*c = string(plain)
		return nil
	case *[]byte:
		*c = slices.Clip(plain)
		return nil
	}
	return json.Unmarshal(plain, content)
}
