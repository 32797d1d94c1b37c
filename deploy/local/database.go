package local

import (
	"context"
	"crypto/rand"
	"fmt"

	"souk/shared/testkit"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
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
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.asSuperuser(ctx,
			"REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
			"REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
		)
	})
	for _, service := range services {
		password, ok := s.state.Passwords[service]
		if !ok {
			continue
		}
		name := pgx.Identifier{service}.Sanitize()
		g.Go(func() error {
			return s.asSuperuser(ctx,
				// The password is letters and digits, so the quotes hold; a role takes no parameter.
				"CREATE ROLE "+name+" LOGIN PASSWORD '"+password+"'",
				"CREATE DATABASE "+name+" OWNER "+name+" TEMPLATE template0",
				"REVOKE ALL ON DATABASE "+name+" FROM PUBLIC",
			)
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("make the databases: %w", err)
	}
	return nil
}

// asSuperuser runs statements one after the other.
func (s *Shop) asSuperuser(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.Postgres.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
