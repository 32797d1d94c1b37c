package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Borrow gives the shop that runs in the usual run directory, if all of it does, as it is and to be left so. Otherwise it
// starts one in a directory of name under .souk, on free ports and without limits on requests, since whoever checks a shop
// asks often and from one address; release takes it down.
func Borrow(ctx context.Context, cfg Config, name string) (shop *Shop, release func(context.Context) error, err error) {
	if err := cfg.complete(); err != nil {
		return nil, nil, err
	}
	if shop, err := Open(cfg); err == nil {
		if running, all := shop.state.alive(); running == all {
			shop.say("in the shop that is up: %s", shop.Gateway)
			return shop, func(context.Context) error { return nil }, nil
		}
	} else if !errors.Is(err, ErrNotRunning) {
		return nil, nil, err
	}
	return OfItsOwn(ctx, cfg, name)
}

// OfItsOwn starts a shop as [Borrow] does when there is none.
func OfItsOwn(ctx context.Context, cfg Config, name string) (shop *Shop, release func(context.Context) error, err error) {
	if err := cfg.complete(); err != nil {
		return nil, nil, err
	}
	cfg.RunDir = filepath.Join(cfg.Root, ".souk", name)
	cfg.Env = func(string) []string { return []string{"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0"} }
	if shop, err = Up(ctx, cfg); err != nil {
		return nil, nil, err
	}
	return shop, func(ctx context.Context) error {
		return errors.Join(shop.Down(ctx), os.RemoveAll(cfg.RunDir))
	}, nil
}
