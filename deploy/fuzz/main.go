// Command fuzz sends made-up requests, good and bad, to every operation of the public OpenAPI document, as a customer and as
// an admin, and looks whether each answer is one that the document promises: its status, its type, its headers, its body.
// It is Schemathesis, in the versions of requirements.txt, against a shop of its own without limits on requests.
//
// FUZZ_SECONDS, 150 if unset, is how long it sends; FUZZ_SEED repeats a run. It closes with
// "fuzz: operations=… requests=… unexpected_5xx=… off_schema=…" and fails unless the last two are zero and each operation of
// the document was asked at least once. Nobody breaks anything meanwhile, so any answer of 500 and above is unexpected.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"souk/deploy/local"
	"souk/deploy/shopper"
	"souk/shared/contract/payment"
	"souk/shared/money"
)

const defaultSeconds = 150

// restTime is what the shop gets to settle what was begun.
const restTime = 10 * time.Second

// checks are what an answer is held to.
const checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	found := tally{asked: map[string]bool{}}
	err := fuzz(ctx, &found, out)
	fmt.Fprintf(out, "fuzz: operations=%d requests=%d unexpected_5xx=%d off_schema=%d\n", found.operations(), found.requests, found.broken, found.offSchema)
	if err == nil && found.broken+found.offSchema > 0 {
		err = errors.New("the shop answers what its document does not say; see above")
	}
	return err
}

func fuzz(ctx context.Context, found *tally, out io.Writer) (err error) {
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("FUZZ_SECONDS"), strconv.Itoa(defaultSeconds)))
	if err != nil || seconds < 2 {
		return fmt.Errorf("FUZZ_SECONDS=%q is no number of seconds", os.Getenv("FUZZ_SECONDS"))
	}
	root, err := local.Root()
	if err != nil {
		return err
	}
	document := filepath.Join(root, "deploy", "openapi", "souk.json")
	if err := found.expect(document); err != nil {
		return err
	}
	schemathesis, err := install(ctx, root, out)
	if err != nil {
		return err
	}
	shop, release, err := local.OfItsOwn(ctx, local.Config{Root: root, Log: out}, "fuzz")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release(context.WithoutCancel(ctx))) }()

	customer, err := shopper.Customer(ctx, shop.Gateway, money.Money{Amount: payment.MaxTopUp, Currency: "USD"})
	if err != nil {
		return err
	}
	admin, err := shopper.Admin(ctx, shop.Gateway)
	if err != nil {
		return err
	}
	people := []*shopper.Person{customer, admin}
	for i, p := range people {
		report := filepath.Join(root, ".souk", fmt.Sprintf("fuzz-%d.ndjson", i+1))
		args := []string{
			"run", document, "--url", shop.Gateway, "--header", "Authorization: Bearer " + p.Token, "--checks", checks,
			"--max-time", strconv.Itoa(seconds / len(people)), "--continue-on-failure", "--request-timeout", "15",
			"--suppress-health-check", "all", "--warnings", "off", "--generation-database", "none", "--no-color",
			"--report", "ndjson", "--report-ndjson-path", report,
		}
		if seed := os.Getenv("FUZZ_SEED"); seed != "" {
			args = append(args, "--seed", seed)
		}
		fmt.Fprintf(out, "asking as %s for %d s\n", p.Email, seconds/len(people))
		cmd := exec.CommandContext(ctx, schemathesis, args...)
		cmd.Dir = filepath.Join(root, ".souk") // where it keeps what it remembers
		said, runErr := cmd.CombinedOutput()
		before := found.broken + found.offSchema
		if err := found.read(report); err != nil {
			return fmt.Errorf("%w\n%s", err, said)
		}
		if runErr != nil {
			_, _ = out.Write(said)
			if found.broken+found.offSchema == before {
				return fmt.Errorf("schemathesis: %w", runErr)
			}
		}
	}
	violations, err := shopper.AtRest(ctx, shop, restTime)
	err = errors.Join(err, errors.Join(violations...))
	for op, asked := range found.asked {
		if !asked {
			err = errors.Join(err, fmt.Errorf("%s was never asked: give it more FUZZ_SECONDS", op))
		}
	}
	return err
}

// install gives the path of Schemathesis, in an environment of its own under .souk.
func install(ctx context.Context, root string, out io.Writer) (string, error) {
	wanted, err := os.ReadFile(filepath.Join(root, "deploy", "fuzz", "requirements.txt"))
	if err != nil {
		return "", err
	}
	venv := filepath.Join(root, ".souk", "venv")
	program, stamp := filepath.Join(venv, "bin", "schemathesis"), filepath.Join(venv, "installed")
	if got, err := os.ReadFile(stamp); err == nil && bytes.Equal(got, wanted) {
		return program, nil
	}
	begin := time.Now()
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		{filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--no-deps", "-r", filepath.Join(root, "deploy", "fuzz", "requirements.txt")},
	} {
		if text, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("get schemathesis (it needs Python 3.10 or later with venv): %w:\n%s", err, bytes.TrimSpace(text))
		}
	}
	fmt.Fprintf(out, "schemathesis: got it in %s\n", time.Since(begin).Round(time.Second))
	return program, os.WriteFile(stamp, wanted, 0o600)
}
