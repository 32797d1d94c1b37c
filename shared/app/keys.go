package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"souk/shared/seal"

	"gorm.io/gorm"
)

// Keys are the keys that seal what is in db, the service's database, wrapped by the key in KEK_FILE or else in a file of
// STATE_DIR. Declare on them what is sealed, and load them; while the service runs they keep up with changes.
func (a *App) Keys(db *gorm.DB) (*seal.Keys, error) {
	path := a.Config.KEKFile
	switch {
	case path != "":
	case a.Config.StateDir != "":
		path = filepath.Join(a.Config.StateDir, "kek")
	default:
		return nil, errors.New("KEK_FILE is not set, and STATE_DIR neither: there is no place for the key-encryption key")
	}
	kek, err := seal.FileKEK(path)
	if err != nil {
		return nil, err
	}
	keys := seal.New(a.Name, db, kek)
	a.Go("keys", keys.Run(a.Log))
	return keys, nil
}

// Sealed is the command keys, of a service that keeps something sealed: keys rotate, keys rewrap and keys check do what
// shared/seal says, while the service runs. open opens the service's database, and declare declares what is sealed there.
// Check ends with status 1 if something does not open, and with 3 if something is yet to be rewrapped.
func Sealed(open func(context.Context, *App) (*gorm.DB, error), declare func(*seal.Keys)) Command {
	return Command{Name: "keys", Run: func(ctx context.Context, a *App) error {
		do := map[string]func(context.Context, *App, *seal.Keys) error{"rotate": rotate, "rewrap": rewrap, "check": check}
		if len(a.Args) != 1 || do[a.Args[0]] == nil {
			return &ExitError{2, errors.New("say what: keys rotate, keys rewrap or keys check")}
		}
		db, err := open(ctx, a)
		if err != nil {
			return err
		}
		keys, err := a.Keys(db)
		if err != nil {
			return err
		}
		declare(keys)
		if err := keys.Load(ctx); err != nil {
			return err
		}
		return do[a.Args[0]](ctx, a, keys)
	}}
}

func rotate(ctx context.Context, a *App, keys *seal.Keys) error {
	n, err := keys.Rotate(ctx)
	if err == nil {
		fmt.Fprintf(a.Out, "keys: service=%s rotated=%d\n", a.Name, n)
	}
	return err
}

func rewrap(ctx context.Context, a *App, keys *seal.Keys) error {
	n, err := keys.Rewrap(ctx)
	fmt.Fprintf(a.Out, "keys: service=%s rewrapped=%d\n", a.Name, n)
	return err
}

func check(ctx context.Context, a *App, keys *seal.Keys) error {
	h, err := keys.Check(ctx)
	if err != nil {
		return err
	}
	for _, where := range h.Broken {
		fmt.Fprintf(a.Out, "does not open: %s\n", where)
	}
	fmt.Fprintf(a.Out, "keys: service=%s keysets=%d values=%d stale=%d broken=%d\n", a.Name, h.Keysets, h.Values, h.Stale, len(h.Broken))
	switch {
	case len(h.Broken) > 0:
		return &ExitError{1, errors.New("some values do not open")}
	case h.Stale > 0:
		return &ExitError{3, errors.New("some values are sealed with an old key: run keys rewrap")}
	}
	return nil
}
