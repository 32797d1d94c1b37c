package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// awaitTargets waits until Prometheus has every instance of the shop, up.
func (c *check) awaitTargets(ctx context.Context) error {
	want := map[string]bool{}
	for _, in := range c.shop.Instances("") {
		want[in.Name] = true
	}
	err := until(ctx, 60*time.Second, func() error {
		var got struct {
			ActiveTargets []struct {
				Labels            map[string]string
				Health, LastError string
			}
		}
		if err := c.prometheus.ask(ctx, "targets", url.Values{"state": {"active"}}, &got); err != nil {
			return err
		}
		c.targets = 0
		for _, t := range got.ActiveTargets {
			if t.Health != "up" || !want[t.Labels["instance"]] || !strings.HasPrefix(t.Labels["instance"], t.Labels["job"]) {
				return fmt.Errorf("target %s of %s is %s: %s", t.Labels["instance"], t.Labels["job"], t.Health, t.LastError)
			}
			c.targets++
		}
		if c.targets != len(want) {
			return fmt.Errorf("%d of %d targets are up", c.targets, len(want))
		}
		return nil
	})
	if err == nil {
		c.say("%d targets are up", c.targets)
	}
	return err
}

// checkRules sees to it that every rule of the files is loaded and can be evaluated.
func (c *check) checkRules(ctx context.Context) error {
	written, err := c.writtenRules()
	if err != nil {
		return err
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := c.prometheus.ask(ctx, "rules", nil, &loaded); err != nil {
		return err
	}
	for _, g := range loaded.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				c.fail("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
			if i := slices.Index(written, r.Name); i >= 0 {
				written = slices.Delete(written, i, i+1)
				c.rules++
			}
		}
	}
	for _, name := range written {
		c.fail("rule %s is not loaded", name)
	}
	c.say("%d rules are loaded and evaluated", c.rules)
	return nil
}

// writtenRules are the names of all rules in all files that are no tests.
func (c *check) writtenRules() (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(c.files, "*.yml"))
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var file struct {
			Groups []struct {
				Rules []struct{ Alert, Record string }
			}
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				names = append(names, r.Alert+r.Record)
			}
		}
	}
	return names, nil
}

// dashboard is what is read of one.
type dashboard struct {
	Title  string
	Panels []struct {
		Title, Type string
		Datasource  struct{ UID string }
		Targets     []struct {
			Expr    string
			Instant bool
		}
	}
}

// checkPanels asks what every panel asks, over the time since the shop came up.
func (c *check) checkPanels(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(c.files, "grafana", "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		return errors.Join(errors.New("there are no dashboards"), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(d.Panels) == 0 {
			c.fail("dashboard %s has no panels", d.Title)
		}
		for _, p := range d.Panels {
			c.panels++
			if p.Datasource.UID != "prometheus" || len(p.Targets) == 0 {
				c.fail("%s, %s: it asks nobody anything", d.Title, p.Title)
			}
			for _, t := range p.Targets {
				if err := c.hasData(ctx, t.Expr); err != nil {
					c.fail("%s, %s: %v\n         %s", d.Title, p.Title, err, t.Expr)
				}
			}
		}
	}
	c.say("%d panels of %d dashboards were looked at", c.panels, len(files))
	return nil
}

// variables stand for what Grafana fills in.
var variables = strings.NewReplacer("$__rate_interval", "15s", "$job", ".+") //nolint:gochecknoglobals // never changes

// hasData reports why a panel that asks expr would show nothing. Something that is no number, such as a ratio of nothing to
// nothing, is nothing.
func (c *check) hasData(ctx context.Context, expr string) error {
	expr = variables.Replace(expr)
	if strings.Contains(expr, "$") {
		return errors.New("a variable in it is not known")
	}
	var answer struct {
		Result []struct{ Values [][2]any }
	}
	err := c.prometheus.ask(ctx, "query_range", url.Values{
		"query": {expr}, "start": {strconv.FormatInt(c.begin.Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix(), 10)}, "step": {"1"},
	}, &answer)
	if err != nil {
		return err
	}
	for _, series := range answer.Result {
		for _, v := range series.Values {
			if v[1] != "NaN" {
				return nil
			}
		}
	}
	return errors.New("it is empty")
}

// checkExemplars sees to it that a dot on a latency panel leads to a trace.
func (c *check) checkExemplars(ctx context.Context) error {
	for _, metric := range []string{"mesh_server_request_seconds_bucket", "mesh_client_request_seconds_bucket", "twopc_phase_seconds_bucket"} {
		var answer []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		err := c.prometheus.ask(ctx, "query_exemplars", url.Values{
			"query": {metric}, "start": {strconv.FormatInt(c.begin.Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix(), 10)},
		}, &answer)
		if err != nil {
			return err
		}
		known, all := 0, 0
		for _, series := range answer {
			for _, e := range series.Exemplars {
				all++
				if len(c.sink.Trace(e.Labels["trace_id"])) > 0 {
					known++
				}
			}
		}
		if known == 0 {
			c.fail("%s: of %d exemplars none names a trace that was sent", metric, all)
		}
		c.say("%s: %d exemplars, %d of them name one of %d traces", metric, all, known, c.sink.Len())
	}
	return nil
}
