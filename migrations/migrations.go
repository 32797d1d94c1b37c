// Package migrations holds every schema of the shop as goose SQL, one folder per set, embedded. It is the only place a
// schema changes. A change is made in steps that the running version survives: expand, deploy, contract.
//
// A service's database is made of its own set and, where it uses them, Participant (shared/twopc), Idempotency
// (shared/idempotency) and Seal (shared/seal); postgres.Migrate applies them.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed */*.sql
var files embed.FS

// Set is a named folder of migrations. It is an alias of a plain struct, the same that postgres.MigrationSet is one of: the
// two modules do not know each other.
type Set = struct {
	Name string
	FS   fs.FS
}

// User is the schema of the user service.
func User() Set { return set("user") }

// Product is the schema of the product service.
func Product() Set { return set("product") }

// Order is the schema of the order service.
func Order() Set { return set("order") }

// Payment is the schema of the payment service.
func Payment() Set { return set("payment") }

// Coordinator is the schema of the coordinator.
func Coordinator() Set { return set("coordinator") }

// Participant is what a service needs to take part in a two-phase commit.
func Participant() Set { return set("participant") }

// Idempotency is what a service needs to answer a repeated request with the stored answer.
func Idempotency() Set { return set("idempotency") }

// Seal is what a service needs to keep something sealed (shared/seal).
func Seal() Set { return set("seal") }

func set(name string) Set {
	folder, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // only a name that is no path: a bug in this file
	}
	return Set{Name: name, FS: folder}
}
