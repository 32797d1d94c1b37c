//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"time"
)

var errLinux = errors.New("this benchmark needs Linux: it reads /proc and chooses processors")

func processors() ([]int, error)     { return nil, errLinux }
func startOn(*exec.Cmd, []int) error { return errLinux }
func move(int, []int) error          { return errLinux }
func cpu(int) (time.Duration, error) { return 0, errLinux }
func rss(int) (float64, error)       { return 0, errLinux }
