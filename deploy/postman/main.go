// Command postman makes the Postman collection, and runs it.
//
// With -write it writes souk.postman_collection.json, made of the OpenAPI document, of the recipes here and of the journeys
// in deploy/http, the environments, and the journeys for JetBrains' HTTP client. Without, it runs that file with newman, in the version that package-lock.json pins,
// against the shop that `make up` started or, if there is none, against one of its own. It closes with
// "postman: requests=… assertions=… failed=…"; a shop that never came up counts as one failure.
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
	"syscall"

	"souk/deploy/journey"
	"souk/deploy/local"
	"souk/deploy/npm"
)

const collectionFile = "souk.postman_collection.json"

func main() {
	write := flag.Bool("write", false, "write the collection instead of running it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	defer stop()
	do := run
	if *write {
		do = writeFiles
	}
	root, err := local.Root()
	if err == nil {
		err = do(ctx, root, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "postman:", err)
		os.Exit(1)
	}
}

// files are what is written, by its path under deploy.
func files(root string) (map[string][]byte, error) {
	doc, err := readDocument(filepath.Join(root, "deploy", "openapi", "souk.json"))
	if err != nil {
		return nil, err
	}
	journeys, err := journey.ReadAll(filepath.Join(root, "deploy", "http"))
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	if made["postman/"+collectionFile], err = build(doc, journeys); err != nil {
		return nil, err
	}
	for name, base := range map[string]string{
		"local":      "http://127.0.0.1:8080",
		"compose":    "http://127.0.0.1:8080",
		"kubernetes": "http://127.0.0.1:8080", // where kubectl port-forward puts it
	} {
		if made["postman/"+name+".postman_environment.json"], err = environment(name, base); err != nil {
			return nil, err
		}
	}
	for _, j := range journeys {
		made["http/intellij/"+j.Name+".http"] = []byte(j.IntelliJ())
	}
	return made, nil
}

// environment is a Postman environment: where the shop is, and who its admin is.
func environment(name, base string) ([]byte, error) {
	type value struct {
		Key     string `json:"key"`
		Value   string `json:"value"`
		Type    string `json:"type"`
		Enabled bool   `json:"enabled"`
	}
	return marshal(struct {
		ID     string  `json:"id"`
		Name   string  `json:"name"`
		Values []value `json:"values"`
		Scope  string  `json:"_postman_variable_scope"`
	}{
		ID: "souk-" + name, Name: "Souk, " + name, Scope: "environment",
		Values: []value{
			{"base", base, "default", true},
			{"admin_email", "admin@souk.example", "default", true},
			{"admin_password", "open-sesame-1001", "secret", true},
		},
	})
}

func writeFiles(_ context.Context, root string, out io.Writer) error {
	made, err := files(root)
	if err != nil {
		return err
	}
	for name, content := range made {
		path := filepath.Join(root, "deploy", name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		fmt.Fprintf(out, "%s is written anew\n", name)
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // it is committed, and everybody's to read
			return err
		}
	}
	return nil
}

func run(ctx context.Context, root string, out io.Writer) error {
	r, err := runIn(ctx, root, out)
	if err != nil && r.Failed == 0 {
		r.Failed = 1
	}
	fmt.Fprintf(out, "postman: requests=%d assertions=%d failed=%d\n", r.Requests, r.Assertions, r.Failed)
	if err == nil && r.Failed > 0 {
		err = errors.New("it failed; see above")
	}
	return err
}

type result struct{ Requests, Assertions, Failed int }

func runIn(ctx context.Context, root string, out io.Writer) (r result, err error) {
	dir := filepath.Join(root, "deploy", "postman")
	bin, err := npm.Install(ctx, root, dir, out)
	if err != nil {
		return r, err
	}
	shop, release, err := local.Borrow(ctx, local.Config{Root: root, Log: out}, "postman")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release(context.WithoutCancel(ctx))) }()

	report := filepath.Join(root, ".souk", "postman.json")
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "newman"), "run", filepath.Join(dir, collectionFile),
		"--environment", filepath.Join(dir, "local.postman_environment.json"), "--env-var", "base="+shop.Gateway,
		"--reporters", "cli,json", "--reporter-json-export", report, "--reporter-cli-no-success-assertions", "--reporter-cli-no-banner",
		"--timeout-request", "15000", "--color", "off")
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	var got struct {
		Run struct {
			Stats struct {
				Requests, Assertions struct{ Total, Failed int }
			}
			Failures []json.RawMessage
		}
	}
	b, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	r = result{got.Run.Stats.Requests.Total, got.Run.Stats.Assertions.Total, len(got.Run.Failures)}
	if err == nil && r.Failed == 0 {
		err = runErr
	}
	return r, err
}
