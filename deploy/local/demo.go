package local

import "context"

// Demo brings the shop up.
func Demo(ctx context.Context, cfg Config) error {
	_, err := Up(ctx, cfg)
	return err
}
