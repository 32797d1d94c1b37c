package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"souk/deploy/proc"
)

// roleVariable makes a process of this program one of the parts around what is measured.
const roleVariable = "BENCH_MESH_ROLE"

// role is this program in another process. It is asked in JSON, a line each, and answers in JSON; when its input ends, so
// does it, and so nothing outlives the benchmark.
type role struct {
	process *exec.Cmd
	in      io.WriteCloser
	ask     *json.Encoder
	answer  *json.Decoder
}

// startRole starts a process on the given processors.
func startRole(ctx context.Context, name string, processors []int) (*role, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &role{process: exec.CommandContext(ctx, self)}
	r.process.Env = append(os.Environ(), roleVariable+"="+name)
	r.process.Stderr = os.Stderr
	if r.in, err = r.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := proc.StartOn(r.process, processors); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r.ask, r.answer = json.NewEncoder(r.in), json.NewDecoder(out)
	return r, nil
}

// do asks the process and waits for its answer.
func (r *role) do(question, answer any) error {
	if err := r.ask.Encode(question); err != nil {
		return err
	}
	return r.answer.Decode(answer)
}

func (r *role) stop() error {
	return errors.Join(r.in.Close(), r.process.Wait())
}

// serveQuestions answers one after the other until in ends.
func serveQuestions[Q, A any](in io.Reader, out io.Writer, answer func(Q) (A, error)) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q Q
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}
