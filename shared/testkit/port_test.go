package testkit_test

import (
	"sync"
	"testing"

	"souk/shared/testkit"
)

func TestFreePort_isGivenOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	var given sync.Map
	for range 8 {
		wg.Go(func() {
			for range 100 {
				port, err := testkit.FreePort(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := given.LoadOrStore(port, true); twice {
					t.Errorf("port %d was given twice", port)
				}
			}
		})
	}
	wg.Wait()
}
