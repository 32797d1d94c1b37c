package journey

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// patience bounds the wait for one answer, and for a limit on requests to let one through.
const patience = 30 * time.Second

// Run sends the requests of a journey to the shop at base, such as http://127.0.0.1:8080, one after the other, and returns
// what was not as expected, all of it. It stops at an answer of another status: the rest would only follow from that. How
// many answers came is in sent. A request that is asked to come back later does.
func (f *File) Run(ctx context.Context, base string) (sent int, err error) {
	answers := map[string]any{}
	for i := range f.Requests {
		r := &f.Requests[i]
		resolve := func(s string) string {
			return Resolve(s, func(name, path string) string { return value(name, path, base, answers) })
		}
		answer, err := r.send(ctx, resolve)
		if err != nil {
			return sent, fmt.Errorf("%s: %s: %w", f.Name, r.Title, err)
		}
		sent++
		if err := r.check(answer, resolve); err != nil {
			return sent, fmt.Errorf("%s: %s: %w", f.Name, r.Title, err)
		}
		answers[r.Name] = answer
	}
	return sent, nil
}

// value is what stands for a variable.
func value(name, path, base string, answers map[string]any) string {
	word, _, _ := strings.Cut(name, " ")
	switch {
	case path != "":
		got, _ := lookUp(answers[name], path)
		return got
	case name == "base":
		return base
	case word == "$guid":
		return uuid.NewString()
	case word == "$timestamp":
		return strconv.FormatInt(time.Now().Unix(), 10)
	case word == "$randomInt":
		n, err := rand.Int(rand.Reader, big.NewInt(1000))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		return n.String()
	default:
		return "{{" + name + "}}"
	}
}

func (r *Request) send(ctx context.Context, resolve func(string) string) (any, error) {
	body := resolve(r.Body)
	for {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, r.Method, resolve(r.URL), strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		for _, h := range r.Headers {
			req.Header.Set(h.Name, resolve(h.Value))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusTooManyRequests && r.Status != resp.StatusCode {
			seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if err != nil {
				return nil, fmt.Errorf("429 without a Retry-After: %w", err)
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(seconds) * time.Second):
				continue
			}
		}
		if resp.StatusCode != r.Status {
			return nil, fmt.Errorf("status %d, want %d: %s", resp.StatusCode, r.Status, bytes.TrimSpace(content))
		}
		want := "application/json"
		if r.Status >= http.StatusBadRequest {
			want = "application/problem+json"
		}
		if got := resp.Header.Get("Content-Type"); len(content) > 0 && got != want {
			return nil, fmt.Errorf("it is %q, want %q", got, want)
		}
		var answer any
		d := json.NewDecoder(bytes.NewReader(content))
		d.UseNumber()
		if err := d.Decode(&answer); err != nil && len(content) > 0 {
			return nil, err
		}
		return answer, nil
	}
}

func (r *Request) check(answer any, resolve func(string) string) error {
	var errs []error
	for _, v := range r.Expect {
		want := resolve(v.Want)
		if got, ok := lookUp(answer, v.Path); !ok || got != want {
			errs = append(errs, fmt.Errorf("%s is %q, want %q", v.Path, got, want))
		}
	}
	return errors.Join(errs...)
}

var step = regexp.MustCompile(`\.(\w+)|\[(\d+)\]`)

// lookUp is the value at a path such as $.items[0].id, as text.
func lookUp(v any, path string) (string, bool) {
	for _, m := range step.FindAllStringSubmatch(strings.TrimPrefix(path, "$"), -1) {
		switch at := v.(type) {
		case map[string]any:
			v = at[m[1]]
		case []any:
			i, err := strconv.Atoi(m[2])
			if err != nil || i >= len(at) {
				return "", false
			}
			v = at[i]
		default:
			return "", false
		}
	}
	if v == nil {
		return "", false
	}
	return fmt.Sprint(v), true
}
