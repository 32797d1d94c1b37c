package testkit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"souk/shared/contract"
	"souk/shared/httpapi"
	"souk/shared/identity"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Service is the HTTP server of one service under test, and the people who call it.
type Service struct {
	*httpapi.Server
	Log *slog.Logger
	key *ecdsa.PrivateKey
}

// NewService makes a server that trusts the tokens of Service.Token. Register the service's routes on it.
func NewService(t testing.TB, name string) *Service {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return &Service{key: key, Log: log, Server: httpapi.New(httpapi.Config{
		Service: name, Version: "test", Log: log, Metrics: prometheus.NewRegistry(),
		Verifier: identity.NewVerifier(func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, time.Now),
	})}
}

// testLog gives log lines to the test, which shows them when it fails. A line that comes after the test has ended, from
// a loop that is still stopping, is dropped.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// Token is an access token of user with roles.
func (s *Service) Token(t testing.TB, user uuid.UUID, roles ...identity.Role) string {
	t.Helper()
	return s.TokenOf(t, identity.Principal{UserID: user, Roles: roles, SessionID: uuid.New()})
}

// TokenOf is an access token of p.
func (s *Service) TokenOf(t testing.TB, p identity.Principal) string {
	t.Helper()
	token, err := identity.Sign(p, s.key, "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Request is one HTTP request to a service under test. Token and Key may be empty. A Body that is a string is sent as
// it stands, anything else as JSON.
type Request struct {
	Method, Path string
	Token        string
	Key          string // Idempotency-Key
	Body         any
	Header       http.Header
}

// Do sends the request to the service and returns the answer, with its body read.
func (s *Service) Do(t testing.TB, r Request) *Answer {
	t.Helper()
	var body io.Reader = http.NoBody
	switch b := r.Body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(encoded)
	}
	req := httptest.NewRequestWithContext(t.Context(), r.Method, r.Path, body)
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if r.Body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if r.Key != "" {
		req.Header.Set(contract.IdempotencyKey, r.Key)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	return &Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Into decodes the body into v, after checking the status; it ends the test when either is not as wanted.
func (a *Answer) Into(t testing.TB, status int, v any) {
	t.Helper()
	if a.Status != status {
		t.Fatalf("got status %d %s, want %d", a.Status, a.Body, status)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("decode %s: %v", a.Body, err)
	}
}

// Problem checks that the answer is a problem with that status and code.
func (a *Answer) Problem(t testing.TB, status int, code string) {
	t.Helper()
	var p struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(a.Body, &p); err != nil || a.Status != status || p.Status != status || p.Code != code ||
		a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got status %d %s %s, want problem %d %s", a.Status, a.Header.Get("Content-Type"), a.Body, status, code)
	}
}
