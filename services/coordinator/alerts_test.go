package coordinator_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/services/coordinator"
	"souk/shared/httpapi"
	"souk/shared/twopc"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
)

const monitoring = "../../deploy/monitoring"

// metricNames is every metric that the coordinator, a participant and their servers have, whether or not it has a value yet.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	registry, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	coordinator.New(coordinator.Deps{Mesh: http.DefaultClient, Now: time.Now, Log: log, Metrics: registry})
	twopc.NewParticipant(twopc.Deps{Mesh: http.DefaultClient, Now: time.Now, Log: log, Metrics: registry}, nil)
	httpapi.New(httpapi.Config{Service: "coordinator", Log: log, Metrics: registry})
	descriptions := make(chan *prometheus.Desc)
	go func() { registry.Describe(descriptions); close(descriptions) }()
	names, name := map[string]bool{}, regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descriptions {
		names[name.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

// metricsOf is the names in a rule's expression that are no strings, matchers, ranges, groupings or functions.
func metricsOf(expr string) []string {
	others := regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)`)
	functions := strings.Fields("sum max min avg count rate increase deriv histogram_quantile min_over_time max_over_time and or unless offset vector")
	words := regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`).FindAllString(others.ReplaceAllString(expr, " "), -1)
	return slices.DeleteFunc(words, func(w string) bool { return slices.Contains(functions, w) })
}

func TestAlerts_nameMetricsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(monitoring, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	exist, rules, named := metricNames(t), 0, 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			if s := r.Labels["severity"]; r.Alert == "" || s != "critical" && s != "warning" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%q lacks a name, a severity, a summary or a description", r.Alert)
			}
			metrics := metricsOf(r.Expr)
			if len(metrics) == 0 {
				t.Errorf("%s names no metric: %s", r.Alert, r.Expr)
			}
			for _, m := range metrics {
				named++
				if !exist[m] && !exist[strings.TrimSuffix(m, "_bucket")] {
					t.Errorf("%s names %s, which nothing has", r.Alert, m)
				}
			}
		}
	}
	if rules < 5 || named < rules {
		t.Errorf("%d rules name %d metrics: not all was read", rules, named)
	}
}

func TestMetrics_areAllDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(monitoring, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	exist := metricNames(t)
	for name := range exist {
		if strings.HasPrefix(name, "twopc_") && !strings.Contains(string(readme), "| `"+name+"` |") {
			t.Errorf("%s is not in %s/README.md", name, monitoring)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(readme), -1) {
		if !exist[row[1]] {
			t.Errorf("README.md describes %s, which nothing has", row[1])
		}
	}
}
