package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"souk/deploy/local"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// data are attacks on what the shop keeps: by who has a dump, a log or a trace of it, and by who can write to its databases.
func data() []attack {
	attacks := []attack{}
	for _, service := range []string{"user", "order", "payment", "product", "coordinator"} {
		attacks = append(attacks, attack{"a dump of the database of " + service + " searched for what was planted", func(ctx context.Context, s *scene) outcome {
			dump, err := exec.CommandContext(ctx, "pg_dump", s.shop.Postgres.SuperuserURL(service)).Output()
			return search("pg_dump "+service, dump, err, s)
		}})
	}
	return append(attacks,
		attack{"the logs of everything, at their most talkative, searched", func(_ context.Context, s *scene) outcome {
			logs, err := s.logs()
			return search("logs at level debug", []byte(logs), err, s)
		}},
		attack{"the traces of everything searched", func(_ context.Context, s *scene) outcome {
			return search("all spans", s.traces.bytes(), nil, s)
		}},
		attack{"another's e-mail address moved into one's own row", func(ctx context.Context, s *scene) outcome {
			return tampered(ctx, s, "UPDATE account SET sealed_email = (SELECT sealed_email FROM account WHERE id = $2) WHERE id = $1",
				"SELECT sealed_email FROM account WHERE id = $1", "UPDATE account SET sealed_email = $2 WHERE id = $1")
		}},
		attack{"another's name moved into one's own e-mail address", func(ctx context.Context, s *scene) outcome {
			return tampered(ctx, s, "UPDATE account SET sealed_email = (SELECT sealed_name FROM account WHERE id = $2) WHERE id = $1",
				"SELECT sealed_email FROM account WHERE id = $1", "UPDATE account SET sealed_email = $2 WHERE id = $1")
		}},
		attack{"a bit of a sealed name changed", func(ctx context.Context, s *scene) outcome {
			return tampered(ctx, s, "UPDATE account SET sealed_name = set_byte(sealed_name, 20, get_byte(sealed_name, 20) # 1) WHERE id = $1 AND id <> $2",
				"SELECT sealed_name FROM account WHERE id = $1", "UPDATE account SET sealed_name = $2 WHERE id = $1")
		}},
		attack{"the keys opened with another key-encryption key", strangersKEK},
		attack{"the key-encryption keys read by other users of the machine", func(_ context.Context, s *scene) outcome {
			paths, err := filepath.Glob(filepath.Join(s.dir, "kek", "*"))
			open := []string{}
			for _, path := range paths {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					open = append(open, filepath.Base(path))
				}
			}
			return outcome{"stat of each", fmt.Sprintf("%d keys, others may read %v", len(paths), open), err == nil && len(paths) > 0 && len(open) == 0}
		}},
		attack{"another service's database entered with order's login", func(ctx context.Context, s *scene) outcome {
			conf, err := pgx.ParseConfig(s.shop.Postgres.URL("order"))
			if err != nil {
				return outcome{"", err.Error(), false}
			}
			conf.Database = "user"
			conn, err := pgx.ConnectConfig(ctx, conf)
			if err == nil {
				_ = conn.Close(ctx)
				return outcome{"connect to user as order", "connected", false}
			}
			return outcome{"connect to user as order", err.Error(), strings.Contains(err.Error(), "42501")}
		}},
		ledger("a line of the ledger changed, with payment's own login", "UPDATE entry SET amount = amount * 2"),
		ledger("the ledger emptied, with payment's own login", "TRUNCATE entry, movement"),
		ledger("money made out of nothing, with payment's own login", "INSERT INTO movement (movement_id, kind, reference, request_id, created_at) VALUES (gen_random_uuid(), 'top_up', gen_random_uuid(), '', now())"),
		ledger("a wallet below zero, with payment's own login", "UPDATE account SET available = -1 WHERE kind = 'wallet'"),
		injected("SQL in a search", "/api/v1/products?q="+escape(`' OR '1'='1' --`), 200),
		injected("SQL in a sort", "/api/v1/products?sort="+escape(`price; DROP TABLE product`), 400, 422),
		injected("SQL in an id", "/api/v1/products/"+escape(`1' OR '1'='1`), 400, 404, 422),
		injected("SQL in a page token", "/api/v1/products?page_token="+escape(`' UNION SELECT password_hash FROM account --`), 400),
		attack{"a search of people that matches all (%, _)", func(ctx context.Context, s *scene) outcome {
			var list struct{ Items []any }
			err := s.as(s.admin).get(ctx, "/api/v1/users?q=%25", &list)
			return outcome{"GET /api/v1/users?q=%25, as the admin", fmt.Sprintf("%d people, %v", len(list.Items), err), len(list.Items) == 0 && (err == nil || strings.Contains(err.Error(), " 400 ") || strings.Contains(err.Error(), " 422 "))}
		}},
		attack{"another's answer fetched with their Idempotency-Key", replay},
	)
}

