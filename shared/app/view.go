package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"souk/shared/mesh"
	"souk/shared/registry"
)

// writeTime is how long a reader of a stream may take for one event.
const writeTime = 5 * time.Second

// show serves what this process knows of those it calls: /mesh/snapshot once, /mesh/stream every second until the reader
// leaves or the process ends. Nothing is computed while nobody reads.
func (a *admin) show(view func() mesh.Snapshot) {
	ending, end := context.WithCancel(context.Background()) //nolint:forbidigo // ends with the server
	a.server.RegisterOnShutdown(end)                        // which would wait for the streams
	a.mux.HandleFunc("GET /mesh/snapshot", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view()) // the reader has gone: nobody is left to tell
	})
	a.mux.HandleFunc("GET /mesh/stream", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ending, cancel)()
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		for ctx.Err() == nil {
			if err := sendView(w, view()); err != nil {
				return
			}
			// On the second, so that snapshots of different processes are of the same moment and can be added up.
			next := time.NewTimer(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			select {
			case <-next.C:
			case <-ctx.Done():
				next.Stop()
			}
		}
	})
}

func sendView(w http.ResponseWriter, v mesh.Snapshot) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	err = control.SetWriteDeadline(time.Now().Add(writeTime))
	_, writeErr := fmt.Fprintf(w, "data: %s\n\n", b)
	return errors.Join(err, writeErr, control.Flush())
}

// view is the mesh's snapshot with what the mesh does not know.
func (a *App) view() mesh.Snapshot {
	v := a.mesh.Snapshot()
	v.Process = mesh.Process{Service: a.Name, Instance: a.Config.Instance, Version: a.Config.Version, Started: a.started}
	v.Lookups = a.registry.Lookups()
	return v
}

// Registry knows which instances there are, of every service.
func (a *App) Registry() *registry.Registry { return a.registry }
