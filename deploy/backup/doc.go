// Package backup is how the databases are backed up and restored, backup.sh and restore.sh, and the test that does it: with
// customers buying meanwhile, the loss of everything, and a look at the books.
package backup
