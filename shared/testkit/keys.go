package testkit

import (
	"path/filepath"
	"testing"

	"souk/shared/seal"

	"gorm.io/gorm"
)

// Keys gives the test the keys of service in db, wrapped by a key-encryption key of their own. Whoever declares what is
// sealed loads them.
func Keys(t testing.TB, service string, db *gorm.DB) *seal.Keys {
	t.Helper()
	kek, err := seal.FileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	return seal.New(service, db, kek)
}
