package postgres

import "database/sql/driver"

// Bytea is a byte slice as one value of a query. A plain []byte that stands right behind a parenthesis is a list of
// numbers to GORM, and becomes as many values as it has bytes.
type Bytea []byte

// Value gives the bytes to the driver.
func (b Bytea) Value() (driver.Value, error) {
	if b == nil {
		return nil, nil
	}
	return []byte(b), nil
}