func escape(text string) string {
	return strings.NewReplacer(" ", "%20", "'", "%27", ";", "%3B", `"`, "%22").Replace(text)
}

// secrets are what must be found nowhere.
func (s *scene) secrets() map[string]string {
	secrets := map[string]string{
		"password": plantedPassword, "seed password": local.SeedPassword(), "name": plantedName, "street": plantedStreet, "phone": plantedPhone,
		"note": plantedNote, "payout reference": plantedIBAN, "card": plantedCard, "query": plantedQuery,
		"e-mail": s.victim.email, "thief's e-mail": s.thief.email, "seeded e-mail": "alice@souk.example",
	}
	for name, p := range map[string]*person{"victim": s.victim, "thief": s.thief, "admin": s.admin} {
		secrets[name+"'s access token"] = p.token
		secrets[name+"'s signature"] = p.token[strings.LastIndexByte(p.token, '.')+1:]
		secrets[name+"'s refresh token"] = p.refresh
	}
	return secrets
}

// search looks for what was planted, as it is, in hexadecimal and in base64.
func search(what string, where []byte, err error, s *scene) outcome {
	if err != nil || len(where) == 0 {
		return outcome{what, fmt.Sprintf("%d bytes, %v", len(where), err), false}
	}
	found := []string{}
	secrets := s.secrets()
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		secret := secrets[name]
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if bytes.Contains(where, []byte(strings.TrimRight(form, "="))) {
				found = append(found, name)
				break
			}
		}
	}
	return outcome{fmt.Sprintf("%s, %d secrets in 3 forms", what, len(secrets)), fmt.Sprintf("%d bytes, with %v in them", len(where), found), len(found) == 0}
}

// tampered changes the thief's row behind the service's back, looks at what it shows, and puts the row back.
func tampered(ctx context.Context, s *scene, change, kept, restore string) outcome {
	conn, err := pgx.Connect(ctx, s.shop.Postgres.SuperuserURL("user"))
	if err != nil {
		return outcome{change, err.Error(), false}
	}
	defer conn.Close(ctx)
	var was []byte
	if err := conn.QueryRow(ctx, kept, s.thief.id).Scan(&was); err != nil {
		return outcome{change, err.Error(), false}
	}
	tag, err := conn.Exec(ctx, change, s.thief.id, s.victim.id)
	if err != nil || tag.RowsAffected() != 1 {
		return outcome{change, fmt.Sprint(tag, " ", err), false}
	}
	a := s.send(ctx, me(s.thief.token))
	_, err = conn.Exec(ctx, restore, s.thief.id, was)
	after := s.send(ctx, me(s.thief.token))
	leaks := strings.Contains(string(a.body), s.victim.email) || strings.Contains(string(a.body), plantedName)
	return outcome{change, fmt.Sprintf("%s; put back: %s", a, after), err == nil && !leaks && a.status == http.StatusInternalServerError && after.status == http.StatusOK}
}

// strangersKEK has the keys of user checked with another key-encryption key than theirs.
func strangersKEK(ctx context.Context, s *scene) outcome {
	env, err := s.shop.Env("user-1")
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	root, err := local.Root()
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, ".souk", "bin", "user"), "keys", "check")
	cmd.Env = append(env, "KEK_FILE="+filepath.Join(s.dir, "a-strangers-kek"))
	out, err := cmd.CombinedOutput()
	return outcome{"user keys check with a new KEK_FILE", fmt.Sprint(err, ": ", string(out)), err != nil && strings.Contains(string(out), "another key-encryption key")}
}

// ledger runs a statement that the schema itself is to refuse.
func ledger(name, statement string) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		conn, err := pgx.Connect(ctx, s.shop.Postgres.URL("payment"))
		if err != nil {
			return outcome{statement, err.Error(), false}
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, statement)
		return outcome{statement, fmt.Sprint(err), err != nil}
	}}
}

// injected asks for something with SQL in it; the status says how that was taken, and there must be nothing to see.
func injected(name, path string, statuses ...int) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		r := request{method: "GET", path: path, token: s.thief.token}
		a := s.send(ctx, r)
		empty := a.status != http.StatusOK || strings.Contains(string(a.body), `"items":[]`)
		return outcome{r.String(), a.String(), slices.Contains(statuses, a.status) && empty && !strings.Contains(string(a.body), "argon2")}
	}}
}

// replay sends the very request of the victim as the thief.
func replay(ctx context.Context, s *scene) outcome {
	key := uuid.NewString()
	r := request{
		method: "POST", path: "/api/v1/orders", body: `{"lines":[{"product_id":"` + s.product + `","quantity":1}],"note":"` + plantedNote + `"}`,
	}
	ask := func(p *person) answer {
		return raw(ctx, gatewayOf(s), fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
			r.path, p.token, key, len(r.body), r.body))
	}
	mine, theirs := ask(s.victim), ask(s.thief)
	return outcome{"the same key and body by two people", mine.String() + " and " + theirs.String(), mine.status == http.StatusCreated && theirs.field("id") != mine.field("id")}
}
