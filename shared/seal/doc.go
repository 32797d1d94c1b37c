// Package seal keeps what must not be read from a database, a dump of it or a backup: columns that are sealed, indexes that
// find a row by a sealed value, and letters that only one service can open.
//
//	key-encryption key        in a file or a KMS, never in a database
//	      │ wraps
//	      ▼
//	keysets (table keyset)    one per domain; of its keys the primary seals, all of them open
//	      │ seal
//	      ▼
//	values                    AES-256-GCM with the place as associated data: user|account|email|<row>
//
// A value that is moved to another row, column, table or service does not open there. Everything is Tink's: this package
// says only what is sealed with what, and where the keys are.
//
// # Use
//
// A service names its columns before it loads its keys, and opens and seals where it reads and writes:
//
//	keys := seal.New("user", db, kek)
//	email := seal.NewColumn[string](keys, seal.Place{Domain: "pii", Table: "account", Column: "email"})
//	byEmail := seal.NewIndex(keys, "account", "email")
//	err := keys.Load(ctx)
//	…
//	tx.Exec("INSERT INTO account (id, email, email_index) VALUES (?, ?, ?)", id, email.Seal(id.String(), text), byEmail.Of(text))
//	tx.Raw("SELECT email FROM account WHERE email_index = ?", byEmail.Of(text)).Scan(&row)
//	text, err := email.Open(ctx, id.String(), row.Email)
//
// GORM's own serializers were not taken: they are registered for the whole process, know neither the database nor the row,
// and do nothing for statements, which most of ours are. Here a row keeps its sealed bytes, and who does not open them pays
// nothing. Sealing and opening take about a microsecond (BenchmarkColumn).
//
// # Instances
//
// All instances on one database share its keysets; the first to start makes them. Each looks for changes every two
// seconds, and at once when it meets a value that was sealed with a key it does not know; so nobody fails to read while
// keys change.
//
// # Changing keys
//
//	keys rotate   a new key for each domain. It can open for five seconds before it seals, so that every instance has it.
//	keys rewrap   keysets are wrapped anew with the first of the key-encryption keys, and every value is sealed anew with its
//	              domain's primary key. A value that somebody changes meanwhile is left alone: that seals it anew as well.
//	keys check    opens every value, and counts those that rewrap has still to do.
//
// Old keys are kept: backups need them. The keys of indexes do not rotate; a new one means a new column that is filled while
// the old one is still used. Answers kept for repetitions (shared/idempotency) and letters are not sealed anew: the former
// are gone in a day, and the latter can be opened by the old key for as long as it is kept.
//
// # What it does not do
//
// Who has both the database and the key-encryption key reads everything, and so does who has taken over a running service.
// An index tells which rows have the same value, and so is only for columns where hardly any two do. The length of a sealed
// text is that of the text and 33 bytes.
package seal
