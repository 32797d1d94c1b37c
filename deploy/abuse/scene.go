package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"souk/deploy/local"

	"github.com/google/uuid"
)

// What is planted in the shop, and must be found nowhere but with its owner.
const (
	plantedPassword = "Tr0ub4dor-planted-&3" //nolint:gosec // it opens nothing but a shop that lives for a minute
	plantedName     = "Planted Person"
	plantedStreet   = "17 Planted Street"
	plantedPhone    = "+41 61 555 99 17"
	plantedNote     = "for planted grandmother"
	plantedIBAN     = "CH93 0076 2011 6238 5295 7"
	plantedCard     = "4242424242424242"
	plantedQuery    = "planted-in-a-query"
)

// scene is a shop with people in it.
type scene struct {
	shop   *local.Shop
	dir    string
	traces *traces

	victim, thief, admin *person
	product              string // that is sold
	order, payment       string // the victim's, paid
	topUp, address       string // the victim's
	unpaid               string // an order of the victim's that is not paid
}

// person is somebody who has signed in.
type person struct {
	id, email, password, token, refresh string
}

// traces takes what the services send as traces.
type traces struct {
	*httptest.Server
	mu  sync.Mutex
	all bytes.Buffer
}

func newTraces() *traces {
	t := new(traces)
	t.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		t.mu.Lock()
		t.all.Write(b)
		t.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	return t
}

func (t *traces) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.all.Bytes())
}

