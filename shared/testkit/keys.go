package testkit

import (
	"path/filepath"
	"testing"

	"souk/shared/seal"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// KEK gives the test a key-encryption key of its own, for seal.New.
func KEK(t testing.TB) tink.AEAD {
	t.Helper()
	kek, err := seal.FileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}
