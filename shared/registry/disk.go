package registry

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	// savedFor is how long a copy on disk may be used. What is older is more likely to be wrong than to help.
	savedFor = 24 * time.Hour
	// saveEvery is how often a set that does not change is written again, so that its copy does not grow old.
	saveEvery = time.Hour
)

// saved is a set of instances on disk. It is for one case: a process starts while Consul is away, and has nothing else. The
// mesh finds out by itself which of them are gone.
type saved struct {
	At        time.Time  `json:"at"`
	Instances []Instance `json:"instances"`
}

// path of the copy of a service's instances: <state>/mesh/<service>.json.
func (r *Registry) path(service string) string {
	return filepath.Join(r.stateDir, "mesh", url.PathEscape(service)+".json")
}

// save writes the copy.
func (r *Registry) save(service string, set []Instance) error {
	return write(r.path(service), saved{At: r.now().UTC(), Instances: set})
}

// write puts v into a file that its owner alone may read. Whoever reads meanwhile, or after a crash, has the old one or the
// new one.
func write(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use to anybody
	}
	return err
}

// load reads the copy.
func (r *Registry) load(service string) (saved, error) {
	var s saved
	b, err := os.ReadFile(r.path(service))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, err
	}
	if age := r.now().Sub(s.At); age > savedFor || age < -savedFor || len(s.Instances) == 0 {
		return s, fmt.Errorf("the copy of %s is from %s and has %d instances", r.path(service), s.At, len(s.Instances))
	}
	return s, nil
}

// recall takes the copy on disk for want of an answer, unless there was one meanwhile. It tells whether anything is known.
func (w *watch) recall() bool {
	if w.set.Load() != nil {
		return true
	}
	if w.r.stateDir == "" {
		return false
	}
	s, err := w.r.load(w.service)
	if err != nil {
		w.r.log.Warn("cannot use the copy of a service's instances", "callee", w.service, "error", err)
		return false
	}
	w.recalled.Store(true)
	if w.set.CompareAndSwap(nil, &s.Instances) {
		w.answered.Store(s.At.UnixNano())
		w.r.log.Warn("Consul does not answer, using the copy of a service's instances", "callee", w.service, "instances", len(s.Instances), "from", s.At)
	}
	return true
}

// keep writes the copy if it has changed or is growing old.
func (w *watch) keep(now time.Time, set []Instance, changed bool) {
	if w.r.stateDir == "" || len(set) == 0 || !changed && now.Sub(w.savedAt) < saveEvery {
		return
	}
	w.savedAt = now // whether or not it works: a full disk is not to be tried every second
	if err := w.r.save(w.service, set); err != nil {
		w.r.log.Warn("cannot keep a copy of a service's instances", "callee", w.service, "error", err)
	}
}
