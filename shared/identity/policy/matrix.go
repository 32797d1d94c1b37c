package policy

import _ "embed"

//go:embed matrix.txt
var matrix string

// Matrix says which role may ask for what, as a person has reviewed it: a line for each permission, with its name, a colon,
// and the roles, or "anybody". The policies are held to it by a test, and so is every route of every service.
func Matrix() string { return matrix }
