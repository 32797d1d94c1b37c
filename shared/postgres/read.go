package postgres

import (
	"context"

	"gorm.io/gorm"
)

// Read runs do outside a transaction: each of its queries sees what is committed when it starts. It is for a single
// SELECT, which a transaction would only make slower by two round trips. The errors of the driver come back as from InTx.
func Read(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	return asFault(ctx, do(db.WithContext(ctx)))
}
