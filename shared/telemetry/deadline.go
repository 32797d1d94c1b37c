package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// DeadlineExceeded counts where time was up: for a caller before it had sent anything (unsent), in one try (try) or in the
// whole call (call); at a server before it began (refused) or while it worked (working). Callers and servers share it, so
// it is registered with r once, and the same counter is returned from then on. A nil r keeps it unregistered.
func DeadlineExceeded(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mesh_deadline_exceeded_total", Help: "Times that were up, by where.",
	}, []string{"where"})
	if r == nil {
		return c
	}
	var already prometheus.AlreadyRegisteredError
	if err := r.Register(c); errors.As(err, &already) {
		if same, ok := already.ExistingCollector.(*prometheus.CounterVec); ok {
			return same
		}
	} else if err != nil {
		panic(err)
	}
	return c
}
