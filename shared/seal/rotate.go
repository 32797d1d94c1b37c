package seal

import (
	"context"
	"fmt"
	"time"

	"souk/shared/postgres"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"gorm.io/gorm"
)

// Rotate gives every domain and every letterbox a new key, which seals from now on. First it can only open, for as long as
// the instances take to notice; then it is made the primary one. Values stay as they are: see Rewrap. It gives the number of
// keysets.
func (k *Keys) Rotate(ctx context.Context) (int, error) {
	fresh := map[string]uint32{}
	for name, template := range k.wanted {
		if kind(name) == indexes {
			continue
		}
		err := k.change(ctx, name, func(m *keyset.Manager) (err error) {
			fresh[name], err = m.Add(template)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("add a key to %s: %w", name, err)
		}
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err() // the keys are there and do nothing
	case <-time.After(k.settle):
	}
	for name, id := range fresh {
		if err := k.change(ctx, name, func(m *keyset.Manager) error { return m.SetPrimary(id) }); err != nil {
			return 0, fmt.Errorf("make a key of %s the primary one: %w", name, err)
		}
	}
	return len(fresh), k.look(ctx)
}

// change changes a keyset, in turn with whoever else does.
func (k *Keys) change(ctx context.Context, name string, do func(*keyset.Manager) error) error {
	return postgres.InTx(ctx, k.db, func(tx *gorm.DB) error {
		var r row
		if err := tx.Raw("SELECT name, wrapped, version FROM keyset WHERE name = ? FOR UPDATE", name).Scan(&r).Error; err != nil {
			return err
		}
		handle, err := k.unwrap(r)
		if err != nil {
			return err
		}
		m := keyset.NewManagerFromHandle(handle)
		if err := do(m); err != nil {
			return err
		}
		if handle, err = m.Handle(); err != nil {
			return err
		}
		wrapped, err := k.wrap(name, handle)
		if err != nil {
			return err
		}
		return tx.Exec("UPDATE keyset SET wrapped = ?, version = version + 1, changed_at = now() WHERE name = ?", postgres.Bytea(wrapped), name).Error
	})
}

// Rewrap wraps every keyset anew with the first of the key-encryption keys, and seals every value anew that is not sealed
// with its domain's primary key. Others may read and write meanwhile. It gives the number of values.
func (k *Keys) Rewrap(ctx context.Context) (int, error) {
	for name := range k.wanted {
		if err := k.change(ctx, name, func(*keyset.Manager) error { return nil }); err != nil {
			return 0, fmt.Errorf("wrap %s anew: %w", name, err)
		}
	}
	if err := k.look(ctx); err != nil {
		return 0, err
	}
	done := 0
	for _, p := range k.columns {
		if p.Brief {
			continue
		}
		n, err := p.rewrap(ctx)
		done += n
		if err != nil {
			return done, fmt.Errorf("rewrap %s.%s: %w", p.Table, p.Column, err)
		}
	}
	return done, nil
}

func (p *place) rewrap(ctx context.Context) (done int, err error) {
	err = p.each(ctx, true, func(v stored) error {
		plain, err := p.open(ctx, v.Row, v.Sealed)
		if err != nil {
			return fmt.Errorf("row %s: %w", v.Row, err)
		}
		// A value that was changed meanwhile is sealed with the primary key already.
		res := p.keys.db.WithContext(ctx).Exec("UPDATE "+p.Table+" SET "+p.Column+" = ? WHERE "+p.Key+" = ? AND "+p.Column+" = ?",
			p.seal(v.Row, plain), v.Row, postgres.Bytea(v.Sealed))
		done += int(res.RowsAffected)
		return res.Error
	})
	return done, err
}

// stored is a sealed value in the database.
type stored struct {
	Row    string
	Sealed []byte
}

// atOnce is how many values are read in one query.
const atOnce = 500

// each calls do with every value of the column, or every stale one, which the primary key has not sealed.
func (p *place) each(ctx context.Context, stale bool, do func(stored) error) error {
	s, err := p.keys.set(p.Domain)
	if err != nil {
		return err
	}
	for after := ""; ; {
		query, args := "SELECT "+p.Key+"::text AS row, "+p.Column+" AS sealed FROM "+p.Table+" WHERE "+p.Column+" IS NOT NULL", []any{}
		if stale {
			query, args = query+" AND substr("+p.Column+", 1, ?) <> ?", append(args, prefixBytes, postgres.Bytea(s.prefix()))
		}
		if after != "" {
			query, args = query+" AND "+p.Key+" > ?", append(args, after)
		}
		var values []stored
		err := p.keys.db.WithContext(ctx).Raw(query+" ORDER BY "+p.Key+" LIMIT ?", append(args, atOnce)...).Scan(&values).Error
		if err != nil || len(values) == 0 {
			return err
		}
		for _, v := range values {
			if err := do(v); err != nil {
				return err
			}
		}
		after = values[len(values)-1].Row
	}
}

// Health is what Check finds.
type Health struct {
	Keysets int
	Values  int
	Stale   int      // sealed with a key that is not the primary one any more
	Broken  []string // table.column and row of what does not open
}

// Check opens every value. Returns an error where it could not look.
func (k *Keys) Check(ctx context.Context) (Health, error) {
	h := Health{Keysets: len(k.wanted)}
	for _, p := range k.columns {
		if p.Brief {
			continue
		}
		s, err := k.set(p.Domain)
		if err != nil {
			return h, err
		}
		err = p.each(ctx, false, func(v stored) error {
			h.Values++
			if id, _ := keyID(v.Sealed); id != s.primary {
				h.Stale++
			}
			if _, err := p.open(ctx, v.Row, v.Sealed); err != nil {
				h.Broken = append(h.Broken, p.Table+"."+p.Column+" "+v.Row)
			}
			return ctx.Err()
		})
		if err != nil {
			return h, fmt.Errorf("check %s.%s: %w", p.Table, p.Column, err)
		}
	}
	return h, nil
}
