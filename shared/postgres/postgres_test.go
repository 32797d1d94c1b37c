package postgres_test

import (
	"testing"

	"souk/shared/testkit"

	"github.com/google/uuid"
)

func TestOpen_readsTransactionIDsIntoFieldsNamedGID(t *testing.T) {
	t.Parallel()
	want := uuid.New()
	var row struct{ GID, PayGID, UserID uuid.UUID }
	err := testkit.Postgres(t).Raw("SELECT ?::uuid AS gid, ?::uuid AS pay_gid, ?::uuid AS user_id", want, want, want).Scan(&row).Error
	if err != nil || row.GID != want || row.PayGID != want || row.UserID != want {
		t.Errorf("got %v, %v, want %s in every field", row, err, want)
	}
}
