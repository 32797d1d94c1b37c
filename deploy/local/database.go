package local

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/jackc/pgx/v5"

	"souk/shared/testkit"
)

// Databases knows the addresses of the shop's databases.
type Databases struct {
	port      int
	passwords map[string]string
}

// URL of a service's database, with the service's own login. "postgres" gives the superuser's.
func (d Databases) URL(service string) string {
	server := testkit.PostgresServer{Port: d.port}
	return server.URL(service, service, d.passwords[service])
}

// SuperuserURL of a service's database, for tests that look at what no service may.
func (d Databases) SuperuserURL(service string) string {
	server := testkit.PostgresServer{Port: d.port}
	return server.URL(service, "postgres", d.passwords["postgres"])
}

// makePasswords gives the superuser and every service that has a database a password that nobody knows.
func makePasswords(st *state) {
	for _, login := range append([]string{"postgres"}, services...) {
		if login != "gateway" {
			st.Passwords[login] = rand.Text()
		}
	}
}

// createDatabases makes a database and a login per service. A login owns its database and cannot enter another.
func (s *Shop) createDatabases(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.Postgres.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is lost with it
	var statements []string
	for _, database := range []string{"postgres", "template1"} {
		statements = append(statements, "REVOKE CONNECT ON DATABASE "+database+" FROM PUBLIC")
	}
	for _, service := range services {
		password, ok := s.state.Passwords[service]
		if !ok {
			continue
		}
		name := pgx.Identifier{service}.Sanitize()
		statements = append(statements,
			// The password is letters and digits, so the quotes hold; a role takes no parameter.
			"CREATE ROLE "+name+" LOGIN PASSWORD '"+password+"'",
			"CREATE DATABASE "+name+" OWNER "+name+"",
			"REVOKE ALL ON DATABASE "+name+" FROM PUBLIC",
		)
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("make the databases: %w", err)
		}
	}
	return nil
}