// open starts a shop whose limits on rates are off, so that no attack is refused for coming too fast, and has the victim
// buy something.
func open(ctx context.Context) (s *scene, err error) {
	dir, err := os.MkdirTemp("", "souk-abuse-")
	if err != nil {
		return nil, err
	}
	s = &scene{dir: dir, traces: newTraces()}
	s.shop, err = local.Up(ctx, local.Config{RunDir: dir, Log: os.Stderr, Env: func(string) []string {
		return []string{"RATE_CLIENT=0", "RATE_USER=0", "RATE_LOGIN=0", "LOG_LEVEL=debug", "OTEL_EXPORTER_OTLP_ENDPOINT=" + s.traces.URL}
	}})
	if err != nil {
		return nil, err
	}
	if err := s.people(ctx); err != nil {
		return nil, errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *scene) close(ctx context.Context) error {
	err := s.shop.Down(ctx)
	s.traces.Close()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// people fills the scene: the victim walks through the shop, and leaves traces of all kinds.
func (s *scene) people(ctx context.Context) (err error) {
	s.admin = &person{email: local.Admin, password: local.SeedPassword()}
	if err := s.signIn(ctx, s.admin); err != nil {
		return err
	}
	if s.victim, err = s.register(ctx, "planted-"+uuid.NewString()+"@souk.example"); err != nil {
		return err
	}
	if s.thief, err = s.register(ctx, "thief-"+uuid.NewString()+"@souk.example"); err != nil {
		return err
	}
	steps := []struct {
		into *string
		request
	}{
		{&s.address, request{method: "POST", path: "/api/v1/users/me/addresses", body: `{"label":"Planted Home","recipient":"` + plantedName + `","line1":"` + plantedStreet +
			`","city":"Plantedville","postal_code":"PL4NT","country":"CH","phone":"` + plantedPhone + `","default":true}`}},
		{&s.topUp, request{method: "POST", path: "/api/v1/wallets/USD/top-ups", body: `{"amount":{"amount":5000000,"currency":"USD"},"card":{"number":"` + plantedCard +
			`","exp_month":12,"exp_year":2040,"cvc":"987"}}`}},
	}
	var shelf struct{ Items []struct{ ID string } }
	if err := s.as(s.victim).get(ctx, "/api/v1/products?currency=USD&sort=price&page_size=1&q="+plantedQuery+"-1", nil); err != nil {
		return err
	}
	if err := s.as(s.victim).get(ctx, "/api/v1/products?currency=USD&sort=price&page_size=1", &shelf); err != nil || len(shelf.Items) == 0 {
		return fmt.Errorf("the shop sells nothing: %w", err)
	}
	s.product = shelf.Items[0].ID
	line := `{"lines":[{"product_id":"` + s.product + `","quantity":1}]`
	steps = append(steps, []struct {
		into *string
		request
	}{
		{&s.order, request{method: "POST", path: "/api/v1/orders", body: line + `,"note":"` + plantedNote + `","payout_reference":"` + plantedIBAN + `"}`}},
		{&s.unpaid, request{method: "POST", path: "/api/v1/orders", body: line + `}`}},
	}...)
	for _, step := range steps {
		step.token = s.victim.token
		a := s.send(ctx, step.request)
		if *step.into = a.field("id"); a.status != http.StatusCreated {
			return fmt.Errorf("%s %s: %s", step.method, step.path, a)
		}
	}
	a := s.send(ctx, request{method: "POST", path: "/api/v1/orders/" + s.order + "/pay", token: s.victim.token})
	if s.payment = a.field("payment_id"); a.status != http.StatusOK {
		return fmt.Errorf("pay: %s", a)
	}
	return nil
}

func (s *scene) register(ctx context.Context, email string) (*person, error) {
	p := &person{email: email, password: plantedPassword}
	body := `{"email":"` + email + `","password":"` + p.password + `","display_name":"` + plantedName + `"}`
	if a := s.send(ctx, request{method: "POST", path: "/api/v1/auth/register", body: body}); a.status != http.StatusCreated {
		return nil, fmt.Errorf("register: %s", a)
	}
	return p, s.signIn(ctx, p)
}

// login is a request to sign in.
func login(email, password string) request {
	return request{method: "POST", path: "/api/v1/auth/login", body: `{"email":"` + email + `","password":"` + password + `"}`}
}

func (s *scene) signIn(ctx context.Context, p *person) error {
	a := s.send(ctx, login(p.email, p.password))
	var t struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		User         struct{ ID string }
	}
	if err := json.Unmarshal(a.body, &t); err != nil || a.status != http.StatusOK {
		return fmt.Errorf("sign in: %s", a)
	}
	p.id, p.token, p.refresh = t.User.ID, t.AccessToken, t.RefreshToken
	return nil
}

// visitor is somebody who only looks.
type visitor struct {
	*scene
	token string
}

func (s *scene) as(p *person) visitor { return visitor{s, p.token} }

func (v visitor) get(ctx context.Context, path string, into any) error {
	a := v.send(ctx, request{method: "GET", path: path, token: v.token})
	if a.status != http.StatusOK {
		return fmt.Errorf("get %s: %s", path, a)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(a.body, into)
}

// request is what is sent, byte for byte: no client of ours tidies it up.
type request struct {
	method, path, token, body string
	header                    []string // whole lines
}

func (r request) String() string {
	text := r.method + " " + r.path
	for _, h := range r.header {
		text += " [" + h + "]"
	}
	if r.body != "" {
		text += " " + hide(r.body)
	}
	return text
}

// hide keeps what is planted out of what we print ourselves.
func hide(text string) string {
	return strings.NewReplacer(plantedPassword, "***", plantedCard, "***").Replace(text)
}

// answer is what came back. A zero status is none.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
	took   time.Duration
}

func (a answer) String() string {
	switch {
	case a.err != nil:
		return "no answer: " + a.err.Error()
	case a.field("code") != "":
		return fmt.Sprintf("%d %s", a.status, a.field("code"))
	}
	return fmt.Sprintf("%d, %d bytes", a.status, len(a.body))
}

// field is a text of the answer's JSON.
func (a answer) field(name string) string {
	var m map[string]any
	if json.Unmarshal(a.body, &m) != nil {
		return ""
	}
	text, _ := m[name].(string)
	return text
}

// answerTime is more than the shop takes for anything.
const answerTime = 20 * time.Second

// send sends r to the gateway as it stands.
func (s *scene) send(ctx context.Context, r request) answer { return sendTo(ctx, gatewayOf(s), r) }

func gatewayOf(s *scene) string { return strings.TrimPrefix(s.shop.Gateway, "http://") }

func sendTo(ctx context.Context, addr string, r request) answer {
	lines := []string{r.method + " " + r.path + " HTTP/1.1"}
	if !slices.ContainsFunc(r.header, func(h string) bool { return strings.HasPrefix(h, "Host:") }) {
		lines = append(lines, "Host: "+addr)
	}
	lines = append(lines, "Connection: close")
	if r.token != "" {
		lines = append(lines, "Authorization: Bearer "+r.token)
	}
	if r.body != "" || r.method == http.MethodPost || r.method == http.MethodPut {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(r.body)), "Content-Type: application/json", "Idempotency-Key: "+uuid.NewString())
	}
	return raw(ctx, addr, strings.Join(append(lines, r.header...), "\r\n")+"\r\n\r\n"+r.body)
}

// raw sends bytes and reads one answer.
func raw(ctx context.Context, addr, text string) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return answer{err: err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(began.Add(answerTime))
	sent := make(chan struct{})
	go func() { // an answer may come before all is sent
		defer close(sent)
		_, _ = io.WriteString(conn, text)
	}()
	defer func() { _ = conn.Close(); <-sent }()
	return readAnswer(bufio.NewReader(conn))
}

func readAnswer(from *bufio.Reader) answer {
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return answer{status: resp.StatusCode, header: resp.Header, body: body}
}

// meets is an attack that is one request, and is refused by one of the statuses.
func meets(name string, make func(*scene) request, statuses ...int) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		r := make(s)
		a := s.send(ctx, r)
		return outcome{r.String(), a.String(), slices.Contains(statuses, a.status)}
	}}
}

// within asks until done is true, or some seconds are over.
func within(ctx context.Context, seconds int, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// logs are all that the services have logged.
func (s *scene) logs() (string, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "logs", "*.log"))
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		all.Write(b)
	}
	return all.String(), nil
}
