//go:build !linux

package main

import "runtime"

// apart is nothing where processes cannot be kept to processors: customers and shop share them.
type apart struct{}

func split() *apart { return nil }

func (*apart) shop() error      { return nil }
func (*apart) customers() error { return nil }
func (*apart) shops() int       { return runtime.NumCPU() }

// String is part of fmt.Stringer.
func (*apart) String() string { return "customers and shop share the processors" }
