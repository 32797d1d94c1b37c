package app

import (
	"cmp"
	"encoding/json"
	"net/http"
)

// targetGroup is one instance in the form that Prometheus's HTTP service discovery reads.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// targets tells a Prometheus where the metrics of every registered instance are, well or not: one that hangs is worth
// seeing. So Prometheus needs to know one of us, and neither Consul nor its tokens. While Consul is away there is no
// answer, and Prometheus keeps those it had.
func (a *App) targets(w http.ResponseWriter, r *http.Request) {
	survey, err := a.registry.Survey(r.Context(), 0, 0)
	if err != nil {
		http.Error(w, "Consul does not answer", http.StatusServiceUnavailable) // the cause may name hosts
		return
	}
	groups := []targetGroup{}
	for _, in := range survey.Instances {
		if addr := in.Admin(); addr != "" {
			groups = append(groups, targetGroup{
				Targets: []string{addr},
				Labels:  map[string]string{"job": in.Service, "instance": cmp.Or(in.Meta["instance"], in.ID)},
			})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(groups) // the reader has gone: nobody is left to tell
}
