// Package testkit gives tests the real thing: a real PostgreSQL and a real Consul, with little ceremony.
//
// A test asks for what it needs and never skips for want of it:
//
//	db := testkit.Postgres(t, sets...)  // a fresh, migrated database of its own
//	addr := testkit.Consul(t)           // the address of a Consul agent
//
// Where the servers come from, in this order: the environment (TEST_POSTGRES_URL and TEST_CONSUL_ADDR, which
// `make test` sets, so that one server serves every package), else a private server for this test process, else
// the test fails and names the command that helps.
//
// [StartPostgres] and [StartConsul] start those servers; the launcher in deploy/local stands on the same two
// functions. This package belongs in tests and in deploy, nowhere else.
//
// # Who stops a private server
//
// A test process has no reliable last moment: it may panic, time out or be killed. So a private server is not
// our child but the child of a keeper, a few lines of shell that hold the reading end of a pipe whose writing end
// is ours. When this process ends, in whatever way, the kernel closes our end, the keeper reads end of file, stops
// the server and removes its folder. No goroutine and no signal handler is involved, and nothing can be orphaned
// short of killing the keeper itself.
package testkit
