// Package local runs the whole shop as plain processes on one machine: PostgreSQL with a database and a login per
// service, Consul, and every service in as many instances as asked for. It builds them, starts them, waits until each
// is passing in Consul and the gateway answers, seeds them, and takes all of it down again.
//
// The command souk (deploy/local/cmd/souk, behind `make demo`, `make up` and `make down`) is this package on the
// command line; the end-to-end, fault and speed tests use it as a library, because they must stop, kill and restart
// single instances:
//
//	shop, err := local.Up(ctx, local.Config{RunDir: t.TempDir()})
//	defer shop.Down(ctx)
//	err = shop.Kill(ctx, "product-2")
//	err = shop.Start(ctx, "product-2")
//	err = shop.WaitReady(ctx, "product-2")
//
// # What it leaves on the machine
//
// Everything of a shop is in its run directory: state.json (readable by its owner only, for it holds the databases'
// passwords), the services' tokens for Consul, what they keep for a start without it, and the logs. Only the data of PostgreSQL and Consul lies in the folder for temporary files, see
// [testkit.ServerDir]. A shop is fresh each time: Down removes the data and the state, and leaves the logs to read.
//
// # Whom it signals
//
// A process is known by its id, its start time and the machine's boot, all written down before anything else happens,
// so that a recycled process id is never signalled, a half-started shop can be taken down by the next command, and the
// state of a shop that a reboot ended is recognised as such. Nothing is ever looked for by name.
//
// # Attached and detached
//
// A detached shop outlives the process that started it (`souk up`). An attached one, as tests want it, ends with its
// process, however that one ends.
package local
