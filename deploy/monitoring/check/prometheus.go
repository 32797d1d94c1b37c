package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"souk/shared/testkit"
)

// prometheus is a running one.
type prometheus struct {
	url string
	cmd *exec.Cmd
	log string
}

// start starts Prometheus on a copy of deploy/monitoring's configuration that asks that admin port for its targets, and in
// which everything happens each second: nobody wants to wait minutes here.
func start(ctx context.Context, bin, files, dir, admin string) (*prometheus, error) {
	text, err := os.ReadFile(filepath.Join(files, "prometheus.yml"))
	if err != nil {
		return nil, err
	}
	changed := string(text)
	for _, change := range [][2]string{
		{"http://gateway:9090/", "http://" + admin + "/"},
		{"refresh_interval: 15s", "refresh_interval: 1s"},
		{"scrape_interval: 15s", "scrape_interval: 1s"},
		{"scrape_timeout: 5s", "scrape_timeout: 1s"},
		{"evaluation_interval: 15s", "evaluation_interval: 1s"},
		{"rule_files: [", "rule_files: [" + files + "/"},
		{", shop.yml", ", " + files + "/shop.yml"},
		{", slo.yml", ", " + files + "/slo.yml"},
	} {
		if strings.Count(changed, change[0]) != 1 {
			return nil, fmt.Errorf("prometheus.yml does not say %q once", change[0])
		}
		changed = strings.Replace(changed, change[0], change[1], 1)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		return nil, err
	}
	port, err := testkit.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p := &prometheus{url: "http://" + addr, log: filepath.Join(dir, "prometheus.log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(bin, "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+addr,
		"--enable-feature=exemplar-storage", "--log.level=warn")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := until(ctx, 30*time.Second, func() error {
		resp, err := get(ctx, p.url+"/-/ready")
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return err
	}); err != nil {
		text, _ := os.ReadFile(p.log)
		return nil, errors.Join(fmt.Errorf("prometheus is not ready: %w\n%s", err, text), p.stop())
	}
	return p, nil
}

func (p *prometheus) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// ask reads data of Prometheus's API into answer.
func (p *prometheus) ask(ctx context.Context, path string, query url.Values, answer any) error {
	resp, err := get(ctx, p.url+"/api/v1/"+path+"?"+query.Encode())
	if err != nil {
		return err
	}
	var envelope struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(resp.body, &envelope); err != nil {
		return fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	if envelope.Status != "success" {
		return fmt.Errorf("%s: %s", path, envelope.Error)
	}
	return json.Unmarshal(envelope.Data, answer)
}

type response struct {
	*http.Response
	body []byte
}

func get(ctx context.Context, address string) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return response{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return response{resp, body}, err
}

// until repeats try until it succeeds or patience is over.
func until(ctx context.Context, patience time.Duration, try func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
