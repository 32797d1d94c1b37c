package testkit_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"souk/shared/testkit"
)

func TestConsul_hasALeaderAndACertificateAuthority(t *testing.T) {
	t.Parallel()
	addr := testkit.Consul(t)
	for _, path := range []string{"/v1/status/leader", "/v1/agent/connect/ca/roots"} {
		// The authority is made moments after the election.
		testkit.Eventually(t, 20*time.Second, func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var body any
			return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&body) == nil && body != ""
		})
	}
}
