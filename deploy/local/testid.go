package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// testID is the name of Souk Test ID, an identity provider of somebody else, for the shop to sign people in with: see
// souk/deploy/testid.
const testID = "testid"

// testIDPort is where it is wanted.
const testIDPort = 9998

// startTestID starts Souk Test ID.
func (s *Shop) startTestID(ctx context.Context) error {
	if s.state.TestID.Port == 0 {
		return nil
	}
	begin := time.Now()
	issuer := s.testIssuer()
	cmd := exec.Command(s.binary(testID), "-addr", address(s.state.TestID.Port), //nolint:noctx // it lives until it is stopped
		"-callback", s.Gateway+"/api/v1/auth/providers/souk-test-id/callback")
	p, err := s.launch(testID, cmd)
	if err != nil {
		return err
	}
	if err := s.record(func(st *state) error { st.TestID.Process = p; return nil }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if !poll(ctx, 25*time.Millisecond, func() bool {
		status, _, err := get(ctx, issuer+".well-known/openid-configuration", "")
		return !p.Alive() || err == nil && status == http.StatusOK
	}) || !p.Alive() {
		return fmt.Errorf("souk test id does not answer; its log ends:\n%s", tail(s.LogPath(testID)))
	}
	s.say("%-14s ready on %s after %s (pid %d)", testID, address(s.state.TestID.Port), since(begin), p.PID)
	return nil
}

func (s *Shop) testIssuer() string {
	return "http://127.0.0.1:" + strconv.Itoa(s.state.TestID.Port) + "/"
}

// TestID is the issuer of the shop's Souk Test ID; empty if there is none.
func (s *Shop) TestID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.TestID.Port == 0 {
		return ""
	}
	return s.testIssuer()
}

// peopleEnv is what the user service knows of where it is and of other providers.
func (s *Shop) peopleEnv() []string {
	env := []string{"PUBLIC_URL=" + s.Gateway}
	if s.state.TestID.Port == 0 {
		return env
	}
	b, err := json.Marshal([]map[string]string{{
		"name": "souk-test-id", "label": "Souk Test ID", "issuer": s.testIssuer(), "client_id": "souk", "client_secret": "only-for-tests",
	}})
	if err != nil {
		panic(err) // text is JSON
	}
	return append(env, "OIDC_PROVIDERS="+string(b))
}

func (s *Shop) testIDSource() string { return filepath.Join("souk", "deploy", testID) }
