// Package proc starts processes that end with this one, and keeps processes to processors: both are the kernel's to do, and
// Linux does. It starts and moves only what it is given.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// Attached starts cmd as a child that dies with this process, however that one ends, where the kernel can do that. The child
// has a process group of its own, so that Ctrl-C reaches this process alone, which ends its children in its own order. Ended
// is closed once it has ended, and cmd.ProcessState says how: nobody else may call Wait.
func Attached(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	cmd.SysProcAttr = attached()
	return start(cmd)
}

// Detached starts cmd as a child that outlives this process, in a session of its own. Ended is as of Attached.
func Detached(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return start(cmd)
}

func start(cmd *exec.Cmd) (<-chan struct{}, error) {
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// An attached child dies with the thread that made it, so this one is kept until the child is gone; a locked
		// thread ends with its goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // reap it; its state says how it ended
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return ended, nil
}

// Processors are those that the calling thread may run on, which is where its process may unless that was moved.
func Processors() ([]int, error) {
	list, err := affinity()
	if err != nil {
		return nil, fmt.Errorf("read which processors may be used: %w", err)
	}
	return list, nil
}

// StartOn starts cmd on the given processors. A child inherits the processors of the thread that makes it, and Go's own
// count of them comes from there, too.
func StartOn(cmd *exec.Cmd, on []int) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := setAffinity(0, on)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// Move puts a process, with every thread it has, on the given processors; its children stay where they are. A new thread, or a
// new process, is where the thread is that makes it.
func Move(pid int, on []int) error {
	for range 2 { // a thread that was made meanwhile is there at the second look
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return fmt.Errorf("move process %d: %w", pid, err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("move process %d: %w", pid, err)
			}
			if err := setAffinity(id, on); err != nil && !errors.Is(err, syscall.ESRCH) { // it has ended
				return fmt.Errorf("move thread %d of process %d: %w", id, pid, err)
			}
		}
	}
	return nil
}
