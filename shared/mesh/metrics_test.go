package mesh

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// collected is a Registerer that remembers what was registered.
type collected struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func (c *collected) Register(col prometheus.Collector) error {
	c.all = append(c.all, col)
	return c.Registerer.Register(col)
}

func (c *collected) MustRegister(cols ...prometheus.Collector) {
	c.all = append(c.all, cols...)
	c.Registerer.MustRegister(cols...)
}

// The names and labels of the metrics are a contract with dashboards and alerts: they may be added to.
func TestMetrics_namesAreAContract(t *testing.T) {
	t.Parallel()
	reg := &collected{Registerer: prometheus.NewRegistry()}
	New(Config{Caller: "order"}, Deps{Resolver: &names{}, Metrics: reg})
	var got []string
	parts := regexp.MustCompile(`fqName: "(\w+)".*constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}`)
	for _, c := range reg.all {
		descs := make(chan *prometheus.Desc, 10)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := parts.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			got = append(got, strings.TrimSpace(m[1]+" "+strings.ReplaceAll(m[2], `="order"`, "")+" "+m[3]))
		}
	}
	slices.Sort(got)
	want := []string{
		"mesh_breaker_state caller callee,class",
		"mesh_breaker_transitions_total caller callee,class,from,to",
		"mesh_client_attempt_seconds caller callee,instance",
		"mesh_client_attempts_total caller callee,instance,outcome",
		"mesh_client_hedges_total caller callee,won",
		"mesh_client_inflight caller callee,instance",
		"mesh_client_request_seconds caller callee,route,method",
		"mesh_client_requests_total caller callee,route,method,result",
		"mesh_client_retries_total caller callee,reason",
		"mesh_deadline_exceeded_total  where",
		"mesh_lb_cost caller callee,instance",
		"mesh_lb_panic_total caller callee",
		"mesh_outlier_ejected caller callee,instance",
		"mesh_outlier_ejections_total caller callee,reason",
		"mesh_retry_budget_balance caller callee",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
