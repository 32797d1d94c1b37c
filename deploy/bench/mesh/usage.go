package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// family is a process and its children.
func family(pid int) []int {
	list := []int{pid}
	id := strconv.Itoa(pid)
	b, _ := os.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
	for child := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(child); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// cpu is the processor time that a process and its children have used, in all threads they have.
func cpu(pid int) (time.Duration, error) {
	var total time.Duration
	for _, p := range family(pid) {
		threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p), "task", "*", "schedstat"))
		if err != nil {
			return 0, err
		}
		for _, t := range threads {
			b, err := os.ReadFile(t)
			if errors.Is(err, os.ErrNotExist) {
				continue // the thread has just ended
			}
			if err != nil {
				return 0, err
			}
			used, _, _ := strings.Cut(string(b), " ")
			n, err := strconv.ParseInt(used, 10, 64) // in nanoseconds; stat has hundredths of a second
			if err != nil {
				return 0, err
			}
			total += time.Duration(n)
		}
	}
	return total, nil
}

// rss is the memory of a process and its children that is in RAM, in KiB.
func rss(pid int) (float64, error) {
	var total float64
	for _, p := range family(pid) {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p), "statm"))
		if err != nil {
			return 0, err
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
		if err != nil {
			return 0, err
		}
		total += pages * float64(os.Getpagesize()) / 1024
	}
	return total, nil
}
