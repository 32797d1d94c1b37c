// Command openapi writes the OpenAPI 3.1 documents in its folder: one for each service, as that service's own code tells
// it, and souk.json, which is what the gateway makes of them for the outside. Nothing is started for it.
//
// It closes with "openapi: documents=… operations=… changed=… spectral_errors=…", where changed counts the files that were
// not as the code has it. With -check it writes nothing, and they fail it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"souk/deploy/local"
	"souk/deploy/npm"
)

// version of the documents: that of the paths, /api/v1.
const version = "1.0.0"

// public is the name of the document of the whole shop.
const public = "souk"

func main() {
	check := flag.Bool("check", false, "only compare")
	lint := flag.Bool("lint", true, "run Spectral, where there is npm")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // the process's first context
	defer stop()
	if err := run(ctx, *check, *lint, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check, withLint bool, out io.Writer) error {
	root, err := local.Root()
	if err != nil {
		return err
	}
	documents, err := generate(ctx, root)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "deploy", "openapi")
	changed := 0
	for name, body := range documents {
		path := filepath.Join(dir, name+".json")
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, body) {
			continue
		}
		changed++
		fmt.Fprintf(out, "%s.json is not what the code says\n", name)
		if !check {
			if err := os.WriteFile(path, body, 0o600); err != nil {
				return err
			}
		}
	}
	operations, err := count(documents[public])
	if err != nil {
		return err
	}
	found := notRun
	if withLint {
		found, err = lint(ctx, root, dir, out)
	}
	fmt.Fprintf(out, "openapi: documents=%d operations=%d changed=%d spectral_errors=%s\n", len(documents), operations, changed, found)
	if err == nil && check && changed > 0 {
		err = errors.New("run make openapi")
	}
	return err
}

// generate builds the services and has each write its document; then the gateway makes the public one of them.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	bin := filepath.Join(root, ".souk", "openapi")
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*"))
	if err != nil || len(mains) == 0 {
		return nil, fmt.Errorf("there are no services under %s: %w", root, err)
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags=nomsgpack", "-o", bin + string(filepath.Separator)}, mains...)...)
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=", "CGO_ENABLED=0") // as the shop is built, so that the cache serves both
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the services: %w:\n%s", err, bytes.TrimSpace(text))
	}
	documents, files := map[string][]byte{}, []string{}
	for _, path := range mains {
		service := filepath.Base(path)
		if service == "gateway" {
			continue
		}
		if documents[service], err = tell(ctx, bin, service); err != nil {
			return nil, err
		}
		file := filepath.Join(bin, service+".json")
		if err := os.WriteFile(file, documents[service], 0o600); err != nil {
			return nil, err
		}
		files = append(files, service+"="+file)
	}
	documents[public], err = tell(ctx, bin, "gateway", files...)
	return documents, err
}

// tell asks a service's binary for its document.
func tell(ctx context.Context, bin, service string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, service), append([]string{"openapi"}, args...)...)
	cmd.Env = append(os.Environ(), "VERSION="+version)
	var problem strings.Builder
	cmd.Stderr = &problem
	body, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s openapi: %w: %s", service, err, strings.TrimSpace(problem.String()))
	}
	return body, nil
}

func count(document []byte) (int, error) {
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(document, &doc); err != nil {
		return 0, err
	}
	n := 0
	for _, item := range doc.Paths {
		n += len(item)
	}
	return n, nil
}

const notRun = "not_run"

// lint runs Spectral over the documents and gives the number of what it found, which fails it; "not_run" on a machine
// without npm, which does not.
func lint(ctx context.Context, root, dir string, out io.Writer) (found string, err error) {
	bin, err := npm.Install(ctx, root, dir, out)
	if errors.Is(err, npm.ErrNone) {
		fmt.Fprintf(out, "spectral did not run: %v\n", err)
		return notRun, nil
	}
	if err != nil {
		return "unknown", err
	}
	documents, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return "unknown", err
	}
	documents = slices.DeleteFunc(documents, func(path string) bool { return strings.HasPrefix(filepath.Base(path), "package") })
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "spectral"), append([]string{
		"lint", "--quiet", "--format=json", "--ruleset=" + filepath.Join(dir, "spectral.yaml"), "--fail-severity=error",
	}, documents...)...)
	var problem strings.Builder
	cmd.Stderr = &problem
	report, runErr := cmd.Output()
	var findings []struct {
		Code, Message, Source string
		Severity              int
		Path                  []any
	}
	if i := bytes.IndexByte(report, '['); i < 0 || json.NewDecoder(bytes.NewReader(report[i:])).Decode(&findings) != nil {
		return "unknown", fmt.Errorf("spectral: %w: %s", runErr, strings.TrimSpace(problem.String()))
	}
	errorsFound := 0
	for _, f := range findings {
		if f.Severity != 0 {
			continue
		}
		errorsFound++
		fmt.Fprintf(out, "%s: %s: %s at %v\n", filepath.Base(f.Source), f.Code, f.Message, f.Path)
	}
	if errorsFound > 0 || runErr != nil {
		err = fmt.Errorf("spectral found %d errors", errorsFound)
	}
	return strconv.Itoa(errorsFound), err
}
