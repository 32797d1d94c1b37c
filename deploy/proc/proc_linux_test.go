package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"souk/shared/testkit"
)

// role makes a process of this program another one's part in a test.
const role = "PROC_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "parent": // starts an attached child, says which, and waits to be killed
		child := exec.Command("sleep", "60") //nolint:noctx // it is what ends it that is tried
		if _, err := Attached(child); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, child.Process.Pid)
	case "idle": // says where it may run, and waits to be told to end
		on, err := Processors()
		if err := errors.Join(err, json.NewEncoder(os.Stdout).Encode(on)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// play is this program in another role, and what it says; it ends with the test.
func play(t *testing.T, as string, start func(*exec.Cmd) error) (cmd *exec.Cmd, said string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, start(cmd)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // as a killed one's is
		_ = cmd.Wait()
	})
	said, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(said)
}

func TestAttached_diesWithItsParent(t *testing.T) {
	t.Parallel()
	parent, said := play(t, "parent", (*exec.Cmd).Start)
	child, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	if stateOf(child) == "" {
		t.Fatal("there is no child")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// What it is left to may take its time to reap it.
	testkit.Eventually(t, 10*time.Second, func() bool { return stateOf(child) == "" || stateOf(child) == "Z" })
}

// stateOf is the letter of a process's state; empty if there is none.
func stateOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// Threads come and go in a Go program, and a child is none the worse for it.
func TestAttached_outlivesThreads(t *testing.T) {
	t.Parallel()
	for range 60 {
		in, out := io.Pipe()
		child := exec.CommandContext(t.Context(), "cat")
		child.Stdin = in
		ended, err := Attached(child)
		if err != nil {
			t.Fatal(err)
		}
		// All at once, or one thread would do for many; each ends with its goroutine.
		var locked, threads sync.WaitGroup
		locked.Add(50)
		for range 50 {
			threads.Go(func() {
				runtime.LockOSThread()
				locked.Done()
				locked.Wait()
			})
		}
		threads.Wait()
		_ = out.Close() // so that cat ends by itself
		<-ended
		if state := child.ProcessState; !state.Success() {
			t.Fatalf("the child ended: %v", state)
		}
	}
}

func TestAttached_tellsThatThereIsNoSuchProgram(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*exec.Cmd) (<-chan struct{}, error){"attached": Attached, "detached": Detached} {
		if ended, err := start(exec.CommandContext(t.Context(), "/no/such/program")); !errors.Is(err, os.ErrNotExist) || ended != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDetached_hasASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sleep", "60")
	ended, err := Detached(child)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(child.Process.Pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if session := strings.Fields(rest)[3]; session != strconv.Itoa(child.Process.Pid) {
		t.Errorf("the child %d is in session %s", child.Process.Pid, session)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if child.ProcessState.Success() {
		t.Error("it was killed, and ended well")
	}
}

// two are two processors, and all there are.
func two(t *testing.T) (first, second, all []int) {
	t.Helper()
	all, err := Processors()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Skip("there is one processor, and so nowhere to move to")
	}
	return all[:1], all[1:2], all
}

func TestStartOn(t *testing.T) {
	t.Parallel()
	first, second, all := two(t)
	for _, on := range [][]int{all, second, first} {
		_, said := play(t, "idle", func(cmd *exec.Cmd) error { return StartOn(cmd, on) })
		var got []int
		if err := json.Unmarshal([]byte(said), &got); err != nil || !slices.Equal(got, on) {
			t.Errorf("got %s, want %v", said, on)
		}
	}
	// The threads that made them are gone, and no other was moved. Of the main thread nothing is known: Go does not end it but
	// leaves it alone for ever.
	testkit.Eventually(t, 10*time.Second, func() bool {
		threads := allowed(t, os.Getpid())
		delete(threads, strconv.Itoa(os.Getpid()))
		return len(slices.Compact(slices.Collect(maps.Values(threads)))) == 1
	})
}

// allowed is where each thread of a process may run, as the kernel writes it.
func allowed(t *testing.T, pid int) map[string]string {
	t.Helper()
	list := map[string]string{}
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(b), "Cpus_allowed_list:\t")
		on, _, _ := strings.Cut(after, "\n")
		list[filepath.Base(filepath.Dir(path))] = on
	}
	return list
}

func TestMove(t *testing.T) {
	t.Parallel()
	first, second, _ := two(t)
	cmd, _ := play(t, "idle", (*exec.Cmd).Start)
	for _, on := range [][]int{first, second} {
		if err := Move(cmd.Process.Pid, on); err != nil {
			t.Fatal(err)
		}
		threads := allowed(t, cmd.Process.Pid)
		if len(threads) < 2 {
			t.Fatalf("%d threads, want more than one, or this shows nothing", len(threads))
		}
		for id, got := range threads {
			if got != strconv.Itoa(on[0]) {
				t.Errorf("thread %s is on %s, want %v", id, got, on)
			}
		}
	}
	if err := Move(1<<22+1, first); !errors.Is(err, os.ErrNotExist) { // more than there can be
		t.Errorf("no such process: got %v", err)
	}
}
