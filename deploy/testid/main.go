// Command testid is Souk Test ID: an identity provider for trying out signing in with somebody else, such as Google. It is the
// example server of zitadel/oidc, with people of its own, who are forgotten when it ends. Everybody's password is
// open-sesame-1001:
//
//	dora@id.example     has no account in the shop: the first sign-in opens one
//	alice@souk.example  has one with the same address: the shop asks for its password before it links the two
//	mallory@id.example  says to be bob@souk.example, which nobody has verified
//
// It is for tests and demonstrations on this machine, and nothing else.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

const (
	clientID     = "souk"
	clientSecret = "only-for-tests"
	password     = "open-sesame-1001"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9998", "where to listen; the issuer is http://ADDR/")
	callback := flag.String("callback", "http://127.0.0.1:8080/api/v1/auth/providers/souk-test-id/callback", "where the shop wants browsers back")
	flag.Parse()
	if err := serve(*addr, *callback); err != nil {
		fmt.Fprintln(os.Stderr, "testid:", err)
		os.Exit(1)
	}
}

func serve(addr, callback string) error {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	storage.RegisterClients(storage.WebClient(clientID, clientSecret, callback))
	l, err := net.Listen("tcp", addr) //nolint:noctx // for as long as the process lives
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           exampleop.SetupServer("http://"+addr+"/", storage.NewStorage(people{}), log, false),
		ReadHeaderTimeout: 5 * time.Second,
	}
	log.Info("serving", "issuer", "http://"+addr+"/")
	return server.Serve(l)
}

// people are those who can sign in.
type people struct{}

func all() []*storage.User {
	return []*storage.User{
		{ID: "dora", Username: "dora@id.example", Email: "dora@id.example", EmailVerified: true, FirstName: "Dora", LastName: "Newcomer", Password: password},
		{ID: "alice", Username: "alice@souk.example", Email: "alice@souk.example", EmailVerified: true, FirstName: "Alice", LastName: "Example", Password: password},
		{ID: "mallory", Username: "mallory@id.example", Email: "bob@souk.example", FirstName: "Bob", LastName: "Example", Password: password},
	}
}

func find(is func(*storage.User) bool) *storage.User {
	for _, u := range all() {
		if is(u) {
			return u
		}
	}
	return nil
}

// GetUserByID is part of storage.UserStore.
func (people) GetUserByID(id string) *storage.User {
	return find(func(u *storage.User) bool { return u.ID == id })
}

// GetUserByUsername is part of storage.UserStore.
func (people) GetUserByUsername(name string) *storage.User {
	return find(func(u *storage.User) bool { return u.Username == name })
}

// ExampleClientID is part of storage.UserStore; nobody has it.
func (people) ExampleClientID() string { return "" }
